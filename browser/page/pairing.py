"""Linking by a code that is typed on the phone, instead of a QR code that the phone scans."""

import re
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from playwright.async_api import Locator

from browser.engine.playwright_calls import bounded
from browser.page.dialogs import close
from browser.page.reader import Reader
from browser.page.screens import ERRORS, Screen, Sight, recognise, says
from browser.page.text_matching import plain
from errors import PageHung, PairingRefused, UiChanged

T = TypeVar("T")

STEP_SECONDS = 30.0
#: how often an expired code is renewed (wa-js 4.6.0 has the same limit)
RENEWALS = 5
KEY_MS = 60  # between the number's digits
CODE = re.compile(r"[0-9A-Z]{8}")


class Pairing:
    """Goes through the linking screen of one page, from the QR code to the pairing code.

    Requesting a code in an account that was already linked has unlinked it, so each click is preceded by a check that
    the page shows the linking screen.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._renewals = 0

    async def ask(self, phone: str) -> None:
        """Enter the number and go on to the code; a page that is already past its QR code is reloaded first."""
        self._renewals = 0
        await self._look(Screen.QR)
        if await self._reader.find("pairing_cells") or await self._reader.find("pairing_input"):
            seconds = self._reader.patience.navigation
            await bounded(self._reader.page.reload(wait_until="domcontentloaded", timeout=seconds * 1000), seconds + 1)
        await self._type(await self._form(), phone)
        await self._click(await self._until("pairing_next", lambda _: self._worded("pairing_next")))
        await self._until("pairing_cells", lambda _: self._reader.find("pairing_cells"))

    async def code(self) -> str | None:
        """Read the code, and renew an expired one; None without a code, and on any other screen."""
        sight = await self._sight()
        if recognise(sight, self._reader.selectors) is not Screen.QR:
            return None
        if says(self._reader.selectors, "pairing_renew", sight.text):
            await self._renew()
            return None
        cells = await self._reader.find("pairing_cells")
        if cells is None:
            return None
        text = await bounded(cells.text_content(timeout=self._milliseconds), self._reader.patience.answer)
        found = CODE.fullmatch(re.sub(r"[\s-]", "", text or "").upper())
        return f"{found[0][:4]}-{found[0][4:]}" if found else None

    async def _renew(self) -> None:
        if self._renewals >= RENEWALS:
            raise PairingRefused(f"Nobody typed the pairing code on the phone; it was renewed {RENEWALS} times.")
        if button := await self._worded("pairing_renew"):
            self._renewals += 1
            await self._click(button)

    async def _form(self) -> Locator:
        """Go from the QR code to the box for the number. The page ignores clicks until the code is drawn."""
        clicked = -self._reader.patience.doubt

        async def opened(sight: Sight) -> Locator | None:
            nonlocal clicked
            if promo := await self._reader.find("qr_promo"):
                await self._click(promo)
            link = await self._reader.find("pairing_link") or await self._worded("pairing_link")
            if sight.reference and link and time.monotonic() - clicked > self._reader.patience.doubt:
                clicked = time.monotonic()
                await self._click(link)
            return await self._reader.find("pairing_input")

        return await self._until("pairing_input", opened)

    async def _type(self, box: Locator, phone: str) -> None:
        """Type the number. The box holds a country code: if that fits, only the rest is typed, else all is replaced."""
        await self._click(box)
        if (kept := await self._held(box)) and phone.startswith(kept):
            await self._press("End", phone.removeprefix(kept))
        else:
            await self._press("ControlOrMeta+a", f"+{phone}")
        if (held := await self._held(box)) != phone:
            raise UiChanged(f"The box for the phone number holds {held} where {phone} was typed.")

    async def _held(self, box: Locator) -> str:
        value = await bounded(box.input_value(timeout=self._milliseconds), self._reader.patience.answer)
        return re.sub(r"\D", "", value)

    async def _press(self, key: str, text: str) -> None:
        keyboard, patience = self._reader.page.keyboard, self._reader.patience
        await bounded(keyboard.press(key), patience.answer)
        await bounded(keyboard.type(text, delay=KEY_MS), patience.answer)

    async def _click(self, target: Locator) -> None:
        await self._look(Screen.QR)
        await self._reader.click(target)

    async def _worded(self, meaning: str) -> Locator | None:
        """Locate a visible control by its complete text."""
        words = "|".join(re.escape(text) for text in self._reader.selectors.texts[meaning])
        named = self._reader.page.get_by_text(re.compile(rf"^\s*(?:{words})\s*$", re.IGNORECASE)).filter(visible=True)
        return named.first if await bounded(named.count(), self._reader.patience.answer) else None

    async def _until(self, what: str, ready: Callable[[Sight], Awaitable[T | None]]) -> T:
        """Wait until `ready` returns something. Raise UiChanged with the name `what`, or what `_look` raises."""
        async for _ in self._reader.looks(STEP_SECONDS):
            sight = await self._look(Screen.QR, Screen.LOADING)
            if found := await ready(sight):
                return found
        raise UiChanged(
            f"The linking screen has no {what} where one is expected (selectors {self._reader.selectors.version})."
        )

    async def _look(self, *wanted: Screen) -> Sight:
        """Look at the page; it must show a wanted screen. Raise the error of any other, PageHung for the main one."""
        sight = await self._sight()
        screen = recognise(sight, self._reader.selectors)
        if screen not in wanted:
            raise ERRORS.get(screen, PageHung)(f"The page shows {screen} instead of the linking screen.")
        return sight

    async def _sight(self) -> Sight:
        """Look at the page. Raise PairingRefused with the page's words when it refuses a code."""
        read = await self._reader.ask("sight")
        sight = Sight.of(read)
        if recognise(sight, self._reader.selectors) in {Screen.QR, Screen.UNKNOWN} and (words := self._refusal(read)):
            for dialog in sight.dialogs:
                await close(self._reader, dialog)
            raise PairingRefused(words)
        return sight

    def _refusal(self, read: dict[str, Any]) -> str:
        """Return the page's sentences that refuse a code, verbatim."""
        lines = "\n".join((read["text"], *(dialog["text"] for dialog in read["dialogs"]))).splitlines()
        refusals = (line.strip() for line in lines if says(self._reader.selectors, "pairing_refused", plain(line)))
        return " ".join(dict.fromkeys(refusals))

    @property
    def _milliseconds(self) -> float:
        return self._reader.patience.answer * 1000
