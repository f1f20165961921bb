"""Incoming messages: the unread chats, and the messages of the open chat.

Opening a chat marks its messages as read for their sender, as it does for a person.
"""

import json
import re
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from browser.page.bubbles import Bubble
from browser.page.chat_owner import is_group, numbers_called, numbers_in
from browser.page.chats import Chats, unread_count
from browser.page.history import History
from browser.page.reader import Doubts, Reader
from browser.page.screens import says
from browser.page.text_matching import plain
from errors import SendError

#: Seconds for which a page is taken to be as it was read while no change of its document was noted. A change of style
#: sheets alone, which may show or hide an element, is not noted.
GLANCE_SECONDS = 20.0
MAX_UNREAD = 300  # unread messages of one chat that are read: scrolling back takes time


@dataclass(frozen=True)
class Unread:
    """A row of the chat list with unread messages."""

    #: exactly as in the list: with bidi marks, and perhaps an announcement before the name
    title: str
    count: int


@dataclass(frozen=True)
class Glance:
    """Where new messages show."""

    #: the open chat's title: a number, or a saved contact's name; empty without a chat
    name: str
    #: id of the open chat's last message in the DOM
    last: str | None
    #: the visible rows with unread messages, except those that are known to be groups
    unread: tuple[Unread, ...]


@dataclass(frozen=True)
class Conversation:
    """The open chat, at its end."""

    #: its title: a number, or a saved contact's name
    name: str
    #: its number, digits only; None if nothing that was read proves it
    phone: str | None
    #: the number in its title, which proves nothing; empty if the title is a name
    called: str
    group: bool
    #: its messages in the DOM, and earlier ones until all unread ones are included; oldest first
    bubbles: tuple[Bubble, ...]
    #: id of its last row, which may be a notice
    last: str | None
    #: how many of the newest incoming messages were unread when it was opened
    unread: int
    #: it has no message at all, and nothing is left to be loaded
    empty: bool


