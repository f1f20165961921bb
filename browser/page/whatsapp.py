"""WhatsApp Web, driven: one browser with one page, for one account.

Every method is bounded in time and raises only what errors.py has: PageHung, PageCrashed and BrowserLost at any step,
and what its docstring says.
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
from browser.engine.process import kill_browsers_of
from browser.engine.proxy import Proxy
from browser.engine.seam import bounded
from browser.page.bubbles import Bubble, Tick
from browser.page.census import BOOT, Census
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
from errors import NewChatsRestricted, NotOnWhatsApp, PageHung, SendError, UiChanged

CLOSE_SECONDS = 10.0
#: a page that does not answer within this is not asked to close
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
        #: what comes in
        self.inbox = Inbox(reader, self._history, self._chats)
        self._pairing = Pairing(reader)
        #: how a message leaves
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
        """Tell whether the page still stands, as far as is known without asking it."""
        return not self.lost.is_set()

    async def answers(self) -> bool:
        """Tell whether the page answers at all."""
        return await self._reader.answers(self._reader.patience.answer)

    async def _enter(self, identity: dict[str, Any]) -> None:
        session = await bounded(self._context.new_cdp_session(self._page), self._reader.patience.answer)
        await bounded(session.send("Emulation.setUserAgentOverride", identity), self._reader.patience.answer)
        # As in a Chrome with a window: the page may write to the clipboard, which is this browser's own.
        writing = {"permission": {"name": "clipboard-write"}, "setting": "granted", "origin": self._origin()}
        await bounded(session.send("Browser.setPermission", writing), self._reader.patience.answer)
        seconds = self._reader.patience.navigation
        await bounded(
            self._page.goto(self._address(), wait_until="domcontentloaded", timeout=seconds * 1000), seconds + 1
        )

    def _address(self, path: str = "", **query: str) -> str:
        """Make an address under the page's own, in English: a language the page does not force is one more to know."""
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
        """Name what is shown now."""
        return recognise(await self._reader.sight(), self._reader.selectors)

    async def wait_screen(self, *wanted: Screen, timeout: float) -> Screen:  # noqa: ASYNC109 - bounds looks, not a call
        """Wait until one of the wanted screens shows, for at most `timeout` seconds; any lasting one where none is.

        A page that loads is waited for as long as it gets on: its bar of progress or its words change within `timeout`.
        Raise PageHung when the time is over, UiChanged when nobody knows the screen for long.
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
        """Doubt what the page shows: wait for a while, load it anew, and return the screen that lasts then.

        A flash of the login screen at a start, and an entry that a killed browser left behind, pass like that.
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
        """Ask for a code to be typed on the phone of this number, digits only, instead of scanning.

        Only on the linking screen. Raise PairingRefused with the page's words, UiChanged, or what another screen than
        that stands for.
        """
        await self._pairing.ask(phone)

    async def pairing_code(self) -> str | None:
        """Read the pairing code that is shown now, as "ABCD-EFGH"; None while there is none.

        WhatsApp puts another in its place every 3.25 minutes; one that has expired is asked for anew, five times.
        Raise PairingRefused after that, or when the page refuses one.
        """
        return await self._pairing.code()

    async def own(self) -> OwnAccount:
        """Read whose account the page is."""
        return await read_own(self._reader)

    async def profile_phone(self) -> str | None:
        """Read the account's own number, as digits; None when the page does not tell."""
        return (await self.own()).phone

    async def log_out(self) -> None:
        """Unlink this browser from its account; done when the page waits for a phone again.

        Raise PageHung, UiChanged, UnknownDialog, or what another screen than the main one stands for.
        """
        await log_out(self._reader)

    async def restriction(self) -> Kind | None:
        """Tell what the main screen's bars and notices keep the account from, without opening anything."""
        found = await self._chats.restriction()
        return found.kind if found else None

    async def settle_in(self) -> None:
        """Make the chat list usable: close what lies on it, then check that the elements needed first are there.

        Raise UiChanged with the name of a missing one, UnknownDialog when something cannot be closed.
        """
        await close_all(self._reader, self._reader.patience.quiet)
        census = await self.census()
        for element in BOOT:
            if census.places[element] < 0:
                raise self._reader.lacks(element)
        census.report(self._census)
        self._census = census

    async def census(self) -> Census:
        """Tell of each element which alternative is visible now, for a person who looks after the selectors."""
        return Census.of(await self._reader.ask("census"), self._reader.selectors)

    def use(self, selectors: Selectors) -> None:
        """Read the page by other selectors from now on."""
        self._reader.selectors = selectors
        self._census = None

    async def evidence(self) -> Evidence:
        """Take a picture and the HTML for a person who mends selectors, without what people wrote. Raise nothing."""
        return await take(self._page, self._reader.selectors)

    # --- sending ---------------------------------------------------------------------------------------------------

    async def open_chat(self, phone: str, *, known_only: bool = False, messages: Collection[str] = ()) -> None:
        """Open the chat of a number, digits only, and make sure that it is that one; `messages` are ids of some in it.

        With `known_only` one that is not proved in the chat list is NewChatsRestricted, and WhatsApp is not asked.
        Raise NotOnWhatsApp, NewChatsRestricted, UnknownDialog, WrongChat, UiChanged, or what another screen stands for:
        Banned, NotLinked, OpenElsewhere, Offline, PageCrashed.
        """
        await self._chats.open(phone, known_only=known_only, messages=messages)
        self._submission.phone = phone

    async def open_own_chat(self, *, reload: bool) -> bool:
        """Open the account's chat with itself; False when it is not in the chat list, and nothing tells where else.

        With `reload` the page's own address for it is taken then. Raise WrongChat, or what another screen stands for.
        """
        phone = await self.profile_phone()
        return phone is not None and await self._chats.open_own(phone, reload=reload)

    async def marks(self) -> list[tuple[Tick, str]]:
        """Read the ticks of our messages in the open chat's DOM, each with what the page calls its icon."""
        return [(bubble.tick, bubble.mark) for bubble in await self._reader.bubbles() if bubble.outgoing]

    async def survey(self) -> tuple[dict[str, int], set[str]]:
        """Tell by which alternative each element is found now, -1 for none, and which ticks of ours are not known."""
        strange = {mark for tick, mark in await self.marks() if tick is Tick.UNKNOWN and mark}
        return (await self.census()).places, strange

    async def write(self, text: str) -> None:
        """Put a text into the compose box of the open chat as a person would. Raise BoxMismatch or UnknownDialog."""
        await close_all(self._reader)
        await self._box.write(text)
        self._submission.text = text

    async def clear(self) -> None:
        """Empty the compose box. Raise BoxMismatch."""
        await self._box.clear()

    async def arm(self, seconds: float, since: float | None = None) -> str | None:
        """Let one Enter through for `seconds`; return the anchor: the id of the chat's last row, None without one.

        The seconds count from `since`, a reading of time.monotonic() and else now. An Enter that is not armed for, or
        comes later, or meets another chat, text or element than these, never reaches the page. Raise WrongChat,
        BoxMismatch, PageHung, UnknownDialog, or UiChanged with the name of an element that is missing.
        """
        return await self._submission.arm(seconds, time.monotonic() if since is None else since)

    async def press_enter(self) -> None:
        """Press Enter in the compose box, or on the button that sends, once."""
        await self._submission.press()

    async def held_back(self) -> str:
        """Tell why Enter was held back since it was armed for: "late", "elsewhere", or "" where it was not."""
        return await self._box.held_back()

    async def confirm(self, text: str, anchor: str | None, timeout: float, seen: Seen | None = None) -> Bubble:  # noqa: ASYNC109 - as above
        """Wait for our new message to leave the clock, and return it; `seen` is told its id when it stays at the clock.

        Raise EnterNotTaken or EnterRefused where nothing has left; UiChanged where it cannot be read; Refused where
        the page says that it was not sent; OutcomeUnknown after `timeout` seconds. Whatever else is raised, it may have
        left: only `look_for` tells.
        """
        return await self._submission.confirm(text, anchor, timeout, seen)

    async def look_for(
        self, phone: str, text: str, anchor: str | None, *, bubble: str | None = None, others: Collection[str] = ()
    ) -> Finding:
        """Find out what became of a message after a crash. NOT_SENT is a proof, as far as this profile goes.

        `bubble` is its id, where it was seen, and `others` are those of other messages in this chat. An older copy of
        the profile lacks what was sent after it was made, so the caller compares generations before it believes
        NOT_SENT. Raise what `open_chat` raises, save for what the recipient's side refuses: UNKNOWN.
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
        """Read the status of these messages, as far as they are in the open chat's DOM."""
        return {bubble.id: bubble.tick for bubble in await self._reader.bubbles() if bubble.id in ids}

    async def chat_ticks(self) -> dict[str, Tick]:
        """Read the chat list in view: subscriber → status of the last message, where that is ours."""
        return await self._chats.ticks()

    # --- the browser -----------------------------------------------------------------------------------------------

    async def screenshot(self, path: Path) -> None:
        """Save a picture of the page as PNG."""
        await bounded(self._page.screenshot(path=path, caret="initial"), self._reader.patience.answer)

    async def close(self) -> None:
        """Close the browser: gracefully, so that its profile is whole, and by force when it does not answer."""
        if self.alive and await self._reader.answers(min(ANSWER_SECONDS, self._reader.patience.answer)):
            with suppress(SendError):
                await bounded(self._context.close(), CLOSE_SECONDS)
        await kill_browsers_of(self._directory)
        self.lost.set()
