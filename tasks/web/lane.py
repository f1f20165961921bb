"""The work of an account's lane: bring its session to the wanted state, settle, send due jobs."""

import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from browser.page.screens import ERRORS, LASTING, Screen
from browser.page.whatsapp import WhatsApp
from errors import (
    BrowserLost,
    ChromiumMissing,
    LeaseLost,
    LoggedOut,
    NumberChanged,
    PageHung,
    SendError,
    UiChanged,
)
from logs import bind
from sql.database import Database, Transaction
from tasks.backoff import backoff
from tasks.lanes import Drain, Unattended, wake_returned
from tasks.sending.jobs import Jobs
from tasks.sending.pace import Pace
from tasks.web.account_errors import RECONNECT_CAP, RECONNECTS, SETTLE_LATER_SECONDS, AccountErrors, is_of_account
from tasks.web.linking import Linking
from tasks.web.probe import Probe
from tasks.web.seats import FIRST_SEAL, Seats, Session
from tasks.web.send import Sender
from tasks.web.state_changes import Account, States
from tasks.web.states import State

log = logging.getLogger(__name__)

BATCH = 1000  # messages that fail in one statement
#: Reasons of gates that only a person opens. Meanwhile no drain opens a browser, except to check whether the page is
#: recognised again.
QUARANTINE = frozenset({"banned", "not_connected", "ui_changed", "open_elsewhere", "logged_out", "profile_unreadable"})

#: Screens that count only when seen twice. So does the QR code of an account that was linked.
DOUBTED = frozenset({Screen.CONFLICT, Screen.UNSUPPORTED})

#: Reasons of gates that open when the session is ready (open_linked_gate), and not otherwise.
OPENED_BY_SESSION = frozenset({"not_linked", "profile_elsewhere", "suspected_ban", "disconnected"})
MOST_SCREENS = 5  # times that the chat list may give way to another screen before the page is opened anew
HANDOVER_SECONDS = 2.0  # seconds for a worker with a free seat to take an account that this full one leaves alone


