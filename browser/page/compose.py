"""The compose box: typing like a person, reading back, and the one Enter that the Enter guard allows."""

import asyncio
import random
import re
import time
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

from playwright.async_api import ElementHandle

from browser.engine.playwright_calls import bounded
from browser.page.dialogs import close_all
from browser.page.reader import Reader, secret_name
from browser.page.text_matching import EMOJI, same_box
from errors import BoxMismatch, PageHung
from texts import even_breaks

ENTER_GUARD = files("browser.page").joinpath("enter.js").read_text("utf-8")

#: Characters that are typed one by one; the rest of a long text is pasted in pieces. At 100 ms a character, a message
#: of 370 characters took longer than an action may.
MAX_TYPED = 200
PASTED_AT_ONCE = 4096
#: Text that the page rewrites when it is typed, but not when it is pasted: a mark that begins a list or a quote; a word
#: that begins with ":" or "@", which opens suggestions; an emoticon.
REWRITTEN = re.compile(
    r"""(?<![^\n])[^\S\n]*(?:[-*>•]|\d+\.)[^\S\n]
    |(?<!\S)(?:[@:]\w|<3|[:;=<>(8BxX][-']?[^\s\w]|[:;=xX][-']?[DPpOo3])""",
    re.VERBOSE,
)
#: characters that are one key of a US keyboard; any other is inserted, as an input method does
KEYS = re.compile(r"[ -~]")
#: a grapheme cluster: a base character with its joiners, variation selectors, skin tones, marks; flags, keycaps
CLUSTER = re.compile(
    "[\U0001f1e6-\U0001f1ff]{2}"
    "|.[\u0300-\u036f\u0591-\u05bd\u064b-\u065f\u20e3\ufe00-\ufe0f\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]*"
    "(?:\u200d.[\ufe00-\ufe0f\U0001f3fb-\U0001f3ff]*)*",
    re.DOTALL,
)


