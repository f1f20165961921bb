"""The open chat's history: scrolling through it, and finding out what became of a message after a crash."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any

from browser.page.bubbles import Bubble, Side, Tick, own_id
from browser.page.reader import Reader
from browser.page.screens import says
from browser.page.selectors import Selectors
from browser.page.text_matching import plain
from errors import PageHung

#: reads in a row that must agree before the list counts as at rest, and before it counts as fully loaded
REST_READS, LOADED_READS = 2, 6
#: reads before a list that keeps changing is given up, however long they take
LEAST_READS = 20
#: scrolls back before a chat is given up as too long
MAX_SCROLLS = 400


class Verdict(Enum):
    """What became of a message for which Enter may have been pressed."""

    SENT = "sent"  # it is there with a tick
    PENDING = "pending"  # it is there, at the clock
    FAILED = "failed"  # it is there, and the page says that it was not sent
    NOT_SENT = "not_sent"  # proved: every row after the anchor was read, and is another message
    UNREADABLE = "unreadable"  # it is there, with an unknown status
    UNKNOWN = "unknown"  # it is not known whether it was sent


class Reason(StrEnum):
    """Why it is not known what became of a message."""

    OTHER_OUTGOING = "other_outgoing"  # a row of ours below the anchor has another text, and may be it
    ROWS_MISSING = "rows_missing"  # a row below the anchor did not show its content
    OLDER_PROFILE = "older_profile"  # this is not the profile in which Enter was pressed, or the machine was rebooted
    ANCHOR_LOST = "anchor_lost"  # the message that it would follow is not found
    UNREADABLE = "unreadable"  # a row below the anchor is of an unknown kind, or has an unknown status
    AT_THE_CLOCK = "at_the_clock"  # it is there, without a tick


@dataclass(frozen=True)
class Finding:
    """The result of looking for a message in a chat."""

    verdict: Verdict
    bubble: Bubble | None = None
    reason: Reason | None = None


class History:
    """The list of messages in the open chat. It is virtualised: only rows near the view are in the DOM."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        #: while scrolling, parts of messages were seen that belong to no row
        self._loose = False

    async def end(self) -> list[Bubble]:
        """Scroll to the end; return the rows that are in the DOM then, oldest first."""
        return await self._scroll(REST_READS, to="end")

    async def newest(self, incoming: int, seen: str | None = None) -> list[Bubble]:
        """Scroll to the end, and back until so many incoming messages are read or there are no more.

        The rows below the row `seen` are read as well, if that is in the DOM.
        """
        rows = await self._shown_below(await self.end(), seen)
        for _ in range(MAX_SCROLLS):
            if sum(bubble.side is Side.THEIRS for bubble in rows) >= incoming:
                break
            if hidden := [bubble.id for bubble in rows if bubble.side is Side.HIDDEN]:
                rows = await self._show(rows, hidden[-1])
                if hidden[-1] in {bubble.id for bubble in rows if bubble.side is Side.HIDDEN}:
                    break
                continue
            further = await self._further(rows)
            if further is None or len(further) == len(rows):
                break
            rows = further
        await self._reader.ask("scroll", to="end")
        return rows

    async def after(self, anchor: str | None) -> tuple[list[Bubble], bool]:
        """Scroll up to the anchor, or to the top for None; return the rows after it and whether it was reached."""
        rows = await self.end()
        for _ in range(MAX_SCROLLS):
            if anchor in {bubble.id for bubble in rows}:
                return _below(await self._shown_below(rows, anchor), anchor), True
            further = await self._further(rows)
            if further is None:
                break
            if len(further) == len(rows):
                top = anchor is None and await self.begins_here()
                return (await self._shown_below(rows, rows[0].id) if rows else rows), top
            rows = further
        return rows, False

    async def _shown_below(self, rows: list[Bubble], row: str | None) -> list[Bubble]:
        """Scroll to each row from this one on that shows no content, and read it again."""
        for hidden in [bubble.id for bubble in _below(rows, row, its_own=True) if bubble.side is Side.HIDDEN][::-1]:
            if hidden in {bubble.id for bubble in rows if bubble.side is Side.HIDDEN}:
                rows = await self._show(rows, hidden)
        return rows

    async def _show(self, rows: list[Bubble], hidden: str) -> list[Bubble]:
        """Scroll to a row that was emptied because it was far from the view, and wait for its content."""
        await self._reader.ask("scroll", id=hidden)
        async for _ in self._reader.looks(self._reader.patience.doubt, least=REST_READS):
            shown = {bubble.id: bubble for bubble in await self._reader.bubbles() if bubble.side is not Side.HIDDEN}
            rows = [shown.get(bubble.id, bubble) for bubble in rows]
            if hidden in shown:
                break
        return rows

    async def _further(self, rows: list[Bubble]) -> list[Bubble] | None:
        """Scroll back; return the rows with the earlier ones, or None when rows in between may have been missed."""
        ids = {bubble.id for bubble in rows}
        for looks in (REST_READS, LOADED_READS):
            seen = await self._scroll(looks, to="back")
            if earlier := [bubble for bubble in seen if bubble.id not in ids]:
                return None if rows and len(earlier) == len(seen) else earlier + rows
        return rows

    async def begins_here(self) -> bool:
        """Tell whether the top of the list is the beginning of the chat, and not only of its loaded part."""
        return begins(await self._reader.ask("top"), self._reader.selectors)

    async def _scroll(self, agreeing: int, *, to: str) -> list[Bubble]:
        """Scroll and read until `agreeing` reads in a row agree. Raise PageHung when they never do."""
        await self._reader.ask("scroll", to=to)
        before: list[str] | None = None
        agreed = 0
        async for _ in self._reader.looks(self._reader.patience.answer, least=LEAST_READS):
            bubbles = await self._reader.bubbles()
            ids = [bubble.id for bubble in bubbles]
            agreed = agreed + 1 if ids == before else 1
            if agreed >= agreeing:
                self._loose |= bool(await self._reader.ask("loose"))
                return bubbles
            before = ids
            if to == "end":
                await self._reader.ask("scroll", to=to)
        raise PageHung("The message list does not come to rest.")

    async def find(self, text: str, anchor: str | None, bubble: str | None, others: Collection[str]) -> Finding:
        """Judge what became of a text; twice before NOT_SENT, since a message may be drawn a moment later."""
        finding, before = await self._judged(text, anchor, bubble, others)
        if finding.verdict is not Verdict.NOT_SENT:
            return finding
        await asyncio.sleep(self._reader.patience.settle)
        again, rows = await self._judged(text, anchor, bubble, others)
        if again.verdict is Verdict.NOT_SENT and rows != before:
            return Finding(Verdict.UNKNOWN, reason=Reason.UNREADABLE)
        return again

    async def _judged(
        self, text: str, anchor: str | None, bubble: str | None, others: Collection[str]
    ) -> tuple[Finding, list[str]]:
        self._loose = False
        rows, whole = await self.after(anchor)
        finding = judge(text, rows, whole=whole, bubble=bubble, others=others)
        if finding.verdict is Verdict.NOT_SENT and self._loose:
            # The element that carries ids has changed, and our message may be among those without an id.
            finding = Finding(Verdict.UNKNOWN, reason=Reason.UNREADABLE)
        return finding, [row.id for row in rows]


