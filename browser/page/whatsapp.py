"""WhatsApp Web as an object: one browser with one page, for one account.

Every method is bounded in time and raises only exceptions of errors.py: those that its docstring names, and at any step
PageHung, PageCrashed or BrowserLost. "The error of a screen" is its entry in screens.ERRORS.
"""

import asyncio
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from playwright.async_api import BrowserContext, Page

from browser.engine.engine import Engine, Look
from browser.engine.playwright_calls import bounded
from browser.engine.process import kill_browsers_of
from browser.engine.proxy import Proxy
from browser.page.bubbles import Bubble, Tick, read_statuses
from browser.page.census import ESSENTIAL, Census
from browser.page.chats import Chats
from browser.page.compose import ComposeBox
from browser.page.dialogs import close_all
from browser.page.evidence import Evidence, take
from browser.page.history import Finding, History, Reason, Verdict
from browser.page.inbox import Inbox
from browser.page.own_account import OwnAccount, log_out, read_own
from browser.page.pairing import Pairing
from browser.page.reader import Doubts, Patience, Reader
from browser.page.restriction import Kind
from browser.page.screens import LASTING, PASSING, Screen, recognise
from browser.page.selectors import Selectors
from browser.page.submit import Seen, Submission
from errors import NewChatsRestricted, NotOnWhatsApp, PageHung, SendError, UiChanged, UnknownDialog

CLOSE_SECONDS = 10.0
#: a browser whose page does not answer within this is killed instead of closed
ANSWER_SECONDS = 2.0


