"""The work of an account's lane: bring its session to what is wanted, settle, send what is due."""

import logging
from contextlib import suppress
from dataclasses import dataclass

from browser.screens import ERRORS, PASSING, Screen
from errors import (
    AccountWaits,
    AttemptFailed,
    Banned,
    BrowserLost,
    ChromiumMissing,
    LeaseLost,
    NotLinked,
    Offline,
    OpenElsewhere,
    PostriderError,
    ProfileElsewhere,
    SendError,
    UiChanged,
)
from logs import bind
from sql.database import Database
from tasks.backoff import backoff
from tasks.lanes import Drain, Unattended
from tasks.linking import Linking, NotScanned
from tasks.seats import Account, Seats, Session
from tasks.send import Sender

log = logging.getLogger(__name__)

BOOT = 90.0  # seconds; a cold boot of the page was measured at 20-25 s
LOOK_AGAIN = 30.0  # seconds between two looks at a ban screen
OFFLINE = 5.0  # seconds
ELSEWHERE = 10.0  # seconds
SETTLE_LATER = 60.0  # seconds between looks at what is submitted, while only a person can open the account
RECONNECT_CAP = 30.0  # seconds
#: Gates that only a person opens; no drain opens a browser behind them.
QUARANTINE = frozenset({"banned", "not_connected", "ui_changed", "open_elsewhere"})

#: Screens that last; UNKNOWN raises by itself.
LASTING = tuple(screen for screen in Screen if screen not in PASSING | {Screen.UNKNOWN})