def begins(place: dict[str, Any], selectors: Selectors) -> bool:
    """Tell whether a scroll position is the beginning of the chat."""
    words = plain(place["words"])
    return (
        bool(place["top"]) and says(selectors, "history_top", words) and not says(selectors, "history_partial", words)
    )


def _below(rows: list[Bubble], row: str | None, *, its_own: bool = False) -> list[Bubble]:
    """Return the rows below this one, including it if `its_own`; all rows if it is not among them."""
    ids = [bubble.id for bubble in rows]
    return rows[ids.index(row) + (0 if its_own else 1) :] if row in ids else rows


def judge(
    text: str, rows: list[Bubble], *, whole: bool, bubble: str | None = None, others: Collection[str] = ()
) -> Finding:
    """Decide what became of a message, from the rows after its anchor; `whole` says that none is missing.

    The id decides if it is known: `bubble` is the message's own id, if it was seen, and `others` are ids of other
    messages. Otherwise it is the only row of ours with this text, provided that no row since the anchor is missing: the
    same text may have been sent long ago. NOT_SENT requires that each row is known to be another message. A message
    that was seen is never NOT_SENT: its absence proves nothing.
    """
    others = {own_id(other) for other in others}
    ours = [row for row in rows if row.side is Side.OURS and own_id(row.id) not in others]
    known = own_id(bubble) if bubble else None
    named = [row for row in rows if own_id(row.id) == known]
    if not named and whole:
        named = [row for row in ours if row.surely_says(text)]
    if len(named) == 1:
        return _finding(named[0])
    reason = _doubt(text, rows, others, whole=whole) or (Reason.ROWS_MISSING if known else None)
    return Finding(Verdict.UNKNOWN, reason=reason) if reason else Finding(Verdict.NOT_SENT)


def _finding(row: Bubble) -> Finding:
    if row.side is Side.HIDDEN:
        return Finding(Verdict.UNKNOWN, row, Reason.ROWS_MISSING)
    if row.tick >= Tick.SENT:
        return Finding(Verdict.SENT, row)
    if row.tick is Tick.PENDING:
        return Finding(Verdict.PENDING, row, Reason.AT_THE_CLOCK)
    if row.tick is Tick.FAILED:
        return Finding(Verdict.FAILED, row)
    return Finding(Verdict.UNREADABLE, row, Reason.UNREADABLE)


def _doubt(text: str, rows: list[Bubble], others: Collection[str], whole: bool) -> Reason | None:
    """Return why these rows do not prove that a text is not among them; None if they do."""
    unnamed = [row for row in rows if own_id(row.id) not in others]
    asked: tuple[tuple[Reason, bool], ...] = (
        (Reason.ANCHOR_LOST, not whole),
        (Reason.OTHER_OUTGOING, any(row.side is Side.OURS for row in unnamed)),
        (Reason.ROWS_MISSING, any(row.side is Side.HIDDEN for row in unnamed)),
        # Incoming rows with this text count as well: a page that has changed may show ours as theirs.
        (Reason.UNREADABLE, any(row.side is Side.UNKNOWN or row.says(text) for row in unnamed)),
        (Reason.AT_THE_CLOCK, any(row.tick is Tick.PENDING for row in rows)),
    )
    return next((reason for reason, doubted in asked if doubted), None)