class WhatsApp:
    """One account's page."""

    def __init__(
        self, context: BrowserContext, reader: Reader, *, directory: Path, url: str, typing_delay_ms: tuple[int, int]
    ) -> None:
        self._context = context
        self._directory = directory
        self._reader = reader
        self._page: Page = reader.page
        self._box = ComposeBox(reader, typing_delay_ms)
        self._history = History(reader)
        self._url = url
        self._chats = Chats(reader, self._chat_address)
        #: incoming messages
        self.inbox = Inbox(reader, self._history, self._chats)
        self._pairing = Pairing(reader)
        #: outgoing messages
        self._submission = Submission(reader, self._box, self._history, self._chats)
        self._census: Census | None = None
        #: set when the page or its browser has ended, by itself or by us
        self.lost = asyncio.Event()
        self._page.on("crash", lambda _: self.lost.set())
        context.on("close", lambda _: self.lost.set())

    @classmethod
    async def open(
        cls,
        engine: Engine,
        directory: Path,
        look: Look,
        url: str,
        *,
        selectors: Selectors,
        typing_delay_ms: tuple[int, int],
        patience: Patience | None = None,
        proxy: Proxy | None = None,
    ) -> Self:
        """Open a prepared profile's browser on the page at `url`. Raise Offline when it cannot be reached."""
        context = await engine.open(directory, look, proxy)
        page = context.pages[0] if context.pages else await bounded(context.new_page(), Patience.answer)
        reader = Reader(page, selectors, patience or Patience())
        whatsapp = cls(context, reader, directory=directory, url=url, typing_delay_ms=typing_delay_ms)
        engine.tell_loss(whatsapp.lost)
        try:
            await whatsapp._box.install()
            await whatsapp._enter(engine.identity)
        except BaseException:
            await whatsapp.close()
            raise
        return whatsapp

    # --- the account -----------------------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """Tell whether the page still exists, as far as is known without asking it."""
        return not self.lost.is_set()

    async def answers(self) -> bool:
        """Tell whether the page answers at all."""
        return await self._reader.answers(self._reader.patience.answer)

    async def _enter(self, identity: dict[str, Any]) -> None:
        session = await bounded(self._context.new_cdp_session(self._page), self._reader.patience.answer)
        await bounded(session.send("Emulation.setUserAgentOverride", identity), self._reader.patience.answer)
        # As in a windowed Chrome, the page may write to the clipboard, which here is private to the browser.
        writing = {"permission": {"name": "clipboard-write"}, "setting": "granted", "origin": self._origin()}
        await bounded(session.send("Browser.setPermission", writing), self._reader.patience.answer)
        seconds = self._reader.patience.navigation
        await bounded(
            self._page.goto(self._address(), wait_until="domcontentloaded", timeout=seconds * 1000), seconds + 1
        )

    def _address(self, path: str = "", **query: str) -> str:
        """Make a URL below the page's own; it sets the language to English, the only one that the selectors know."""
        base = urlsplit(self._url)
        merged = dict(parse_qsl(base.query)) | query | {"locale": "en_US"}
        under = base.path if base.path.endswith("/") else f"{base.path}/"
        return urlunsplit((base.scheme, base.netloc, under + path, urlencode(merged), ""))

    def _origin(self) -> str:
        base = urlsplit(self._url)
        return f"{base.scheme}://{base.netloc}"

    def _chat_address(self, phone: str) -> str:
        return self._address("send", phone=phone, type="phone_number", app_absent="1")

    async def screen(self) -> Screen:
        """Recognise the screen that is shown now."""
        return recognise(await self._reader.sight(), self._reader.selectors)

    async def wait_screen(self, *wanted: Screen, timeout: float) -> Screen:  # noqa: ASYNC109 - bounds polling, not a call
        """Wait until one of the wanted screens shows (or any lasting one, if none is named), at most `timeout` seconds.

        While the page loads, each change of its progress bar or its text starts the timeout anew. Raise PageHung at the
        timeout, UiChanged when the screen stays unknown.
        """
        doubts, moved, before = Doubts(), time.monotonic(), ""
        while True:
            sight = await self._reader.sight()
            screen = recognise(sight, self._reader.selectors)
            if screen in wanted or (not wanted and screen not in PASSING | {Screen.UNKNOWN}):
                return screen
            if doubts.last("unknown", self._reader.patience.unknown, seen=screen is Screen.UNKNOWN):
                raise UiChanged("The page shows a screen that is not known.")
            shown = f"{screen} {sight.progress} {sight.text}"
            if screen in PASSING and shown != before:
                moved, before = time.monotonic(), shown
            if time.monotonic() - moved >= timeout:
                raise PageHung(f"The page has shown {screen} for {timeout:.0f} s.")
            await asyncio.sleep(self._reader.patience.poll)

    async def look_again(self, *, timeout: float) -> Screen:  # noqa: ASYNC109 - as above
        """Wait for a while, reload the page and return its lasting screen, to confirm a screen that would end a login.

        The login screen may flash at a start, and a killed browser leaves an entry that makes the page look open
        elsewhere for a while.
        """
        await asyncio.sleep(self._reader.patience.again)
        seconds = self._reader.patience.navigation
        await bounded(
            self._page.goto(self._address(), wait_until="domcontentloaded", timeout=seconds * 1000), seconds + 1
        )
        return await self.wait_screen(*LASTING, timeout=timeout)

    async def qr(self) -> str | None:
        """Read the QR payload, verbatim; None when none is shown now, or when it is covered by its reload button."""
        if promo := await self._reader.find("qr_promo"):
            await self._reader.click(promo)
        sight = await self._reader.sight()
        return None if sight.overlaid else sight.reference

    async def ask_pairing_code(self, phone: str) -> None:
        """Request a pairing code for this number (digits only), to be typed on its phone instead of scanning.

        This works on the linking screen only. Raise PairingRefused with the page's words, UiChanged, or the error of
        another screen.
        """
        await self._pairing.ask(phone)

    async def pairing_code(self) -> str | None:
        """Read the pairing code that is shown now, as "ABCD-EFGH"; None while there is none.

        WhatsApp replaces it every 3.25 minutes; an expired code is renewed, at most five times. Raise PairingRefused
        after that, or when the page refuses a code.
        """
        return await self._pairing.code()

    async def own(self) -> OwnAccount:
        """Read the number and the name of the page's account."""
        return await read_own(self._reader)

    async def profile_phone(self) -> str | None:
        """Read the account's own number, as digits; None when the page does not have it."""
        return (await self.own()).phone

    async def log_out(self) -> None:
        """Unlink this browser from its account, and wait until the page shows the linking screen.

        Raise PageHung, UiChanged, UnknownDialog, or the error of a screen other than the main one.
        """
        await log_out(self._reader)

    async def restriction(self) -> Kind | None:
        """Read a restriction of the account from the main screen's bars and notices, without opening anything."""
        found = await self._chats.restriction()
        return found.kind if found else None

    async def settle_in(self) -> bool:
        """Make the chat list usable: close the dialogs on it, then check that the essential elements are there.

        Return False if another screen has come in place of the list. Raise UiChanged with the name of a missing
        element, UnknownDialog when a dialog cannot be closed.
        """
        try:
            await close_all(self._reader, self._reader.patience.quiet)
            census = await self.census()
            if _missing(census):
                # It may have been read between two screens.
                await asyncio.sleep(self._reader.patience.poll)
                census = await self.census()
            if missing := _missing(census):
                raise self._reader.lacks(missing)
        except (UiChanged, UnknownDialog):
            if await self.screen() is Screen.MAIN:
                raise
            return False
        census.report(self._census)
        self._census = census
        return True

    async def census(self) -> Census:
        """Find out which alternative of each element is visible now, for the person who maintains the selectors."""
        return Census.of(await self._reader.ask("census"), self._reader.selectors)

    def use(self, selectors: Selectors) -> None:
        """Use other selectors from now on."""
        self._reader.selectors = selectors
        self._census = None

    async def evidence(self) -> Evidence:
        """Take a screenshot and the HTML, without private text, to mend selectors with. Raise nothing."""
        return await take(self._page, self._reader.selectors)

    # --- sending ---------------------------------------------------------------------------------------------------

    async def open_chat(self, phone: str, *, known_only: bool = False, messages: Collection[str] = ()) -> None:
        """Open the chat of a number (digits only), and verify that it is the right one.

        `messages` are ids of messages known to be in it. With `known_only`, a chat that the chat list does not prove
        raises NewChatsRestricted, and the number is not looked up at WhatsApp. Raise NotOnWhatsApp, NewChatsRestricted,
        UnknownDialog, WrongChat, UiChanged, or the error of another screen: Banned, NotLinked, OpenElsewhere, Offline,
        PageCrashed.
        """
        await self._chats.open(phone, known_only=known_only, messages=messages)
        self._submission.phone = phone

    async def open_own_chat(self, *, reload: bool) -> bool:
        """Open the account's chat with itself; return False when the chat list does not have it.

        With `reload`, its deep link is opened in that case. Raise WrongChat, or the error of another screen.
        """
        phone = await self.profile_phone()
        return phone is not None and await self._chats.open_own(phone, reload=reload)

    async def marks(self) -> list[tuple[Tick, str]]:
        """Read the ticks of our messages in the open chat's DOM, each with the page's name of its icon."""
        return [(bubble.tick, bubble.mark) for bubble in await self._reader.bubbles() if bubble.outgoing]

    async def survey(self) -> tuple[dict[str, int], set[str]]:
        """Return which alternative finds each element now, -1 for none, and the names of our unknown ticks."""
        strange = {mark for tick, mark in await self.marks() if tick is Tick.UNKNOWN and mark}
        return (await self.census()).places, strange

    async def write(self, text: str) -> None:
        """Enter a text into the compose box of the open chat as a person would. Raise BoxMismatch or UnknownDialog."""
        await close_all(self._reader)
        await self._box.write(text)
        self._submission.text = text

    async def clear(self) -> None:
        """Empty the compose box. Raise BoxMismatch."""
        await self._box.clear()

    async def arm(self, seconds: float, since: float | None = None) -> str | None:
        """Allow one Enter for `seconds`; return the anchor: the id of the chat's last row, None without one.

        The seconds count from `since`, a reading of time.monotonic(), by default now. An Enter that was not armed,
        comes later, or meets another chat, text or element than the ones checked here never reaches the page. Raise
        WrongChat, BoxMismatch, PageHung, UnknownDialog, or UiChanged with the name of a missing element.
        """
        return await self._submission.arm(seconds, time.monotonic() if since is None else since)

    async def press_enter(self) -> None:
        """Press Enter once, in the compose box or on the send button."""
        await self._submission.press()

    async def held_back(self) -> str:
        """Return why an Enter was blocked since arming: "late", "elsewhere", or "" if none was."""
        return await self._box.held_back()

    async def confirm(self, text: str, anchor: str | None, timeout: float, seen: Seen | None = None) -> Bubble:  # noqa: ASYNC109 - as above
        """Wait until our new message has a tick, and return it; `seen` gets its id when it stays at the clock.

        Raise EnterNotTaken or EnterRefused when nothing was sent; UiChanged when the message or its status cannot be
        read; Refused when the page says that it was not sent; OutcomeUnknown after `timeout` seconds. After any other
        exception the message may have been sent: `look_for` finds out.
        """
        return await self._submission.confirm(text, anchor, timeout, seen)

    async def look_for(
        self, phone: str, text: str, anchor: str | None, *, bubble: str | None = None, others: Collection[str] = ()
    ) -> Finding:
        """Find out what became of a message after a crash. NOT_SENT is a proof, but only for this copy of the profile.

        `bubble` is the message's id, if it was seen, and `others` are ids of other messages in this chat. An older copy
        of the profile lacks what was sent after the copy was made, so the caller compares generations before it trusts
        NOT_SENT. Raise what `open_chat` raises, except that NotOnWhatsApp and NewChatsRestricted give UNKNOWN.
        """
        try:
            await self.open_chat(phone, messages={*others, bubble} if bubble else others)
        except (NotOnWhatsApp, NewChatsRestricted):
            return Finding(Verdict.UNKNOWN, reason=Reason.ANCHOR_LOST)
        found = await self._history.find(text, anchor, bubble, others)
        if found.verdict is Verdict.NOT_SENT and await self.screen() is not Screen.MAIN:
            return Finding(Verdict.UNKNOWN, reason=Reason.ROWS_MISSING)
        if found.verdict is Verdict.UNREADABLE and found.bubble:
            found = await self._submission.told_by_list(phone, found)
        return found

    async def ticks(self, ids: Collection[str]) -> dict[str, Tick]:
        """Read the status of these messages, as far as they are in the open chat's DOM; their texts are not read.

        A message that was not sent is UNKNOWN or FAILED.
        """
        rows = await self._reader.ask("statuses", ids=sorted(ids))
        return read_statuses(rows, self._reader.selectors)

    async def chat_ticks(self) -> dict[str, Tick]:
        """Read the chat list's visible rows: subscriber → status of the last message, if that is ours."""
        return await self._chats.ticks()

    # --- the browser -----------------------------------------------------------------------------------------------

    async def screenshot(self, path: Path) -> None:
        """Save a picture of the page as PNG."""
        await bounded(self._page.screenshot(path=path, caret="initial"), self._reader.patience.answer)

    async def close(self) -> None:
        """Close the browser: gracefully, so that its profile is complete, or by force when it does not answer."""
        if self.alive and await self._reader.answers(min(ANSWER_SECONDS, self._reader.patience.answer)):
            with suppress(SendError):
                await bounded(self._context.close(), CLOSE_SECONDS)
        await kill_browsers_of(self._directory)
        self.lost.set()


def _missing(census: Census) -> str | None:
    return next((name for name in ESSENTIAL if census.places[name] < 0), None)