@dataclass
class AccountWork:
    """Handles the rows of account lanes."""

    database: Database
    seats: Seats
    states: States
    jobs: Jobs
    sender: Sender
    linking: Linking
    errors: AccountErrors
    pace: Pace
    probe: Probe
    #: a session that was hibernated for so long is opened even without a due job; 0 is never
    keepalive_days: float

    async def begin(self, drain: Drain) -> bool:
        """Bring the session to the wanted state and settle; return False when nothing may be sent now."""
        account = await self._account(drain.lane)
        if account is None:
            return False
        # Read after the drain began, since when no older one takes or submits anything: what is not half done stays so.
        if account.half_done:
            # This needs no page: a message that was only typed has not left.
            await self.jobs.release(drain)
        if account.wanted != "connected" or await self._stays_closed(drain, account):
            await self._leave_closed(drain, account)
            return False
        if not await self.seats.lease(account.id):
            raise Unattended
        # Read again: until the lease began, another worker may have changed it.
        account = await self._account(drain.lane)
        if account is None or account.wanted != "connected":
            raise Unattended
        try:
            await self._attend(drain, account)
        except LeaseLost as error:
            raise Unattended from error
        except ChromiumMissing as error:
            await self.errors.handle(drain, BrowserLost(error.detail), opening=True)
            return False
        except SendError as error:
            await self.errors.handle(drain, error, opening=True)
            return False
        return True

    async def _leave_closed(self, drain: Drain, account: Account) -> None:
        if account.half_done:
            await self.database.all("settle_later", lane=drain.lane, epoch=drain.epoch, seconds=SETTLE_LATER_SECONDS)
        if account.wanted != "connected":
            await self._end(account)

    async def _attend(self, drain: Drain, account: Account) -> None:
        session = await self._ready(account)
        if account.half_done:
            await self.sender.settler.settle(drain, session)
        if drain.for_good and drain.gate_reason == UiChanged.code:
            await self.probe.known(session)
        elif account.doubted:
            await self.errors.wait_for_settling(drain, self.jobs.policy.confirm_seconds)

    async def _account(self, account: str) -> Account | None:
        rows = await self.database.read(Account, "account_to_drain", account=account, keepalive=self.keepalive_days)
        return rows[0] if rows else None

    async def _stays_closed(self, drain: Drain, account: Account) -> bool:
        """Tell whether it stays closed: in quarantine, circuit open, or asleep with nothing due and no free seat."""
        if drain.for_good and drain.gate_reason in QUARANTINE:
            return not (account.probe and drain.gate_reason == UiChanged.code)
        if account.state == State.circuit_open and drain.closed and not drain.for_good and not account.to_settle:
            await self.database.all("attend_when_open", lane=drain.lane, epoch=drain.epoch, began=drain.began)
            return True
        waits = drain.gate_reason in OPENED_BY_SESSION if drain.closed else account.due
        asleep = account.state == State.hibernated and self.seats.live(account.id) is None
        if not asleep or account.half_done or account.stale or waits or self.seats.has_room:
            return False
        room = await self.database.one("room_elsewhere", worker=self.seats.worker)
        if room and room["room"]:
            await self.database.all("attend", lane=account.id, seconds=HANDOVER_SECONDS)
        return True

    async def one(self, drain: Drain) -> bool:
        """Send the next due job; False when there is none, or the session needs attention first."""
        if self.seats.stopping() or not await self.pace.before(drain):
            return False
        session = self.seats.live(drain.lane)
        if session is None or session.over_memory:
            return False
        async with session.busy:
            job = await self.jobs.take(drain)
            if job is None:
                return False
            if not await self.pace.admits(job):
                return True
            try:
                with bind(account=job.account_id, job=job.id, request_id=job.request_id or ""):
                    await self.sender.send(drain, session, job)
            except SendError as error:
                if not is_of_account(error):
                    raise
                await self.errors.handle(drain, error)
                return False
            finally:
                session.touch()
        return True

    # --- opening -----------------------------------------------------------------------------------------------------

    async def _ready(self, account: Account) -> Session:
        session = self.seats.live(account.id)
        is_new = session is None or session.over_memory or session.generation != account.profile_generation
        if session is None or is_new:
            session = await self._open(account)
        async with session.busy:
            await self._settle_in(account, session, is_new=is_new)
            if is_new or account.state != State.ready or account.reconnects:
                await self._mark_ready(account, session)
            session.touch()
        return session

    async def _settle_in(self, account: Account, session: Session, *, is_new: bool) -> None:
        """Wait for the chat list and make it usable; again, up to MOST_SCREENS times, when another screen comes."""
        for _ in range(MOST_SCREENS):
            await self._main_screen(account, session)
            # Before `settle_in`, which closes the notices that show a restriction.
            await self._restriction(account, session, is_new=is_new)
            if await session.page.settle_in():
                return
            # What was noted meanwhile counts: a restriction whose notice was closed, a phone that linked it.
            account = await self._account(account.id) or account
        raise PageHung("The chat list gives way to other screens, again and again.")

    async def _open(self, account: Account) -> Session:
        if not account.linked:
            self.seats.may_link(account.id)
        # Three states stay as they are: suspected_ban, which marks the second look at a ban screen; disconnected after
        # too many reconnects, until the page is open; and starting, which has the reason of a restart.
        lost = account.state == State.disconnected and account.reconnects >= RECONNECTS
        if account.state not in {State.suspected_ban, State.starting} and not lost:
            await self.states.change(account.id, State.starting)
        return await self.seats.open(account)

    async def _main_screen(self, account: Account, session: Session) -> None:
        boot, doubt = self.seats.patience.boot, partial(self._doubt, session)
        if not await on_main_screen(session.page, linked=account.linked, seconds=boot, doubt=doubt):
            with self.seats.linking(account.id):
                await self.linking.follow(account, session)

    async def _doubt(self, session: Session, screen: Screen) -> None:
        log.warning(
            "account %s shows %s, and is checked once more", session.account, screen,
            extra={"event": "screen.doubted", "account": session.account, "screen": screen},
        )  # fmt: skip
        code = LoggedOut.code if screen is Screen.QR else ERRORS[screen].code
        await self.errors.evidence.keep(session.account, code, session.page)

    async def _mark_ready(self, account: Account, session: Session) -> None:
        own = await session.page.own()

        async def write(tx: Transaction) -> bool:
            row = await self.states.held(tx, account.id)
            changed = bool(own.phone and row["phone"] and own.phone != row["phone"])
            if changed and await self._fail_backlog(tx, account.id) == BATCH:
                return False
            ready = await tx.one(
                "mark_ready", account=account.id, worker=self.seats.worker, generation=session.generation,
                changed=changed, phone=own.phone, name=own.name, platform=own.platform,
            )  # fmt: skip
            if ready is None:
                raise LeaseLost
            await tx.all("drop_kept_profile", account=account.id, worker=self.seats.worker)
            await tx.all("open_linked_gate", account=account.id, worker=self.seats.worker)
            await self.states.reach(tx, account.id, State.ready)
            return True

        while not await self.database.transact(write):
            pass
        session.seal_at = min(session.seal_at, time.monotonic() + random.uniform(*FIRST_SEAL))  # noqa: S311  # no secret

    async def _fail_backlog(self, tx: Transaction, account: str) -> int:
        """Fail a batch of the waiting jobs of an account that has another number now; return how many."""
        error = NumberChanged()
        failed = await tx.all(
            "fail_backlog", account=account, worker=self.seats.worker, code=error.code, detail=error.detail, most=BATCH
        )
        log.warning(
            "account %s has another number; %d messages failed", account, len(failed),
            extra={"event": "account.number_changed", "account": account, "jobs": len(failed)},
        )  # fmt: skip
        return await wake_returned(tx, failed)

    async def _restriction(self, account: Account, session: Session, *, is_new: bool) -> None:
        """Note a restriction of new chats that the page shows. After its end the next new chat shows if it is gone."""
        shown = await session.page.restriction()
        if shown:
            await self.database.all(
                "set_restriction", account=account.id, worker=self.seats.worker, restriction=shown, until=None
            )
        elif is_new and account.restriction is None:
            await self.database.all("lift_restriction", account=account.id, worker=self.seats.worker)
        session.restricted = bool(shown or account.restriction)

    # --- ending ------------------------------------------------------------------------------------------------------

    async def _end(self, account: Account) -> None:
        if account.state == State.not_started and not account.linked and account.profile_home is None:
            return
        if not await self.seats.lease(account.id):
            raise Unattended
        try:
            if account.wanted == "logged_out":
                await self._log_out(account)
            else:
                await self.seats.leave(account.id, "on request", to=State.disconnected)
        except LeaseLost as error:
            raise Unattended from error

    async def _log_out(self, account: Account) -> None:
        """Unlink the device and delete the profile; if the page stays out of reach, only delete the profile."""
        reason = "logged out on request"
        if account.linked:
            try:
                await self._unlink(account)
            except LeaseLost:
                raise
            except (SendError, ChromiumMissing) as error:
                if account.reconnects < RECONNECTS:
                    await self._log_out_later(account, error.code)
                    return
                reason = "Its profile was deleted, but WhatsApp was not told: remove the device on the phone."
        await self.seats.leave(account.id, reason, to=State.disconnected, login="forget")

    async def _unlink(self, account: Account) -> None:
        session = self.seats.live(account.id) or await self.seats.open(account)
        async with session.busy:
            screen = await session.page.wait_screen(*LASTING, timeout=self.seats.patience.boot)
            if screen is Screen.MAIN:
                if not await session.page.settle_in():
                    raise PageHung("Another screen came in place of the chat list.")
                await session.page.log_out()
            elif screen is not Screen.QR:
                raise ERRORS[screen]

    async def _log_out_later(self, account: Account, code: str) -> None:
        log.warning(
            "account %s cannot be logged out yet: %s", account.id, code,
            extra={"event": "account.logout_waits", "account": account.id, "code": code},
        )  # fmt: skip
        await self.seats.close(account.id)
        await self.database.all("count_reconnect", account=account.id, worker=self.seats.worker)
        pause = backoff(account.reconnects + 1, base=1, factor=2, cap=RECONNECT_CAP)
        await self.database.all("attend", lane=account.id, seconds=pause)


async def on_main_screen(
    page: WhatsApp, *, linked: bool, seconds: float, doubt: Callable[[Screen], Awaitable[object]]
) -> bool:
    """Wait until an account's page shows its chat list; return False if it waits for a phone to link instead.

    A screen that would end a login must be seen twice; `doubt` is called the first time. Raise LoggedOut if the account
    was linked before, PageHung after so many seconds, UiChanged, or the error of the screen that is shown.
    """
    screen = await page.wait_screen(*LASTING, timeout=seconds)
    if screen in DOUBTED or (screen is Screen.QR and linked):
        await doubt(screen)
        screen = await page.look_again(timeout=seconds)
    if screen is Screen.QR and linked:
        raise LoggedOut
    if screen not in {Screen.QR, Screen.MAIN}:
        raise ERRORS[screen]
    return screen is Screen.MAIN