class ComposeBox:
    """The compose box of the open chat."""

    def __init__(self, reader: Reader, typing_delay_ms: tuple[int, int]) -> None:
        self._reader = reader
        self._keyboard = reader.page.keyboard
        self._delays = typing_delay_ms
        self._name = secret_name()
        #: the page does not name the emoji in its box: a text is compared without them, and pasted if it has any
        self._unnamed = False

    async def install(self) -> None:
        """Install the Enter guard in every document of the page, before the page's own scripts."""
        page, patience = self._reader.page, self._reader.patience
        await bounded(page.add_init_script(f"({ENTER_GUARD})({self._name!r})"), patience.answer)

    async def write(self, text: str) -> None:
        """Replace the content of the box by `text`, and read it back. Raise BoxMismatch.

        A text that came out wrong is entered once more, all of it pasted: the page may have rewritten what was typed,
        or a dialog may have caught the keys. If only emoji are missing even then, the page does not name them: one that
        was lost looks the same, but no part is lost of a text that is pasted.
        """
        text = even_breaks(text).strip()
        for typed in (0,) if self._unnamed and EMOJI.search(text) else (safely_typed(text), 0):
            await self.clear()
            await self._enter(text, typed)
            if await self._comes_to_hold(text):
                return
        self._unnamed = True
        if self.holds(await self._reader.ask("chat"), text):
            return
        self._unnamed = False
        await self.clear()
        raise BoxMismatch

    async def clear(self) -> None:
        """Empty the box, which may hold a draft. Raise BoxMismatch when something stays."""
        try:
            await self._reader.click(await self._reader.need("compose"))
        except PageHung:
            # A dialog that has just appeared intercepts the click.
            await close_all(self._reader)
            await self._reader.click(await self._reader.need("compose"))
        if await self.is_empty():
            return
        await self._press("ControlOrMeta+a")
        await self._press("Backspace")
        async for _ in self._reader.looks(self._reader.patience.doubt):
            if await self.is_empty():
                return
        raise BoxMismatch("The compose box could not be emptied.")

    async def is_empty(self) -> bool:
        """Tell whether the box holds nothing; after Enter that means that the page has taken the message."""
        held = await self._reader.ask("chat")
        return bool(held["box"]) and is_blank(held)

    async def _comes_to_hold(self, text: str) -> bool:
        """Tell whether the box holds this text; it may take a moment to show the last key."""
        async for _ in self._reader.looks(self._reader.patience.typed):
            if self.holds(await self._reader.ask("chat"), text):
                return True
        return False

    def holds(self, held: dict[str, Any], text: str) -> bool:
        """Tell whether the box held this text when the chat was read."""
        if EMOJI.search(held["text"]) and not held["holes"]:
            self._unnamed = False
        return bool(held["box"]) and not is_blank(held) and same_box(text, held["text"], unnamed=self._unnamed)

    async def _enter(self, text: str, typed: int) -> None:
        """Type the first `typed` characters and paste the rest; line breaks by Shift+Enter, since Enter sends."""
        clusters = CLUSTER.findall(text)
        for stroke in clusters[:typed]:
            if stroke == "\n":
                await self._press("Shift+Enter")
            elif KEYS.fullmatch(stroke):
                await bounded(self._keyboard.type(stroke), self._reader.patience.answer)
            else:
                await bounded(self._keyboard.insert_text(stroke), self._reader.patience.answer)
            await self._pause()
        for piece in pieces(clusters[typed:]):
            await self._paste(piece)
            await self._pause()

    async def _pause(self) -> None:
        await asyncio.sleep(random.uniform(*self._delays) / 1000)  # noqa: S311 - no secret: a person types unevenly

    async def _paste(self, text: str) -> None:
        """Paste from the clipboard, which is private to this browser and emptied afterwards."""
        page, patience = self._reader.page, self._reader.patience
        await bounded(page.evaluate("(text) => navigator.clipboard.writeText(text)", text), patience.answer)
        try:
            await self._press("ControlOrMeta+v")
        finally:
            await bounded(page.evaluate("() => navigator.clipboard.writeText('')"), patience.answer)

    async def _press(self, keys: str) -> None:
        await bounded(self._keyboard.press(keys), self._reader.patience.answer)

    async def arm(self, seconds: float, since: float, *, through: str) -> None:
        """Allow one Enter on the element `through` until `seconds` after `since`, by the monotonic clock.

        The page's clock is read before our own, so a worker that freezes in between shortens the time and never
        lengthens it.
        """
        page, patience = self._reader.page, self._reader.patience
        now = await bounded(page.evaluate(f"{self._name}.now()"), patience.answer)
        left = (seconds - (time.monotonic() - since)) * 1000
        deadline = {"steady": now["steady"] + left, "wall": now["wall"] + left}
        box, target = await self._handle("compose"), await self._handle(through)
        await bounded(page.evaluate(f"(armed) => {self._name}.arm(armed)", [deadline, box, target]), patience.answer)

    async def disarm(self) -> None:
        """Allow no Enter any more."""
        await bounded(self._reader.page.evaluate(f"{self._name}.disarm()"), self._reader.patience.answer)

    async def _handle(self, element: str) -> ElementHandle:
        found = await self._reader.need(element)
        patience = self._reader.patience
        return await bounded(found.element_handle(timeout=patience.answer * 1000), patience.answer + 1)

    async def focus(self, element: str) -> None:
        """Give the focus to an element: the box, or the send button."""
        found = await self._reader.need(element)
        await bounded(found.focus(), self._reader.patience.answer)

    async def press_enter(self, element: str) -> None:
        """Press Enter once, on the box or on the send button."""
        await self.focus(element)
        await self._press("Enter")

    async def escape(self) -> None:
        """Press Escape, which closes suggestions."""
        await self._press("Escape")

    async def held_back(self) -> str:
        """Return why an Enter was blocked since the guard was armed: "late", "elsewhere", or "" if none was."""
        return str(await bounded(self._reader.page.evaluate(f"{self._name}.held()"), self._reader.patience.answer))


def is_blank(held: dict[str, Any]) -> bool:
    """Tell whether the box was empty when the chat was read."""
    return not held["text"].strip() and not held["holes"]


def safely_typed(text: str) -> int:
    """Return how many characters of a text can be typed: MAX_TYPED, or up to the first that the page would rewrite."""
    found = REWRITTEN.search(text)
    return min(MAX_TYPED, len(CLUSTER.findall(text[: found.start()])) if found else MAX_TYPED)


def pieces(clusters: list[str]) -> Iterator[str]:
    """Join grapheme clusters to pieces that are pasted at once; no cluster is split."""
    for start in range(0, len(clusters), PASTED_AT_ONCE):
        yield "".join(clusters[start : start + PASTED_AT_ONCE])