@dataclass
class AccountWork:
    """What is done with the rows of account lanes."""

    database: Database
    seats: Seats
    sender: Sender
    linking: Linking
    breaker_failures: int
    breaker_seconds: float
    #: seconds between two looks at a ban screen
    look_again: float = LOOK_AGAIN

    async def begin(self, drain: Drain) -> bool:
        """Bring the session to what is wanted and settle; False when nothing may be sent now."""
        accounts = await self.database.read(Account, "account_to_drain", account=drain.lane)
        if not accounts or (drain.closed and drain.gate_reason in QUARANTINE and accounts[0].wanted == "connected"):
            return False
        account = accounts[0]
        # Nothing of this needs a page: what was only typed has not left.
        await self.sender.release(drain)
        if account.wanted != "connected":
            await self._leave(account)
            return False
        if not await self.seats.lease(account.id):
            raise Unattended
        try:
            session = await self._ready(account)
            await self.sender.settle(drain, session)
        except LeaseLost as error:
            raise Unattended from error
        except ChromiumMissing as error:
            await self._trouble(drain, BrowserLost(error.detail))
            return False
        except SendError as error:
            await self._trouble(drain, error)
            return False
        return True

    async def one(self, drain: Drain) -> bool:
        """Send the next due job; False when there is none, or the session needs attention first."""
        session = self.seats.live(drain.lane)
        if session is None:
            return False
        async with session.busy:
            job = await self.sender.take(drain)
            if job is None:
                return False
            try:
                with bind(account=job.account_id, job=job.key or job.id, request_id=job.request_id or ""):
                    await self.sender.send(drain, session, job)
            except (AttemptFailed, AccountWaits) as error:
                await self._trouble(drain, error)
                return False
            finally:
                session.touch()
        return True

    async def _leave(self, account: Account) -> None:
        await self.seats.leave(account.id, "disconnected")
        if account.state != "not_started":
            await self.database.all("set_state", account=account.id, state="disconnected", reason="on request")

    async def _ready(self, account: Account) -> Session:
        session = self.seats.live(account.id)
        is_new = session is None
        if session is None:
            await self.database.all("set_state", account=account.id, state="starting", reason=None)
            session = await self.seats.open(account)
        async with session.busy:
            screen = await session.page.wait_screen(*LASTING, timeout=BOOT)
            if screen is Screen.QR:
                await self.linking.follow(account, session)
            elif screen is not Screen.MAIN:
                raise ERRORS[screen]
            await session.page.settle_in()
            phone = await session.page.profile_phone() if is_new else None
            session.touch()
        if is_new or account.state != "ready":
            await self.database.all("set_ready", account=account.id, phone=phone)
            await self.database.all("open_linked_gate", account=account.id)
        return session

    async def _trouble(self, drain: Drain, error: SendError) -> None:
        """Do what an error asks of the account; the job's part is written already."""
        # By its code alone: a detail may name a recipient.
        log.warning("account %s: %s", drain.lane, error.code)
        if isinstance(error, AttemptFailed):
            await self._failure(drain.lane, error)
        elif isinstance(error, Banned):
            await self._banned(drain.lane)
        elif isinstance(error, NotScanned):
            await self._give_back(drain, error)
        elif isinstance(error, NotLinked):
            await self.seats.close(drain.lane)
            await self._close_gate(drain.lane, None, "not_linked", attend=0)
        elif isinstance(error, Offline):
            await self._close_gate(drain.lane, OFFLINE, error.code, attend=OFFLINE)
        elif isinstance(error, ProfileElsewhere):
            await self._send_home(drain.lane, error)
        elif isinstance(error, UiChanged | OpenElsewhere):
            await self._quarantine(drain.lane, error)

    async def _close_gate(
        self, account: str, seconds: float | None, reason: str, *, attend: float | None = None
    ) -> None:
        """Close the gate for so many seconds, or until somebody opens it; look again after `attend` seconds."""
        await self.database.all("close_gate", lane=account, seconds=seconds, reason=reason)
        await self.database.all("settle_later", account=account, seconds=attend or SETTLE_LATER)
        if attend is not None:
            await self.database.all("attend", lane=account, seconds=attend)

    async def _failure(self, account: str, error: AttemptFailed) -> None:
        # A page that hung, crashed or got lost is not trusted with another message.
        await self.seats.close(account)
        row = await self.database.one("count_failure", account=account)
        failures = row["failures_in_a_row"] if row else 0
        pause, state = backoff(max(failures, 1), base=1, factor=2, cap=RECONNECT_CAP), "disconnected"
        if self.breaker_failures and failures >= self.breaker_failures:
            pause, state = self.breaker_seconds, "circuit_open"
        await self.database.all("set_state", account=account, state=state, reason=error.summary)
        await self._close_gate(account, pause, error.code, attend=pause)

    async def _give_back(self, drain: Drain, error: NotScanned) -> None:
        # Written first, and only if nobody asked again meanwhile: closing a browser takes seconds, and a person who
        # sees that the codes have ended clicks on connect.
        async with self.database.transaction() as tx:
            await tx.all("lock_account", account=drain.lane)
            await tx.all("give_back", account=drain.lane, began=drain.began, reason=error.summary)
        await self.seats.leave(drain.lane, error.summary)

    async def _send_home(self, account: str, error: ProfileElsewhere) -> None:
        """Let the worker go on that has the account's profile, if it lives."""
        await self.seats.leave(account, error.summary)
        if at_home := await self.database.one("worker_at_home", account=account, worker=self.seats.worker):
            await self.database.all("move_lane", lane=account, queue=f"account@{at_home['id']}")
            await self.database.all("attend", lane=account, seconds=0)
        else:
            await self._close_gate(account, ELSEWHERE, error.code, attend=ELSEWHERE)

    async def _banned(self, account: str) -> None:
        """Two looks, 30 s apart, before it counts as a ban; from there only a person resumes."""
        rows = await self.database.read(Account, "account_to_drain", account=account)
        second_look = bool(rows) and rows[0].state == "suspected_ban"
        state = "banned" if second_look else "suspected_ban"
        await self.database.all("set_state", account=account, state=state, reason="The page shows a ban screen.")
        await self._close_gate(account, None, state, attend=None if second_look else self.look_again)
        if second_look:
            await self.seats.close(account)

    async def _quarantine(self, account: str, error: AccountWaits) -> None:
        with suppress(PostriderError):
            await self.seats.picture(account)
        await self.seats.close(account)
        await self.database.all("set_state", account=account, state="disconnected", reason=error.summary)
        await self._close_gate(account, None, error.code)
