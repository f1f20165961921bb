"""Incoming messages: each is recorded once and sent as an event; a sender who writes STOP gets no more messages.

Live pages are polled; and before a message is typed into a chat, the new messages in that chat are read.
"""

import asyncio
import logging
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import timedelta
from weakref import WeakKeyDictionary

from browser.page.bubbles import Bubble, own_id
from browser.page.inbox import Conversation, Glance
from browser.page.screens import Screen
from browser.page.whatsapp import WhatsApp
from errors import DatabaseError, PostriderError
from sql.database import Database, Row, Transaction
from sql.ids import new_id
from tasks.lanes import wake_returned
from tasks.sending import opt_outs
from tasks.web.new_messages import InboxMemory, arrivals, unrecorded
from tasks.web.seats import Seats, Session
from texts import printable

log = logging.getLogger(__name__)

SESSION_SECONDS = 5.0  # seconds that a run may spend on the unread chats of one session
REOPEN_SECONDS = 60.0  # seconds until a chat that still shows as unread is opened again
ONLINE_CHECK_SECONDS = 20.0  # seconds between checks whether a page without unread messages is online


@dataclass
class Incoming:
    """Reads the messages that come in on the pages of one worker."""

    database: Database
    seats: Seats
    _pages: WeakKeyDictionary[WhatsApp, InboxMemory] = field(default_factory=WeakKeyDictionary)

    # --- before a message is sent ----------------------------------------------------------------------------------

    async def before_opening(self, account: str, phone: str, job: str, page: WhatsApp) -> None:
        """Wait until a page just opened has the messages that came in while it was closed. Raise OptedOut.

        They must arrive before the chat is opened: the chat list does not count messages in the open chat as unread.
        """
        memory = self._memory(page)
        await opt_outs.check(self.database, account, phone, job)
        await self._arrive(page, memory)

    async def _arrive(self, page: WhatsApp, memory: InboxMemory) -> None:
        if not memory.arrived:
            await page.inbox.arrival()
            memory.arrived = True

    async def before_typing(self, account: str, phone: str, job: str, page: WhatsApp) -> None:
        """Read the open chat, which is this number's, and record what is new. Raise OptedOut, also for a STOP in it."""
        if conversation := await page.inbox.conversation(seen=self._memory(page).seen[1]):
            await self._take(account, page, conversation, phone)
        await opt_outs.check(self.database, account, phone, job)

    # --- while nothing is to be sent -------------------------------------------------------------------------------

    async def run_once(self) -> None:
        """Look once at every live page that no drain works on."""
        sessions = [session for account in list(self.seats.sessions) if (session := self.seats.live(account))]
        await asyncio.gather(*(self._look(session) for session in sessions))

    async def _look(self, session: Session) -> None:
        until = time.monotonic() + SESSION_SECONDS
        try:
            while time.monotonic() < until and await self._step(session):
                pass
        except DatabaseError:
            raise
        except PostriderError as error:
            # The next drain finds out what is wrong with the page.
            log.debug("incoming messages of account %s could not be read: %s", session.account, error.code)

    async def _step(self, session: Session) -> bool:
        """Do one thing on the page; return False when nothing is left to do, or a drain needs the page."""
        if self.seats.draining(session.account):
            return False
        async with session.busy:
            # A drain may have begun while this waited; it waits for one chat at most.
            if self.seats.draining(session.account) or self.seats.live(session.account) is not session:
                return False
            memory, began = self._memory(session.page), time.monotonic()
            glance = await session.page.inbox.glance()
            if (
                await self._look_at_open(session, memory, glance)
                or await self._open_unread(session, memory, glance)
                or await self._go_on(session, memory)
            ):
                return True
            return await self._keep_current(session, memory, began)

    async def _look_at_open(self, session: Session, memory: InboxMemory, glance: Glance) -> bool:
        """Read the open chat if it has changed; return whether it was read."""
        if not glance.name or (glance.name, glance.last) == memory.seen:
            return False
        conversation = await session.page.inbox.conversation(seen=memory.seen[1])
        if conversation is None:
            return False
        await self._take(session.account, session.page, conversation)
        return True

    async def _open_unread(self, session: Session, memory: InboxMemory, glance: Glance) -> bool:
        """Open one chat of the list in view that shows as unread, and read it."""
        now, waiting = time.monotonic(), glance.unread
        memory.tried = {one: at for one, at in memory.tried.items() if one in waiting and now - at < REOPEN_SECONDS}
        for unread in waiting:
            if unread.title not in memory.groups and unread not in memory.tried:
                memory.tried[unread] = now
                conversation = await session.page.inbox.open(unread)
                if conversation and conversation.group:
                    memory.groups.add(unread.title)
                if conversation:
                    await self._take(session.account, session.page, conversation)
                return True
        return False

    async def _go_on(self, session: Session, memory: InboxMemory) -> bool:
        """Scroll through the whole chat list once; chats with later messages move to its top."""
        if memory.caught_up:
            return False
        memory.caught_up = not await session.page.inbox.further()
        return not memory.caught_up

    async def _keep_current(self, session: Session, memory: InboxMemory, began: float) -> bool:
        """Note that all messages until `began` were read; return True if others have arrived and must be read first."""
        if memory.tried or (memory.current is not None and began - memory.current < ONLINE_CHECK_SECONDS):
            return False
        if await session.page.screen() is not Screen.MAIN:
            memory.arrived = False
        elif not memory.arrived:
            await self._arrive(session.page, memory)
            return True
        else:
            memory.current = began
        return False

    # --- recording -------------------------------------------------------------------------------------------------

    def _memory(self, page: WhatsApp) -> InboxMemory:
        return self._pages.setdefault(page, InboxMemory())

    async def _take(self, account: str, page: WhatsApp, conversation: Conversation, phone: str | None = None) -> None:
        """Record what is new in a chat, and remember what was seen of it once that is committed."""
        memory = self._memory(page)
        if not conversation.group:
            await self._record(account, page, conversation, phone or conversation.phone)
        memory.seen, memory.empty = (conversation.name, conversation.last), conversation.empty

    async def _record(self, account: str, page: WhatsApp, conversation: Conversation, phone: str | None) -> None:
        theirs = {own_id(bubble.id) for bubble in conversation.bubbles if not bubble.outgoing}
        rows = await self.database.all("recorded_incoming", account=account, bubbles=sorted(theirs)) if theirs else []
        recorded = {row["bubble"]: row["numbered"] for row in rows}
        if theirs <= recorded.keys() and all(recorded.values()):
            return
        stop_words = await opt_outs.stop_words(self.database, account)
        memory = self._memory(page)
        new = list(unrecorded(conversation, recorded, memory, stop_words))
        if not new and all(recorded.values()):
            return
        if new:
            conversation = await page.inbox.unfolded(conversation, {bubble.id for bubble in new})
        texts = {bubble.id: bubble for bubble in conversation.bubbles}
        stops = {bubble.id for bubble in new if stop_words.found_in(texts[bubble.id].text)}
        within = self._within(conversation, memory, stops)
        phone = (
            phone
            or await self._whose(account, conversation, theirs)
            or await page.inbox.proved(conversation, at_any_cost=bool(stops))
        )
        nameless = [bubble for bubble, numbered in recorded.items() if not numbered] if phone else []

        async def write(tx: Transaction) -> bool:
            lanes: list[Row] = []
            for bubble in new:
                lanes += await self._insert(tx, account, conversation.name, phone, texts[bubble.id])
            earlier = await tx.all("number_incoming", account=account, bubbles=nameless, phone=phone)
            words = [bubble.text for bubble in new] + [row["text"] for row in earlier]
            said = next(filter(None, map(stop_words.found_in, words)), None)
            if said and phone:
                lanes += await opt_outs.opt_out(tx, account, phone, said, within)
            await wake_returned(tx, lanes)
            return bool(said)

        asked = await self.database.transact(write)
        log.info(
            "account %s received %d messages", account, len(new),
            extra={"event": "messages.received", "account": account, "messages": len(new)},
        )  # fmt: skip
        if asked and phone:
            log.info(
                "account %s: somebody asked not to be written to", account,
                extra={"event": "opt_out.added", "account": account},
            )  # fmt: skip
        elif asked:
            log.warning(
                "account %s: somebody shown by name alone asked not to be written to", account,
                extra={"event": "opt_out.nameless", "account": account},
            )  # fmt: skip

    def _within(self, conversation: Conversation, memory: InboxMemory, stops: Collection[str]) -> timedelta:
        """Return how long a STOP may still be confirmed: not at all unless it is known to have just come in."""
        if memory.current is None or arrivals(conversation, memory).isdisjoint(stops):
            return timedelta()
        return opt_outs.CONFIRM_WITHIN - timedelta(seconds=time.monotonic() - memory.current)

    async def _insert(self, tx: Transaction, account: str, chat: str, phone: str | None, bubble: Bubble) -> list[Row]:
        try:
            # A savepoint: if Postgres rejects a message, the others are still recorded, and a STOP in it still counts.
            async with tx.connection.transaction():
                return await tx.all(
                    "record_incoming",
                    id=new_id("msg_"),
                    account=account,
                    bubble=own_id(bubble.id),
                    phone=phone,
                    chat=printable(chat),
                    text=printable(bubble.text),
                )
        except opt_outs.REFUSED as error:
            reason = type(error).__name__
            log.error(  # noqa: TRY400  # Postgres repeats the row in the traceback
                "account %s: a message that came in is not recorded: %s", account, reason,
                extra={"event": "messages.unrecorded", "account": account, "reason": reason},
            )  # fmt: skip
            return []

    async def _whose(self, account: str, conversation: Conversation, theirs: Collection[str]) -> str | None:
        """Find the number of a chat that the page shows by name, by our own messages in it or by earlier records."""
        ours = [bubble.id for bubble in conversation.bubbles if bubble.outgoing]
        row = await self.database.one("phone_of_chat", account=account, ids=ours, bubbles=sorted(theirs))
        return row["phone"] if row else None
