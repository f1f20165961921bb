"""Whose chat is open. The title proves nothing: a contact may be saved under any name, even another person's number."""

import re
import time
from collections.abc import Collection, Iterable
from typing import Any

from browser.page.bubbles import own_id
from browser.page.reader import Reader
from browser.page.screens import says
from browser.page.selectors import Selectors
from browser.page.text_matching import label_number, plain, title_number
from phones import same_number, subscriber

#: message ids of the older page contain the chat's number: true_15551234567@c.us_3EB0…
JID = re.compile(r"_(\d+)@(?:c\.us|s\.whatsapp\.net)_")
PANEL_RETRY_SECONDS = 600.0  # after the contact's panel was not found: looking for it takes 3 s each time
GROUP = re.compile(r"@g\.us(?:_|$)")


class ChatOwner:
    """Proves on one page which number the open chat belongs to."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        #: subscriber → the id of the last message that we sent them
        self._ours: dict[str, str] = {}
        #: subscribers whose number is another contact's saved name
        self.borrowed: set[str] = set()
        #: when to look again for the contact's panel, after it was not found
        self._panel_retry_at = 0.0

    def remember_ours(self, phone: str, bubble: str) -> None:
        """Remember the id of a message that we sent to this number."""
        self._ours[subscriber(phone)] = own_id(bubble)

    async def proves(self, phone: str, messages: Collection[str] = ()) -> bool:
        """Tell whether the open chat, whose title is this number, is proved to belong to it.

        Message ids of the older page contain the number. Otherwise the proof is a message that is known to be in this
        number's chat (one of `messages`, or our last one), or the contact's panel, if it shows this number and no
        other.
        """
        chat = await self._reader.ask("chat")
        if is_group(chat, self._reader.selectors):
            return False
        ids = chat["ids"]
        known = {self._ours.get(subscriber(phone)), *map(own_id, messages)}
        told = numbers_in(ids)
        if not told and not known.isdisjoint(map(own_id, ids)):
            return True
        told = told or await self._panel_numbers()
        if told and not all(same_number(phone, number) for number in told):
            self.borrowed.add(subscriber(phone))
            return False
        return bool(told)

    async def is_saved_otherwise(self, phone: str) -> bool:
        """Tell whether the open chat belongs to this number, although its contact is saved under another number."""
        chat = await self._reader.ask("chat")
        if is_group(chat, self._reader.selectors):
            return False
        # The panel also shows the saved name, which may be a number itself.
        told = numbers_in(chat["ids"]) or await self._panel_numbers() - {title_number(chat["title"])}
        return bool(told) and all(same_number(phone, number) for number in told)

    async def _panel_numbers(self) -> set[str]:
        """Read the phone numbers in the contact's panel, which a click on the chat's header opens."""
        header = await self._reader.find("header")
        if header is None or time.monotonic() < self._panel_retry_at:
            return set()
        await self._reader.click(header)
        found: set[str] = set()
        lines: list[str] = []
        async for _ in self._reader.looks(self._reader.patience.doubt):
            before, lines = lines, await self._reader.ask("contact")
            # The saved name, which may be a number itself, can be drawn before the real number.
            if lines == before and (found := {number for line in lines if (number := title_number(line))}):
                break
        if not lines:
            self._panel_retry_at = time.monotonic() + PANEL_RETRY_SECONDS
        if close := await self._reader.find("contact_close"):
            await self._reader.click(close)
        return found


def is_group(chat: dict[str, Any], selectors: Selectors) -> bool:
    """Tell whether the open chat is a group, even if its name or the names of its members look like phone numbers."""
    label, title = plain(chat["label"]), plain(chat["title"])
    # "Type a message to Group 7" is the label of a contact "Group 7", or of the group "7"; in doubt it is a group.
    is_name = bool(title) and label in {f"{words.removesuffix('group')}{title}" for words in selectors.texts["group"]}
    return any(map(GROUP.search, chat["ids"])) or (says(selectors, "group", label) and not is_name)


def numbers_in(ids: Iterable[str]) -> set[str]:
    """Return the phone numbers in message ids; only those of the older page contain one."""
    return {number for each in ids for number in JID.findall(each)}


def numbers_called(chat: dict[str, Any]) -> list[str]:
    """List the numbers that the open chat has as title, in its header and in its box's label; none for a name.

    A contact's name may contain a number, which the label repeats; it does not show whose chat this is.
    """
    title, label = title_number(chat["title"]), label_number(chat["label"])
    if not title and label == label_number(chat["title"]):
        label = ""
    return [number for number in (title, label) if number]


def numbers_of(chat: dict[str, Any]) -> list[str]:
    """List all numbers of the open chat: those in its titles, and those in message ids of the older page."""
    return [*numbers_called(chat), *sorted(numbers_in(chat["ids"]))]
