"""What happens to an account after an error: it connects again, waits, or stops until a person has looked at it."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from errors import (
    AccountWaits,
    AttemptFailed,
    Banned,
    LeaseLost,
    LoggedOut,
    NoSeat,
    NotLinked,
    Offline,
    OpenElsewhere,
    OutcomesUnknown,
    PairingRefused,
    PostriderError,
    ProfileElsewhere,
    ProfileUnreadable,
    SendError,
    UiChanged,
)
from sql.database import Database, Transaction
from tasks.backoff import backoff
from tasks.lanes import Drain
from tasks.sending.jobs import SETTLE_RETRY_SECONDS
from tasks.web.evidence_store import EvidenceStore
from tasks.web.linking import NotScanned
from tasks.web.seats import Seats
from tasks.web.state_changes import States
from tasks.web.states import OPEN, State

log = logging.getLogger(__name__)

BAN_RECHECK_SECONDS = 30.0  # seconds between the two looks at a ban screen
UI_RECHECK_SECONDS = 600.0, 1800.0, 3600.0  # seconds until the first, second and every further check of a changed page
PROFILE_RETRY_SECONDS = 10.0  # seconds until the next attempt while no live worker has the account's profile
SEAT_RETRY_SECONDS = 10.0  # seconds until an account that is to be linked asks for a seat again
RECONNECTS = 5  # attempts to connect again, 1, 2, 4, 8 and 16 s apart, until the account is disconnected
RECONNECT_CAP = 30.0  # seconds
DISCONNECTED_RETRY_SECONDS = 60.0  # seconds between further attempts
DOUBT_SECONDS = 1.0  # seconds until a page that was not recognised during a message is reopened
SETTLE_LATER_SECONDS = 60.0  # seconds between attempts to settle a job while only a person can open its account


@dataclass
class AccountErrors:
    """Handles the errors of a worker's accounts. Its writes are fenced by the lease."""

    database: Database
    worker: str
    seats: Seats
    states: States
    evidence: EvidenceStore
    breaker_failures: int
    breaker_seconds: float
    #: seconds between the two looks at a ban screen
    ban_recheck_seconds: float = BAN_RECHECK_SECONDS
    #: seconds until a page that was not recognised is checked again: the first, second and every further time
    ui_recheck_seconds: tuple[float, ...] = UI_RECHECK_SECONDS

    async def handle(self, drain: Drain, error: SendError, *, opening: bool = False) -> None:
        """Handle an error for its account; the job's result is already written. `opening`: there was no message."""
        # Log only the code: a detail may name a recipient.
        log.warning(
            "account %s: %s", drain.lane, error.code,
            extra={"event": "account.trouble", "account": drain.lane, "code": error.code},
        )  # fmt: skip
        for kind, handler in self._table(opening=opening):
            if isinstance(error, kind):
                try:
                    await handler(drain, error)
                except LeaseLost:
                    log.warning(
                        "account %s is another worker's by now", drain.lane,
                        extra={"event": "lease.lost", "account": drain.lane},
                    )  # fmt: skip
                return

    def _table(
        self, *, opening: bool
    ) -> tuple[tuple[type[SendError], Callable[[Drain, SendError], Awaitable[None]]], ...]:
        """Return the handler of each kind of error; the first match counts."""
        return (
            (OutcomesUnknown, self._break),
            (AttemptFailed, self._reopen if opening else self._failure),
            (Banned, self._banned),
            (LoggedOut, self._logged_out),
            (NotScanned, self._give_back),
            (PairingRefused, self._give_back),
            (NotLinked, self._reopen_to_check),
            (Offline, self._offline),
            (ProfileElsewhere, self._send_home),
            (NoSeat, self._no_seat),
            (UiChanged, self._not_known if opening else self._doubt),
            (OpenElsewhere, self._quarantine if opening else self._reopen_to_check),
            (ProfileUnreadable, self._quarantine),
        )

    async def _close_gate(
        self,
        account: str,
        seconds: float | None,
        reason: str,
        *,
        attend: float | None = None,
        unless_asked: Drain | None = None,
    ) -> None:
        """Close the gate for so many seconds, or until it is opened explicitly; drain again after `attend` seconds.

        With the drain `unless_asked`, do nothing if a person has asked for the account since that drain began.
        """
        await self.database.all(
            "close_held_gate", account=account, worker=self.worker, seconds=seconds, reason=reason, attend=attend,
            look=attend or SETTLE_LATER_SECONDS, began=unless_asked and unless_asked.began,
            attend_at=unless_asked and unless_asked.attend_at,
        )  # fmt: skip

    async def _count(self, counter: str, account: str, **values: object) -> int:
        row = await self.database.one(counter, account=account, worker=self.worker, **values)
        if row is None:
            raise LeaseLost
        return int(row["failures"])

    # --- connecting again --------------------------------------------------------------------------------------------

    async def _failure(self, drain: Drain, error: SendError) -> None:
        """Reopen the page: after a hang or a crash, or in the wrong chat, it is not trusted with another message."""
        await self.seats.close(drain.lane)
        failures = await self._count("count_failure", drain.lane)
        if self.breaker_failures and failures >= self.breaker_failures:
            await self._open_circuit(drain, error)
            return
        pause = backoff(failures, base=1, factor=2, cap=RECONNECT_CAP)
        await self._close_gate(drain.lane, pause, error.code, attend=pause)
        await self.states.change(drain.lane, State.starting, error.summary)

    async def _break(self, drain: Drain, error: SendError) -> None:
        """Open the circuit at once, whatever the count of other failures."""
        await self.seats.close(drain.lane)
        if self.breaker_failures:
            await self._open_circuit(drain, error)

    async def _open_circuit(self, drain: Drain, error: SendError) -> None:
        await self._close_gate(drain.lane, self.breaker_seconds, error.code, attend=self.breaker_seconds)
        async with self.database.transaction() as tx:
            await self.states.reach(tx, drain.lane, State.circuit_open, error.summary)

    async def _reopen(self, drain: Drain, error: SendError) -> None:
        await self.evidence_of(drain.lane, error)
        await self.seats.close(drain.lane)
        await self._reconnect(drain, error)

    async def _offline(self, drain: Drain, error: SendError) -> None:
        # The page stays open: it connects again by itself, without a restart.
        await self._reconnect(drain, error)

    async def _reconnect(self, drain: Drain, error: SendError) -> None:
        failures = await self._count("count_reconnect", drain.lane)
        if failures <= RECONNECTS:
            pause = backoff(failures, base=1, factor=2, cap=RECONNECT_CAP)
            await self._close_gate(drain.lane, pause, error.code, attend=pause)
            await self._note_reason(drain.lane, error)
            return
        # Other accounts can use its seat meanwhile.
        await self._close_gate(drain.lane, DISCONNECTED_RETRY_SECONDS, error.code, attend=DISCONNECTED_RETRY_SECONDS)
        await self.seats.leave(drain.lane, error.summary, to=State.disconnected)

    async def _note_reason(self, account: str, error: SendError) -> None:
        """Write why an account is not ready yet, or is no longer ready after its browser was closed."""

        async def write(tx: Transaction) -> None:
            row = await self.states.held(tx, account)
            # Other states, such as suspected_ban and disconnected, stay; so does that of a session that is still open.
            if row["state"] == State.starting or (row["state"] in OPEN and self.seats.live(account) is None):
                await self.states.write(tx, row, State.starting, error.summary)

        await self.database.transact(write)

    async def _reopen_to_check(self, drain: Drain, error: SendError) -> None:
        """Reopen the page, to see whether the login still holds."""
        await self.seats.close(drain.lane)
        # A gate that is closed for another reason keeps it: `not_linked` would be opened by the next ready session.
        reason = drain.gate_reason if drain.for_good and drain.gate_reason else "not_linked"
        await self._close_gate(drain.lane, None, reason, attend=0)
        log.debug("account %s is looked at again: %s", drain.lane, error.code)

    # --- linking -----------------------------------------------------------------------------------------------------

    async def _logged_out(self, drain: Drain, error: SendError) -> None:
        await self._close_gate(drain.lane, None, error.code)
        await self.seats.leave(drain.lane, error.summary, to=State.auth_failed, login="aside")

    async def _give_back(self, drain: Drain, error: SendError) -> None:
        # Written first, and only if nobody asked again meanwhile: closing a browser takes seconds, in which a person
        # who sees that the codes have expired may click on connect.
        async def write(tx: Transaction) -> None:
            await self.states.held(tx, drain.lane)
            await tx.all("disconnect_unscanned", account=drain.lane, worker=self.worker, began=drain.began)

        await self.database.transact(write)
        await self.seats.leave(drain.lane, error.detail, to=State.disconnected)

    async def _no_seat(self, drain: Drain, error: SendError) -> None:
        await self.seats.leave(drain.lane, error.summary)
        await self.database.all("attend", lane=drain.lane, seconds=SEAT_RETRY_SECONDS)

    async def _send_home(self, drain: Drain, error: SendError) -> None:
        """Hand the account to the worker that has its profile, if that worker is alive."""
        at_home = await self.database.one("worker_at_home", account=drain.lane, worker=self.worker)
        if at_home is None:
            await self._close_gate(drain.lane, PROFILE_RETRY_SECONDS, error.code, attend=PROFILE_RETRY_SECONDS)
        await self.seats.leave(drain.lane, error.summary)
        if at_home:
            await self.database.all("move_lane", lane=drain.lane, queue=f"account@{at_home['id']}")
            await self.database.all("attend", lane=drain.lane, seconds=0)

    # --- stopping ----------------------------------------------------------------------------------------------------

    async def _banned(self, drain: Drain, error: SendError) -> None:
        """Count a ban screen as a ban when it is seen twice, 30 s apart; then only a person resumes the account."""
        async with self.database.transaction() as tx:
            row = await self.states.held(tx, drain.lane)
        second_look = row["state"] == State.suspected_ban
        state = State.banned if second_look else State.suspected_ban
        await self.evidence_of(drain.lane, error)
        await self._close_gate(drain.lane, None, state, attend=None if second_look else self.ban_recheck_seconds)
        await self.states.change(drain.lane, state, "The page shows a ban screen.")
        if second_look:
            await self.seats.leave(drain.lane, "The page shows a ban screen.")

    async def _doubt(self, drain: Drain, error: SendError) -> None:
        """Reopen the page, once: a page that reloaded itself during a message lacks elements for that reason alone."""
        await self.seats.close(drain.lane)
        if await self._count("doubt_page", drain.lane, selectors=self.seats.selectors.fingerprint) > 1:
            await self._stop_until_known(drain, error)
            return
        await self._close_gate(drain.lane, DOUBT_SECONDS, error.code, attend=DOUBT_SECONDS)
        await self._note_reason(drain.lane, error)

    async def wait_for_settling(self, drain: Drain, seconds: float) -> None:
        """Let no new message be typed on a page in doubt before the submitted one is settled.

        Wait at most so many seconds from Enter: the chat of that message may be the only one that cannot be read.
        """
        row = await self.database.one("unsettled", account=drain.lane, seconds=seconds)
        if row and row["unsettled"]:
            await self._close_gate(drain.lane, SETTLE_RETRY_SECONDS, UiChanged.code, attend=SETTLE_RETRY_SECONDS)

    async def _not_known(self, drain: Drain, error: SendError) -> None:
        await self.evidence_of(drain.lane, error)
        await self._stop_until_known(drain, error)

    async def _stop_until_known(self, drain: Drain, error: SendError) -> None:
        """Stop, and check after a while whether the page is recognised again; sooner when there are new selectors.

        If a person has resumed the account meanwhile, it is only given back, and reopened at once.
        """
        row = await self.database.one(
            "stop_until_known",
            account=drain.lane,
            worker=self.worker,
            began=drain.began,
            attend_at=drain.attend_at,
            selectors=self.seats.selectors.fingerprint,
            pauses=list(self.ui_recheck_seconds),
        )
        if row is not None:
            again = row["seconds"]
            await self._close_gate(drain.lane, None, UiChanged.code, attend=again, unless_asked=drain)
        missing = isinstance(error, UiChanged) and error.element
        detail = f"{error.summary} It lacks {missing}." if missing else error.summary
        await self.seats.leave(drain.lane, detail, to=State.disconnected)

    async def _quarantine(self, drain: Drain, error: SendError) -> None:
        await self.evidence_of(drain.lane, error)
        await self._stop(drain, error)

    async def _stop(self, drain: Drain, error: SendError) -> None:
        await self._close_gate(drain.lane, None, error.code)
        await self.seats.leave(drain.lane, error.summary, to=State.disconnected)

    async def evidence_of(self, account: str, error: PostriderError) -> None:
        """Keep a picture and the page's structure, where there is a page."""
        if session := self.seats.live(account):
            await self.evidence.keep(account, error.sign, session.page)


def is_of_account(error: SendError) -> bool:
    """Tell whether an error is the account's or the page's, and not the recipient's."""
    return isinstance(error, AttemptFailed | AccountWaits)
