"""Opening the chat of a phone number, and proving that it is that number's."""

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Any

from browser.engine.playwright_calls import bounded
from browser.page import restriction
from browser.page.bubbles import Tick, read_tick
from browser.page.chat_owner import ChatOwner, is_group, numbers_called, numbers_of
from browser.page.dialogs import close
from browser.page.reader import Doubts, Reader
from browser.page.restriction import Restriction
from browser.page.screens import ERRORS, PASSING, Screen, Sight, recognise, says
from browser.page.text_matching import plain, title_number
from errors import NotOnWhatsApp, PageCrashed, PageHung, UiChanged, UnknownDialog, WrongChat
from phones import same_number, subscriber

MAX_CLICKS = 5  # attempts to click a row while the list moves
MOVED = "The chat list moved before the row could be clicked."
#: the title of a row, as reading.js reads it
TITLE_OF = r"""(row, alternatives) => {
  const title = alternatives.map((css) => row.querySelector(css)).find(Boolean);
  return (title?.getAttribute("title") || title?.textContent || "").replace(/[\0\p{Cs}]/gu, "");
}"""
#: whether a row of the chat list is the wanted one
Wanted = Callable[[dict[str, Any]], bool]


class Chats:
    """The chats of one account."""

    def __init__(self, reader: Reader, address: Callable[[str], str]) -> None:
        self._reader = reader
        #: makes the deep link to the chat of a number
        self._address = address
        #: proves which number the open chat belongs to
        self.owner = ChatOwner(reader)
        #: number and title of the chat that was opened and proved last; a saved contact's title is a name
        self._known: tuple[str, str] | None = None
        #: subscriber → a saved contact's name, learned when the deep link opened the chat
        self._names: dict[str, str] = {}
        #: unread messages of the chat that was opened last, as its row showed them
        self.unread = 0

    async def open(self, phone: str, *, known_only: bool = False, messages: Collection[str] = ()) -> None:
        """Open a number's chat: through the chat list if that has it, else by its deep link.

        The deep link costs a full reload, 20-25 s on the real page. The list costs a click, and a proof that the chat
        whose title is the number belongs to it; `messages` are ids of messages known to be in it. With `known_only`, a
        chat that the list does not prove raises NewChatsRestricted instead: WhatsApp holds it against a restricted
        account when it goes on looking up numbers.
        """
        await self.settle()
        chat = await self._reader.ask("chat")
        if self.is_of(chat, phone) and (self._is_known(chat, phone) or await self.owner.proves(phone, messages)):
            self._remember(phone, chat)
            return
        self._known, self.unread = None, 0
        if await self._open_listed(phone):
            chat = await self._wait(phone, lambda chat: _all_are(phone, numbers_called(chat)))
            if await self.owner.proves(phone, messages):
                self._remember(phone, chat)
                return
        if not known_only:
            await self._open_address(phone)
            self._remember(phone, await self._wait(phone, lambda chat: _names(chat, phone) or _is_name(chat)))
        elif not await self._open_named(phone):
            raise (await self.restriction() or Restriction("new_chats")).error()

    async def open_row(self, title: str) -> None:
        """Click the visible unread row with exactly this title, and wait for its chat.

        Raise WrongChat when the chat does not open, or what `settle` raises.
        """
        await self.settle()
        self._known, self.unread = None, 0
        before = await self._unread_of(title)
        if await self._click_row(lambda row: row["title"] == title and unread_count(row) > 0):
            doubts = Doubts()
            async for _ in self._reader.looks(self._reader.patience.answer):
                opened = same_title(_name(await self._reader.ask("chat")), title)
                # Two contacts may have the same name, and the chat that was open before may be the other one's. Then
                # only the row's unread badge, which disappears on reading, shows that this chat has opened.
                read = await self._unread_of(title) < before
                if doubts.last("opened", 0 if read else self._reader.patience.doubt, seen=opened):
                    return
        raise WrongChat(f"The chat that the list calls {plain(title)!r} did not open.")

    async def open_own(self, phone: str, *, reload: bool) -> bool:
        """Open the account's chat with itself, by the account's own number; return False when the list lacks it.

        With `reload`, its deep link is opened in that case. Rows with unread messages are never clicked, so that none
        is marked as read by mistake. A chat without any title counts as open: the caller checks which elements are
        missing. Raise WrongChat, or the error of the screen that is shown.
        """
        marks = tuple(self._reader.selectors.texts["own_chat"])

        def own(title: str) -> bool:
            return same_number(phone, title_number(title)) or plain(title).endswith(marks)

        await self.settle()
        if own(_name(await self._reader.ask("chat"))):
            return True
        self._known, self.unread = None, 0

        def wanted(row: dict[str, Any]) -> bool:
            return not unread_count(row) and (row["own"] or own(row["title"]))

        row = await self._click_found(wanted, phone)
        if row is None and not reload:
            return False
        if row is None:
            await self._open_address(phone)
        await self._wait_own(phone, lambda title: own(title) or bool(row and same_title(title, row["title"])), row)
        return True

    async def _wait_own(self, phone: str, own: Callable[[str], bool], row: dict[str, Any] | None) -> None:
        patience, doubts = self._reader.patience, Doubts()
        nameless = patience.chat / 6 if row is None else patience.doubt  # a reload takes longer
        async for _ in self._reader.looks(patience.chat):
            sight = await self._reader.sight()
            if self._screen(sight, doubts) is not Screen.MAIN:
                continue
            await self._answer_dialogs(sight, doubts)
            if sight.dialogs:
                continue
            name = _name(await self._reader.ask("chat"))
            if own(name):
                self._known = (phone, name)
                return
            if doubts.last("wrong", patience.doubt, seen=bool(name)):
                raise WrongChat("The page opened another chat than the account's own.")
            if doubts.last("nameless", nameless, seen=not name):
                return
        raise PageHung(f"The account's own chat did not open within {patience.chat:.0f} s.")

    async def _unread_of(self, title: str) -> int:
        rows = await self._reader.ask("chats")
        return sum(row["title"] == title and unread_count(row) > 0 for row in rows)

    def phone_of(self, name: str) -> str | None:
        """Return the number of the chat that was proved last, if that chat has this title."""
        return self._known[0] if self._known and self._known[1] == name else None

    async def _open_address(self, phone: str) -> None:
        self._known = None
        page, patience = self._reader.page, self._reader.patience
        await bounded(
            page.goto(self._address(phone), wait_until="domcontentloaded", timeout=patience.navigation * 1000),
            patience.navigation + 1,
        )

    async def _open_named(self, phone: str) -> bool:
        """Open a saved contact's chat by the remembered name, unless two chats have that name."""
        name = self._names.get(subscriber(phone))
        if name is None:
            return False
        await self._search(name)
        try:
            # Wait for all search results, to be sure that only one has this name.
            await asyncio.sleep(self._reader.patience.search)
            rows = [row for row in await self._reader.ask("chats") if plain(row["title"]) == plain(name)]
            if len(rows) != 1 or not await self._click_row(lambda row: row["title"] == rows[0]["title"]):
                return False
        finally:
            await self._search("")
        wanted = await self._wait(phone, lambda chat: _name(chat) == name and (_names(chat, phone) or _is_name(chat)))
        self._remember(phone, wanted)
        return True

    async def restriction(self) -> Restriction | None:
        """Read a restriction from the bars and notices that are shown now, without opening anything."""
        sight = await self._reader.sight()
        return self._says(" ".join((sight.text, *(dialog.text for dialog in sight.dialogs))))

    def _says(self, text: str) -> Restriction | None:
        return restriction.read(text, self._reader.selectors, datetime.now(UTC).date())

    async def settle(self) -> None:
        """Wait for the chat list, through a short outage of the network, and close the dialogs on it.

        Raise the error of the screen that is shown, or UnknownDialog.
        """
        doubts = Doubts()
        async for _ in self._reader.looks(self._reader.patience.chat):
            sight = await self._reader.sight()
            if self._screen(sight, doubts) is Screen.MAIN:
                # A notice of a restriction may appear at any time; known chats can be opened all the same.
                await self._answer_dialogs(sight, doubts)
                if not sight.dialogs:
                    return
        raise PageHung("The chat list did not come.")

    def _screen(self, sight: Sight, doubts: Doubts) -> Screen:
        """Recognise the screen; raise its error, unless it may pass by itself and has not lasted too long."""
        screen, patience = recognise(sight, self._reader.selectors), self._reader.patience
        offline = doubts.last("offline", patience.offline, seen=screen is Screen.OFFLINE)
        unknown = doubts.last("unknown", patience.unknown, seen=screen is Screen.UNKNOWN)
        passing = PASSING | {Screen.OFFLINE, Screen.UNKNOWN}
        if screen is not Screen.MAIN and (screen not in passing or offline or unknown):
            raise ERRORS[screen]
        return screen

    def is_of(self, chat: dict[str, Any], phone: str) -> bool:
        """Tell whether a chat that was read has a box to write in, and this number as title or as its proved number."""
        named = self._is_known(chat, phone) or _names(chat, phone)
        return bool(chat["box"]) and named and not is_group(chat, self._reader.selectors)

    def _is_known(self, chat: dict[str, Any], phone: str) -> bool:
        known, name = self._known or ("", "")
        return same_number(known, phone) and name == _name(chat)

    async def _open_listed(self, phone: str) -> bool:
        """Click the number's row, visible or found by search. A saved contact's row shows a name and is not found."""

        def wanted(row: dict[str, Any]) -> bool:
            return same_number(title_number(row["title"]), phone) and not row["group"]

        return await self._click_found(wanted, phone) is not None

    async def _click_found(self, wanted: Wanted, query: str) -> dict[str, Any] | None:
        """Click the first wanted row, visible or found by search, and return it."""
        if row := await self._click_row(wanted):
            return row
        await self._search(query)
        try:
            async for _ in self._reader.looks(self._reader.patience.search):
                if row := await self._click_row(wanted):
                    return row
            return None
        finally:
            await self._search("")

    async def _click_row(self, wanted: Wanted) -> dict[str, Any] | None:
        """Click the first wanted row and return it."""
        for tries_left in range(MAX_CLICKS - 1, -1, -1):
            rows: list[dict[str, Any]] = await self._reader.ask("chats")
            row = next((row for row in rows if wanted(row)), None)
            if row is None:
                return None
            try:
                self.unread = unread_count(row)
                await self._click(row)
            except PageHung:
                # "What's new" appears some time after the list, and then intercepts clicks.
                if not tries_left:
                    raise
                await self.settle()
            else:
                return row
        return None

    async def _click(self, row: dict[str, Any]) -> None:
        """Click a row after checking its title once more: incoming messages move the rows."""
        patience, titles = self._reader.patience, self._reader.selectors.elements["chat_title"]
        place = self._reader.page.locator(row["css"]).nth(row["nth"])
        node = await bounded(place.element_handle(timeout=patience.click * 1000), patience.click + 1)
        if await bounded(node.evaluate(TITLE_OF, titles), patience.answer) != row["title"]:
            raise PageHung(MOVED)
        try:
            await bounded(node.click(timeout=patience.click * 1000), patience.click + 1)
        except PageCrashed as error:
            if "not attached" not in str(error.__cause__):
                raise
            raise PageHung(MOVED) from error

    async def _search(self, text: str) -> None:
        """Filter the list through input events: the page does not notice a value that is merely assigned."""
        patience = self._reader.patience
        if await self._reader.find("search") is None:
            await self.settle()  # another screen may have come: that is no page that has changed
        box = await self._reader.need("search")
        await bounded(box.fill(text, timeout=patience.answer * 1000), patience.answer + 1)

    async def _wait(self, phone: str, right: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait until this number's chat is open, one for which `right` holds, and return what was read of it.

        Raise NotOnWhatsApp or NewChatsRestricted when the page says so, UnknownDialog, WrongChat, or the error of the
        screen that is shown. "Starting chat" and "isn't on WhatsApp" are both dialogs with one button, so only their
        words tell them apart.
        """
        patience, doubts = self._reader.patience, Doubts()
        told: Restriction | None = None
        async for _ in self._reader.looks(patience.chat):
            sight = await self._reader.sight()
            if self._screen(sight, doubts) is not Screen.MAIN:
                continue
            told = await self._answer_dialogs(sight, doubts) or told
            if sight.dialogs:
                continue
            chat: dict[str, Any] = await self._reader.ask("chat")
            if chat["box"]:
                if right(chat):
                    return chat
                if doubts.last("wrong", patience.doubt):
                    if not await self.owner.is_saved_otherwise(phone):
                        raise WrongChat(f"The page opened the chat of {_name(chat)!r} instead of {phone}.")
                    return chat
            else:
                # A bar over the list concerns all chats; one in the place of the box concerns this chat.
                refused = told or (self._says(plain(chat["notice"])) if right(chat) else None)
                self._doubt_boxless(refused, self._says(sight.text), doubts)
        raise PageHung(f"The chat of {phone} did not open within {patience.chat:.0f} s.")

    def _remember(self, phone: str, chat: dict[str, Any]) -> None:
        self._known = (phone, _name(chat))
        # Even if message ids of the older page contain its number: the list shows only the name.
        if chat["title"] and not title_number(chat["title"]):
            self._names[subscriber(phone)] = _name(chat)

    def _doubt_boxless(self, refused: Restriction | None, told: Restriction | None, doubts: Doubts) -> None:
        """Raise NewChatsRestricted or UiChanged when the box to write in has been missing for long."""
        patience = self._reader.patience
        if doubts.last("restricted", patience.doubt, seen=refused is not None) and refused:
            raise refused.error()
        if doubts.last("boxless", patience.chat / 2):
            raise (
                told.error()
                if told
                else UiChanged("The page shows no compose box in the open chat.", element="compose")
            )

    async def _answer_dialogs(self, sight: Sight, doubts: Doubts) -> Restriction | None:
        """Close dialogs that only inform, wait for "Starting chat" to pass, and return a restriction that was shown.

        Raise NotOnWhatsApp, or UnknownDialog when any other dialog stays.
        """
        selectors = self._reader.selectors
        strange = told = None
        for dialog in sight.dialogs:
            if says(selectors, "not_on_whatsapp", dialog.text):
                await close(self._reader, dialog)
                raise NotOnWhatsApp
            said = self._says(dialog.text)
            if said or says(selectors, "closable", dialog.text) or says(selectors, "refreshing", dialog.text):
                told = said or told
                await close(self._reader, dialog)
            elif not says(selectors, "starting_chat", dialog.text):
                strange = dialog
        if doubts.last("dialog", self._reader.patience.doubt, seen=strange is not None) and strange is not None:
            raise UnknownDialog(f"A dialog that Postrider does not know is in the way: {strange.text[:200]}")
        return told

    async def ticks(self) -> dict[str, Tick]:
        """Read the list's visible rows: subscriber → status of the last message, if that is ours.

        Left out are a title that two rows have, a number that is known to be another contact's saved name, and a number
        without a plus, which the page did not format itself.
        """
        rows = [(subscriber(title_number(row["title"])), row) for row in await self._reader.ask("chats")]
        often = Counter(phone for phone, _ in rows)
        told = {
            phone: read_tick(row["status"], self._reader.selectors)
            for phone, row in rows
            if phone and often[phone] == 1 and phone not in self.owner.borrowed and "+" in row["title"]
        }
        return {phone: tick for phone, tick in told.items() if tick is not Tick.UNKNOWN}

    async def listed_tick(self, phone: str) -> Tick:
        """Read the tick of a number's last message from its visible row; UNKNOWN unless exactly one row matches."""
        known, name = self._known or ("", "")
        named = name if same_number(known, phone) else None
        rows = [
            row
            for row in await self._reader.ask("chats")
            if same_number(title_number(row["title"]), phone) or (named and same_title(named, row["title"]))
        ]
        return read_tick(rows[0]["status"], self._reader.selectors) if len(rows) == 1 else Tick.UNKNOWN


def unread_count(row: dict[str, Any]) -> int:
    """Read the number of unread messages in a row; 0 if it shows none."""
    found = re.search(r"\d[\d.,\u00a0]*", row["unread"])
    return int(re.sub(r"\D", "", found[0])) if found else 0


def same_title(name: str, title: str) -> bool:
    """Tell whether a title in the list is the chat's name, with or without the announcement of unread messages."""
    called = plain(name)
    return bool(called) and re.fullmatch(rf"(?:\d[\d.,]* [^\d+]*?)?{re.escape(called)}", plain(title)) is not None


def _name(chat: dict[str, Any]) -> str:
    """Return the open chat's title, else the box's label: "Type a message to …", without a name in older pages."""
    return str(chat["title"] or chat["label"])


def _names(chat: dict[str, Any], phone: str) -> bool:
    """Tell whether the open chat shows this number, and no other number, in its titles and ids."""
    return _all_are(phone, numbers_of(chat))


def _all_are(phone: str, numbers: list[str]) -> bool:
    return bool(numbers) and all(same_number(phone, number) for number in numbers)


def _is_name(chat: dict[str, Any]) -> bool:
    """Tell whether the chat has a name and no number at all, as a saved contact's has."""
    return bool(_name(chat)) and not numbers_of(chat)