class Inbox:
    """The incoming side of one account's page."""

    def __init__(self, reader: Reader, history: History, chats: Chats) -> None:
        self._reader, self._history, self._chats = reader, history, chats
        #: the last glance, and when the page was read for it, by time.monotonic(), which also marks it in the page
        self._glanced: tuple[Glance, float] | None = None

    async def arrival(self) -> None:
        """Wait until the chat list has not changed for a while, or give up if it never stops changing.

        A page that was just opened gets the messages that it missed one by one, some time after it shows the list.
        """
        await self._rest(self._reader.patience.arrival)

    async def _rest(self, seconds: float) -> None:
        """Wait until the list has stayed the same for `seconds`, and in at least two reads."""
        doubts, before = Doubts(), None
        async for _ in self._reader.looks(self._reader.patience.answer):
            seen = [(row["title"], row["unread"]) for row in await self._reader.ask("chats")]
            if doubts.last("rest", seconds, seen=seen == before):
                return
            before = seen

    async def glance(self) -> Glance:
        """Look for new messages. A page on which nothing has changed is not read again until GLANCE_SECONDS are over.

        For a page at rest only: what is read for a message in hand is always read from the page.
        """
        began = time.monotonic()
        before, self._glanced = self._glanced, None
        if before and began - before[1] >= GLANCE_SECONDS:
            before = None
        read = await self._reader.ask("glance", known=before and before[1], mark=began)
        self._glanced = before if read is None and before else (_glance(read), began)
        return self._glanced[0]

    async def further(self) -> bool:
        """Scroll the chat list on; at its end go back to its top and return False."""
        moved = await self._reader.ask("scrollChats", to="on")
        if not moved:
            await self._reader.ask("scrollChats", to="top")
        await self._rest(0)
        return bool(moved)

    async def open(self, unread: Unread) -> Conversation | None:
        """Open an unread row's chat and read it. Raise WrongChat, or the error of the screen that is shown."""
        await self._chats.open_row(unread.title)
        return await self.conversation(unread.count)

    async def conversation(self, unread: int = 0, seen: str | None = None) -> Conversation | None:
        """Read the open chat at its end; None when none is open.

        `unread` is the number that its row showed, if any, and `seen` the id of the last row of an earlier read.
        """
        chat = await self._reader.ask("chat")
        name = str(chat["title"] or chat["label"])
        if not name:
            return None
        unread = min(max(unread, self._chats.unread, await self._divider()), MAX_UNREAD)
        rows = await self._history.newest(unread, seen)
        self._chats.unread = 0
        named = numbers_in(row.id for row in rows)
        return Conversation(
            name=name,
            phone=named.pop() if len(named) == 1 else self._chats.phone_of(name),
            called=next(iter(numbers_called(chat)), ""),
            group=is_group({**chat, "ids": [row.id for row in rows]}, self._reader.selectors),
            bubbles=tuple(row for row in rows if row.is_message),
            last=rows[-1].id if rows else None,
            unread=unread,
            empty=not rows and await self._history.begins_here(),
        )

    async def proved(self, conversation: Conversation, *, at_any_cost: bool) -> str | None:
        """Return the number in the open chat's title if it is proved to be the chat's own, else None.

        If nothing on the page proves it, the number's deep link can: `at_any_cost`, since it takes a full reload, and
        not while WhatsApp allows no new chats.
        """
        phone = conversation.called
        with suppress(SendError):
            if phone and await self._chats.owner.proves(phone):
                return phone
            if phone and at_any_cost and await self._is_at_its_address(conversation):
                return phone
        return None

    async def _is_at_its_address(self, conversation: Conversation) -> bool:
        """Open the chat of the number in this chat's title, and tell by its messages whether it is the same chat."""
        # The page writes numbers with a plus. One without is a saved name, often without the country code.
        if "+" not in conversation.name or await self._chats.restriction():
            return False
        await self._chats.open(conversation.called)
        ids = {bubble.id for bubble in conversation.bubbles}
        async for _ in self._reader.looks(self._reader.patience.doubt):
            if any(bubble.id in ids for bubble in await self._reader.bubbles()):
                return True
        return False

    async def _divider(self) -> int:
        """Read the number of unread messages from the divider above them, which stays while the chat is open."""
        for words in map(plain, await self._reader.ask("notices")):
            number = re.match(r"\d+", words)
            if number and says(self._reader.selectors, "unread", words):
                return int(number[0])
        return 0

    async def unfolded(self, conversation: Conversation, ids: Collection[str]) -> Conversation:
        """Unfold those of these messages that the page shows in part, and read them whole."""
        folded = [bubble.id for bubble in conversation.bubbles if bubble.id in ids and self._is_folded(bubble)]
        for name in folded:
            with suppress(SendError):  # then the message stays cut off
                await self._unfold(name)
        whole = {bubble.id: bubble for bubble in (await self._reader.bubbles() if folded else [])}
        bubbles = (replace(bubble, text=whole.get(bubble.id, bubble).text) for bubble in conversation.bubbles)
        return replace(conversation, bubbles=tuple(bubbles))

    def _is_folded(self, bubble: Bubble) -> bool:
        return plain(bubble.text).endswith(tuple(self._reader.selectors.texts["read_more"]))

    async def _unfold(self, bubble: str) -> None:
        places = (f"[data-id={json.dumps(bubble)}]", f"[data-testid={json.dumps(f'conv-msg-{bubble}')}]")
        words = "|".join(re.escape(text) for text in self._reader.selectors.texts["read_more"])
        button = self._reader.page.locator(", ".join(places)).first.get_by_text(
            re.compile(rf"^\s*(?:{words})\s*$", re.IGNORECASE)
        )
        await self._reader.click(button.last)


def _glance(read: dict[str, Any]) -> Glance:
    rows = [(row, unread_count(row)) for row in read["rows"]]
    unread = tuple(Unread(row["title"], count) for row, count in rows if count and not row["group"])
    return Glance(str(read["name"]), read["last"], unread)
