"""Whose the open chat is. Its title proves nothing: a contact may be saved under any name, also somebody's number."""

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

#: an id of the older page names its chat: true_15551234567@c.us_3EB0…
JID = re.compile(r"_(\d+)@(?:c\.us|s\.whatsapp\.net)_")
NO_PANEL = 600.0  # seconds for which a contact's panel that was not found is not looked for; a look takes 3 s
GROUP = re.compile(r"@g\.us(?:_|$)")


class Owner:
    """Tells on one page whose the open chat is."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        #: subscriber → the last message of ours that left in their chat
        self._ours: dict[str, str] = {}
        #: subscribers under whose number somebody else is saved
        self.borrowed: set[str] = set()
        #: when the contact's panel, which was not found, is looked for again
        self._no_panel_before = 0.0

    def has_ours(self, phone: str, bubble: str) -> None:
        """Remember that a message of ours stands in this number's chat."""
        self._ours[subscriber(phone)] = own_id(bubble)

    async def proves(self, phone: str, messages: Collection[str] = ()) -> bool:
        """Tell whether the open chat, which the page calls by this number, is proved to be this number's.

        The ids of the older page name the number. Else a message tells that is known to be in this number's chat, one
        of `messages` or our last, or the contact's panel, where it has this number and no other.
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
        """Tell whether the open chat is this number's, although it is saved under another one."""
        chat = await self._reader.ask("chat")
        if is_group(chat, self._reader.selectors):
            return False
        # The panel has the name as well, which may be a number.
        told = numbers_in(chat["ids"]) or await self._panel_numbers() - {title_number(chat["title"])}
        return bool(told) and all(same_number(phone, number) for number in told)

    async def _panel_numbers(self) -> set[str]:
        """Read the phone numbers in the contact's panel, which a click on the chat's header opens."""
        header = await self._reader.find("header")
        if header is None or time.monotonic() < self._no_panel_before:
            return set()
        await self._reader.click(header)
        found: set[str] = set()
        lines: list[str] = []
        async for _ in self._reader.looks(self._reader.patience.doubt):
            before, lines = lines, await self._reader.ask("contact")
            # The name, which may be a number, can be drawn before the number is.
            if lines == before and (found := {number for line in lines if (number := title_number(line))}):
                break
        if not lines:
            self._no_panel_before = time.monotonic() + NO_PANEL
        if close := await self._reader.find("contact_close"):
            await self._reader.click(close)
        return found


def is_group(chat: dict[str, Any], selectors: Selectors) -> bool:
    """Tell whether the open chat is a group's, whatever it is called and whoever of its members is shown by number."""
    label, title = plain(chat["label"]), plain(chat["title"])
    # "Type a message to Group 7" is to somebody called so, or to the group "7"; in doubt it is a group's.
    is_name = bool(title) and label in {f"{words.removesuffix('group')}{title}" for words in selectors.texts["group"]}
    return any(map(GROUP.search, chat["ids"])) or (says(selectors, "group", label) and not is_name)


def numbers_in(ids: Iterable[str]) -> set[str]:
    """Return the numbers that messages' ids name, as the older page has them."""
    return {number for each in ids for number in JID.findall(each)}


def numbers_called(chat: dict[str, Any]) -> list[str]:
    """List the numbers that the page calls the open chat by, in its header and in its box's label; none for a name.

    A contact's name may have a number in it, which the label repeats, and which says nothing of whose chat it is.
    """
    title, label = title_number(chat["title"]), label_number(chat["label"])
    if not title and label == label_number(chat["title"]):
        label = ""
    return [number for number in (title, label) if number]


def numbers_of(chat: dict[str, Any]) -> list[str]:
    """List the numbers that the open chat bears: those that it is called by, and those in its older ids."""
    return [*numbers_called(chat), *sorted(numbers_in(chat["ids"]))]
