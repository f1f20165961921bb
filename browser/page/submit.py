"""Submitting a message: check everything in one read, press Enter once, and find the message by its id."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from browser.page.bubbles import Bubble, Side, Tick
from browser.page.census import SPARE, Census
from browser.page.chats import Chats
from browser.page.compose import ComposeBox, is_blank
from browser.page.dialogs import close_all
from browser.page.history import Finding, History, Reason, Verdict, begins
from browser.page.reader import Reader
from browser.page.screens import ERRORS, Screen, recognise
from errors import BoxMismatch, EnterNotTaken, EnterRefused, OutcomeUnknown, PageHung, Refused, UiChanged, WrongChat

#: the screens that end the wait for a message's tick
FINAL_SCREENS = frozenset({Screen.CRASHED, Screen.BANNED, Screen.QR, Screen.CONFLICT, Screen.UNSUPPORTED})
SEEN_SECONDS = 2.0  # without a tick, before the message's id is reported
FASTER = 4  # times: polling in the first second, in which most messages get their tick

#: callback for the id of a message that has no tick yet
Seen = Callable[[str], Awaitable[None]]


class Submission:
    """The message in hand on one page."""

    def __init__(self, reader: Reader, box: ComposeBox, history: History, chats: Chats) -> None:
        self._reader, self._box, self._history, self._chats = reader, box, history, chats
        #: the number whose chat was opened last, and the text that was entered there
        self.phone = ""
        self.text = ""
        self._before: frozenset[str] = frozenset()
        #: the element that gets Enter: the box, or the send button after the box has ignored Enter
        self._through = "compose"
        #: the page ignored the last Enter
        self._refused = False

    # --- before Enter ------------------------------------------------------------------------------------------------

    async def arm(self, seconds: float, since: float) -> str | None:
        """Check everything that matters, allow one Enter, and return the anchor."""
        anchor, self._before = await self._ready()
        await self._box.arm(seconds, since, through=self._through)
        return anchor

    async def _ready(self) -> tuple[str | None, frozenset[str]]:
        """Wait until one read passes all checks; return the last row's id, None without one, and all ids."""
        fault: Exception = PageHung("The chat was not ready for Enter.")
        async for _ in self._reader.looks(self._reader.patience.answer):
            await self._history.end()
            await self._close_overlays()
            await self._box.focus("compose")
            look = await self._reader.ask("ready")
            found = self._fault(look)
            if found is None:
                ids = [row["id"] for row in look["rows"]]
                return (ids[-1] if ids else None), frozenset(ids)
            fault = found
            if isinstance(found, BoxMismatch | WrongChat):
                break
        raise fault

    async def _close_overlays(self) -> None:
        """Close dialogs, suggestions and previews, which would get Enter."""
        await close_all(self._reader)
        if await self._reader.find("suggestions"):
            await self._box.focus("compose")
            await self._box.escape()
        if close := await self._reader.find("preview_close"):
            await self._reader.click(close)

    def _fault(self, look: dict[str, Any]) -> Exception | None:
        """Return the first check that this read fails, as an exception; None if Enter may be pressed."""
        asked: tuple[tuple[bool, Exception], ...] = (
            (
                self._chats.is_of(look["chat"], self.phone),
                WrongChat("Another chat is open than the one that was opened."),
            ),
            (
                self._box.holds(look["chat"], self.text),
                BoxMismatch("The compose box no longer holds what was written."),
            ),
            (self._box_gets_enter(look), PageHung("Something else than the compose box would get Enter.")),
            (look["panel"], self._reader.lacks("panel")),
            # Parts of messages outside any row: the element that carries ids has changed, and ours would not be found.
            (not look["loose"], self._reader.lacks("bubble")),
            (bool(look["rows"]) or begins(look["top"], self._reader.selectors), PageHung("The messages did not load.")),
        )
        return next((fault for fine, fault in asked if not fine), None)

    @staticmethod
    def _box_gets_enter(look: dict[str, Any]) -> bool:
        return bool(look["focused"]) and not look["dialogs"] and not look["suggestions"]

    async def press(self) -> None:
        """Press Enter once."""
        await self._box.press_enter(self._through)

    # --- after Enter -------------------------------------------------------------------------------------------------

    async def confirm(self, text: str, anchor: str | None, timeout: float, seen: Seen | None) -> Bubble:  # noqa: ASYNC109 - bounds looks
        """Follow the message until it has a tick: see WhatsApp.confirm."""
        watch = Watch(text, anchor, self._before)
        began = time.monotonic()
        taken: float | None = None
        screen = Screen.MAIN
        while (now := time.monotonic()) - began < timeout:
            ours = watch.look(await self._reader.bubbles())
            if ours and ours.tick >= Tick.SENT:
                self._refused = False
                self._chats.owner.remember_ours(self.phone, ours.id)
                return ours
            if ours and ours.tick is Tick.FAILED:
                raise Refused(f"WhatsApp Web says of the message: {ours.failure or 'it was not sent'}", bubble=ours.id)
            if taken is None and (ours or await self._is_taken(now - began)):
                taken, self._refused = now, False
            overdue = taken is not None and now - taken > self._reader.patience.status
            if ours and seen and (overdue or now - began > SEEN_SECONDS):
                await seen(ours.id)
                seen = None
            if overdue and (not ours or ours.tick is Tick.UNKNOWN) and (found := await self._unreadable(ours, watch)):
                return found
            screen = recognise(await self._reader.sight(), self._reader.selectors)
            if screen in FINAL_SCREENS:
                raise ERRORS[screen]
            await asyncio.sleep(self._reader.patience.poll / (FASTER if now - began < 1 else 1))
        if screen is Screen.OFFLINE:
            # The page sends it once the network is back.
            raise ERRORS[screen]
        raise watch.unknown(timeout)

    async def _is_taken(self, seconds: float) -> bool:
        """Tell whether the box is empty. Raise EnterNotTaken, or EnterRefused, if it stays full and nothing is new."""
        chat = await self._reader.ask("chat")
        if chat["box"] and is_blank(chat):
            return True
        if seconds <= self._reader.patience.taken or not chat["box"]:
            return False
        await self._box.disarm()
        if await self._may_have_left():
            return False
        await asyncio.sleep(self._reader.patience.settle)
        if await self._may_have_left():
            return False
        if self._refused:
            raise EnterRefused
        self._refused, self._through = True, "send"
        raise EnterNotTaken

    async def _may_have_left(self) -> bool:
        """Tell whether the box is gone or empty, or a new row may be ours."""
        chat, rows = await self._reader.ask("chat"), await self._history.end()
        new = [row for row in rows if row.id not in self._before]
        return not chat["box"] or is_blank(chat) or any(row.side is not Side.THEIRS for row in new)

    async def _unreadable(self, ours: Bubble | None, watch: "Watch") -> Bubble | None:
        """Return the message if the chat list shows its status; else raise UiChanged if the page has changed."""
        if ours:
            finding = await self.told_by_list(self.phone, Finding(Verdict.UNREADABLE, ours, Reason.UNREADABLE))
            if finding.verdict is Verdict.SENT:
                return finding.bubble
            name = f" It calls it {ours.mark!r}." if ours.mark else ""
            raise UiChanged(
                f"The page has no meta that tells the status of our message.{name} "
                f"(selectors {self._reader.selectors.version})",
                element="meta",
            )
        census = Census.of(await self._reader.ask("census"), self._reader.selectors)
        for missing in census.missing(Screen.MAIN):
            if missing not in SPARE:
                raise self._reader.lacks(missing)
        if any(not row.written for row in watch.new):
            raise self._reader.lacks("text")
        return None

    async def told_by_list(self, phone: str, found: Finding) -> Finding:
        """Read a message's status from the chat list, if it is the chat's last: its bubble shows none that is known."""
        last = await self._reader.bubbles()
        if found.bubble and last and last[-1].id == found.bubble.id:
            tick = await self._chats.listed_tick(phone)
            if tick >= Tick.SENT:
                return Finding(Verdict.SENT, replace(found.bubble, tick=tick))
        return found


