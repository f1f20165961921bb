"""The open chat's history: the last message, what is new after it, and what a crash left behind."""

from enum import Enum

from browser.bubbles import Bubble, Tick
from browser.reader import Reader
from browser.screens import says
from browser.words import plain
from errors import PageHung

#: looks that must agree before the list is thought to be at rest, and before it is believed that nothing more loads
BRIEFLY, LONG = 2, 6
#: steps before a chat is given up as too long
STEPS = 400


class Verdict(Enum):
    """What became of a message for which Enter may have been pressed."""

    SENT = "sent"  # a new outgoing bubble with its text has a tick
    PENDING = "pending"  # it is there, at the clock
    NOT_SENT = "not_sent"  # proved: everything after the anchor was looked at
    UNKNOWN = "unknown"  # neither can be told


class History:
    """The list of messages in the open chat. It is virtualised: only rows near the view are in the DOM."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def last(self) -> tuple[str | None, frozenset[str]]:
        """Scroll to the end; return the last message's id (None in an empty chat) and the ids now in the DOM.

        A chat with unread messages opens at the first of them, not at its end.
        """
        bubbles = await self.end()
        return (bubbles[-1].id if bubbles else None), frozenset(bubble.id for bubble in bubbles)

    async def end(self) -> list[Bubble]:
        """Scroll to the end; return the messages that are in the DOM then, oldest first."""
        return await self._scroll("end", BRIEFLY)

    async def newest(self, incoming: int) -> list[Bubble]:
        """Scroll to the end, and back until so many incoming messages are read or there are no more."""
        rows = await self.end()
        for _ in range(STEPS):
            if sum(not bubble.outgoing for bubble in rows) >= incoming:
                break
            further = await self._further(rows)
            if further is None or len(further) == len(rows):
                break
            rows = further
        await self._reader.ask("scroll", to="end")
        return rows

    async def after(self, anchor: str | None) -> tuple[list[Bubble], bool]:
        """Scroll up to the anchor, or to the top for None; return what comes after it and whether it was reached."""
        rows = await self._scroll("end", BRIEFLY)
        for _ in range(STEPS):
            ids = [bubble.id for bubble in rows]
            if anchor in ids:
                return rows[ids.index(anchor) + 1 :], True
            further = await self._further(rows)
            if further is None:
                break
            if len(further) == len(rows):
                return rows, anchor is None and await self.begins_here()
            rows = further
        return rows, False

    async def _further(self, rows: list[Bubble]) -> list[Bubble] | None:
        """Scroll back and return the rows with those before them; None when rows in between may have been missed."""
        ids = {bubble.id for bubble in rows}
        for looks in (BRIEFLY, LONG):
            seen = await self._scroll("back", looks)
            if earlier := [bubble for bubble in seen if bubble.id not in ids]:
                return None if rows and len(earlier) == len(seen) else earlier + rows
        return rows

    async def begins_here(self) -> bool:
        """Tell whether the top of the list is the beginning of the chat, and not of what has been loaded of it."""
        place = await self._reader.ask("scroll", to="")
        words, selectors = plain(place["words"]), self._reader.selectors
        return place["top"] and says(selectors, "history_top", words) and not says(selectors, "history_partial", words)

    async def _scroll(self, to: str, agreeing: int) -> list[Bubble]:
        """Scroll and read until so many looks in a row agree. Raise PageHung when they never do."""
        await self._reader.ask("scroll", to=to)
        before: list[str] | None = None
        agreed = 0
        async for _ in self._reader.looks(self._reader.patience.answer):
            bubbles = await self._reader.bubbles()
            ids = [bubble.id for bubble in bubbles]
            agreed = agreed + 1 if ids == before else 1
            if agreed >= agreeing:
                return bubbles
            before = ids
            if to == "end":
                await self._reader.ask("scroll", to=to)
        raise PageHung("The message list does not come to rest.")


def judge(text: str, rows: list[Bubble], *, whole: bool) -> tuple[Verdict, Bubble | None]:
    """Decide what became of a text, from all rows after its anchor; `whole` says that none is missing.

    A row of ours that cannot be read, or may still be at the clock, leaves it open; so does this text from the other
    side, since a page that has changed may show ours as theirs.
    """
    same = [bubble for bubble in rows if bubble.says(text)]
    for bubble in same:
        if bubble.outgoing and bubble.tick >= Tick.SENT:
            return Verdict.SENT, bubble
    for bubble in same:
        if bubble.outgoing and bubble.tick is Tick.PENDING:
            return Verdict.PENDING, bubble
    ours = [bubble for bubble in rows if bubble.outgoing]
    unclear = any(bubble.tick in {Tick.PENDING, Tick.UNKNOWN} or not (bubble.text or bubble.holes) for bubble in ours)
    return (Verdict.NOT_SENT if whole and not same and not unclear else Verdict.UNKNOWN), None
