"""Opening the chat of a phone number, and only that one."""

import re
from collections.abc import Callable
from typing import Any

from browser.bubbles import Tick, read_tick
from browser.dialogs import close
from browser.reader import Doubts, Reader
from browser.screens import ERRORS, PASSING, Screen, Sight, recognise, says
from browser.seam import bounded
from browser.words import digits, same_number
from errors import (
    NewChatsRestricted,
    NotOnWhatsApp,
    PageHung,
    UiChanged,
    UnknownDialog,
    WrongChat,
)

#: an id of the older page names its chat: true_15551234567@c.us_3EB0…
JID = re.compile(r"_(\d+)@(?:c\.us|s\.whatsapp\.net)_")


class Chats:
    """The chats of one account."""

    def __init__(self, reader: Reader, address: Callable[[str], str]) -> None:
        self._reader = reader
        #: the page's own address for the chat of a number
        self._address = address
        #: the number whose chat was opened last and what the page called it: a saved contact is shown by name
        self._known: tuple[str, str] | None = None

    async def open(self, phone: str) -> None:
        """Open a number's chat, through the list where it is known, else through the page's address for it.

        The address costs a whole reload, 20-25 s on the real page; the list costs a click.
        """
        await self.settle()
        if await self._is_open(phone):
            return
        listed = await self._open_listed(phone)
        if not listed:
            self._known = None
            page, patience = self._reader.page, self._reader.patience
            await bounded(
                page.goto(self._address(phone), wait_until="domcontentloaded", timeout=patience.navigation * 1000),
                patience.navigation + 1,
            )
        await self._wait(phone, by_name=not listed)

    async def settle(self) -> None:
        """Wait for the chat list, over a short absence of the network, and for what lies on it to go.

        Raise what the screen stands for, or UnknownDialog.
        """
        doubts = Doubts()
        async for _ in self._reader.looks(self._reader.patience.chat):
            sight = await self._reader.sight()
            if self._screen(sight, doubts) is Screen.MAIN:
                await self._answer_dialogs(sight, doubts)
                if not sight.dialogs:
                    return
        raise PageHung("The chat list did not come.")

    def _screen(self, sight: Sight, doubts: Doubts) -> Screen:
        """Name the screen; raise what it stands for, save for one that may pass and has not lasted too long."""
        screen, patience = recognise(sight, self._reader.selectors), self._reader.patience
        offline = doubts.last("offline", patience.offline, seen=screen is Screen.OFFLINE)
        unknown = doubts.last("unknown", patience.unknown, seen=screen is Screen.UNKNOWN)
        passing = PASSING | {Screen.OFFLINE, Screen.UNKNOWN}
        if screen is not Screen.MAIN and (screen not in passing or offline or unknown):
            raise ERRORS[screen]
        return screen

    async def _is_open(self, phone: str) -> bool:
        chat = await self._reader.ask("chat")
        return bool(chat["box"]) and (self._known == (phone, _name(chat)) or _names(chat, phone))

    async def _open_listed(self, phone: str) -> bool:
        """Click the number's row, in view or found by search. A saved contact's row bears a name and is not found."""
        if await self._click_row(phone):
            return True
        await self._search(phone)
        try:
            async for _ in self._reader.looks(self._reader.patience.search):
                if await self._click_row(phone):
                    return True
            return False
        finally:
            await self._search("")

    async def _click_row(self, phone: str) -> bool:
        """Click the row that bears the number. Opening chats sorts the list anew, so no place in it is remembered."""
        for last in (False, True):
            rows = await self._reader.ask("chats")
            row = next((row for row in rows if digits(row["title"]) == phone), None)
            if row is None:
                return False
            try:
                await self._reader.click(self._reader.page.locator(row["css"]).nth(row["nth"]))
            except PageHung:
                # "What's new" comes some time after the list does, and then takes the clicks.
                if last or not (await self._reader.sight()).dialogs:
                    raise
                await self.settle()
            else:
                return True
        return False

    async def _search(self, text: str) -> None:
        """Filter the list; by real input, since the page does not see an assigned value."""
        patience = self._reader.patience
        box = await self._reader.need("search")
        await bounded(box.fill(text, timeout=patience.answer * 1000), patience.answer + 1)

    async def _wait(self, phone: str, *, by_name: bool) -> None:
        """Wait until the chat is open and is this number's.

        Raise NotOnWhatsApp or NewChatsRestricted where the page says so, UnknownDialog, WrongChat, or what the screen
        stands for. "Starting chat" and "isn't on WhatsApp" are dialogs of one button alike, so only known words decide.
        """
        patience, doubts = self._reader.patience, Doubts()
        async for _ in self._reader.looks(patience.chat):
            sight = await self._reader.sight()
            if self._screen(sight, doubts) is not Screen.MAIN:
                continue
            await self._answer_dialogs(sight, doubts)
            if sight.dialogs:
                continue
            chat = await self._reader.ask("chat")
            if chat["box"]:
                if _names(chat, phone) or (by_name and _is_name(chat)):
                    self._known = (phone, _name(chat))
                    return
                if doubts.last("wrong", patience.doubt):
                    raise WrongChat(f"The page opened the chat of {_name(chat)!r} instead of {phone}.")
            elif doubts.last("restricted", patience.doubt, seen=self._refuses(sight.text)):
                raise NewChatsRestricted
            elif doubts.last("boxless", patience.chat / 2):
                raise UiChanged("The page shows no compose box in the open chat.")
        raise PageHung(f"The chat of {phone} did not open within {patience.chat:.0f} s.")

    async def _answer_dialogs(self, sight: Sight, doubts: Doubts) -> None:
        """Close what informs, raise what refuses, let "Starting chat" pass, and doubt what is not known."""
        selectors = self._reader.selectors
        strange = None
        for dialog in sight.dialogs:
            if says(selectors, "not_on_whatsapp", dialog.text):
                await close(self._reader, dialog)
                raise NotOnWhatsApp
            if self._refuses(dialog.text):
                await close(self._reader, dialog)
                raise NewChatsRestricted
            if says(selectors, "closable", dialog.text):
                await close(self._reader, dialog)
            elif not says(selectors, "starting_chat", dialog.text):
                strange = dialog
        if doubts.last("dialog", self._reader.patience.doubt, seen=strange is not None) and strange is not None:
            raise UnknownDialog(f"A dialog that Postrider does not know is in the way: {strange.text[:200]}")

    def _refuses(self, text: str) -> bool:
        return any(says(self._reader.selectors, meaning, text) for meaning in ("restricted", "capped"))

    async def ticks(self) -> dict[str, Tick]:
        """Read the list's rows in view: number → status of the last message, where that is ours."""
        found = {}
        for row in await self._reader.ask("chats"):
            phone = digits(row["title"])
            if phone and row["status"]:
                found[phone] = read_tick(row["status"], self._reader.selectors)
        return found


def _name(chat: dict[str, Any]) -> str:
    """What the page calls the open chat; the box's label is "Type a message to …", in older pages without a name."""
    return str(chat["title"] or chat["label"])


def _names(chat: dict[str, Any], phone: str) -> bool:
    """Tell whether all that bears a number in the open chat bears this one, and something does."""
    shown = [digits(chat["label"]), digits(chat["title"]), *(jid for id_ in chat["ids"] for jid in JID.findall(id_))]
    numbers = [number for number in shown if number]
    return bool(numbers) and all(same_number(phone, number) for number in numbers)


def _is_name(chat: dict[str, Any]) -> bool:
    """Tell whether the chat bears a name and no number at all, as that of a saved contact."""
    return (
        bool(_name(chat))
        and not digits(chat["label"])
        and not digits(chat["title"])
        and not any(JID.search(id_) for id_ in chat["ids"])
    )