class Watch:
    """Our messages that have appeared in a chat since Enter."""

    def __init__(self, text: str, anchor: str | None, before: frozenset[str]) -> None:
        self._text, self._anchor, self._before = text, anchor, before
        #: id → the tick that a row was first seen with
        self._first: dict[str, Tick] = {}
        #: our new rows
        self.new: list[Bubble] = []
        self._ours: Bubble | None = None
        #: id of the message, once it was seen
        self._seen: str | None = None
        self._anchored = True

    def look(self, rows: list[Bubble]) -> Bubble | None:
        """Take the rows that the chat shows now; return the message if it is among them.

        It is our new row with its text, else the only new row that was first seen at the clock: a message that is
        written on the phone arrives with its tick.
        """
        ids = [row.id for row in rows]
        self._anchored = self._anchor is None or self._anchor in ids
        start = ids.index(self._anchor) + 1 if self._anchor in ids else 0
        self.new = [row for row in rows[start:] if row.outgoing and row.id not in self._before]
        for row in self.new:
            self._first.setdefault(row.id, row.tick)
        clocked = [row for row in self.new if self._first[row.id] is Tick.PENDING]
        same = [row for row in self.new if row.says(self._text)]
        chosen = [row for row in same if row in clocked] or same or clocked
        self._ours = chosen[0] if len(chosen) == 1 or same else None
        self._seen = self._ours.id if self._ours else self._seen
        return self._ours

    def unknown(self, seconds: float) -> OutcomeUnknown:
        """Make the exception that says why the outcome is unknown."""
        if self._ours and self._ours.tick is Tick.PENDING:
            detail = f"The message had not left the clock after {seconds:.0f} s."
            return OutcomeUnknown(detail, bubble=self._ours.id, reason=Reason.AT_THE_CLOCK)
        if self._ours:
            return OutcomeUnknown(bubble=self._ours.id, reason=Reason.UNREADABLE)
        if self.new:
            return OutcomeUnknown(bubble=self._seen, reason=Reason.OTHER_OUTGOING)
        return OutcomeUnknown(bubble=self._seen, reason=Reason.ROWS_MISSING if self._anchored else Reason.ANCHOR_LOST)
