"""What an error asks of an account: to connect again, to wait, or to stop until somebody has looked."""

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
from tasks.sending.jobs import SETTLE_AGAIN
from tasks.web.evidence_store import EvidenceStore
from tasks.web.linking import NotScanned
from tasks.web.seats import Seats
from tasks.web.state_changes import States
from tasks.web.states import OPEN, State

log = logging.getLogger(__name__)

LOOK_AGAIN = 30.0  # seconds between two looks at a ban screen
LOOK_ANEW = 600.0, 1800.0, 3600.0  # seconds
ELSEWHERE = 10.0  # seconds
NO_SEAT = 10.0  # seconds until an account asks for a seat to be linked in again
RECONNECTS = 5  # tries to connect again, 1, 2, 4, 8 and 16 s apart, until the account is disconnected
RECONNECT_CAP = 30.0  # seconds
LOST = 60.0  # seconds between further tries
DOUBT = 1.0  # seconds until a page that was not recognised under a message is opened anew
SETTLE_LATER = 60.0  # seconds between looks at what is submitted, while only a person can open the account


@dataclass
class AccountErrors:
    """Meets the errors of a worker's accounts. What is written is fenced by the lease."""

    database: Database
    worker: str
    seats: Seats
    states: States
    evidence: EvidenceStore
    breaker_failures: int
    breaker_seconds: float
    #: seconds between two looks at a ban screen
    look_again: float = LOOK_AGAIN
    #: seconds until a page that is not known is looked at again: the first, second and every further time
    look_anew: tuple[float, ...] = LOOK_ANEW

    async def meet(self, drain: Drain, error: SendError, *, opening: bool = False) -> None:
        """Do what an error asks of the account; the job's part is written. `opening`: no message was at hand."""
        # By its code alone: a detail may name a recipient.
        log.warning(
            "account %s: %s", drain.lane, error.code,
            extra={"event": "account.trouble", "account": drain.lane, "code": error.code},
        )  # fmt: skip
        for kind, met in self._table(opening=opening):
            if isinstance(error, kind):
                try:
                    await met(drain, error)
                except LeaseLost:
                    log.warning(
                        "account %s is another worker's by now", drain.lane,
                        extra={"event": "lease.lost", "account": drain.lane},
                    )  # fmt: skip
                return

    def _table(
        self, *, opening: bool
    ) -> tuple[tuple[type[SendError], Callable[[Drain, SendError], Awaitable[None]]], ...]:
        """List what is done about each kind of error; the first that fits counts."""
        return (
            (OutcomesUnknown, self._break),
            (AttemptFailed, self._reopen if opening else self._failure),
            (Banned, self._banned),
            (LoggedOut, self._logged_out),
            (NotScanned, self._give_back),
            (PairingRefused, self._give_back),
            (NotLinked, self._look),
            (Offline, self._offline),
            (ProfileElsewhere, self._send_home),
            (NoSeat, self._no_seat),
            (UiChanged, self._not_known if opening else self._doubt),
            (OpenElsewhere, self._quarantine if opening else self._look),
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
        """Close the gate for so many seconds, or until somebody opens it; look again after `attend` seconds.

        Given a drain, leave it as it is where somebody has asked for the account since that began.
        """
        await self.database.all(
            "close_held_gate", account=account, worker=self.worker, seconds=seconds, reason=reason, attend=attend,
            look=attend or SETTLE_LATER, began=unless_asked and unless_asked.began,
            attend_at=unless_asked and unless_asked.attend_at,
        )  # fmt: skip

    async def _count(self, counter: str, account: str, **values: object) -> int:
        row = await self.database.one(counter, account=account, worker=self.worker, **values)
        if row is None:
            raise LeaseLost
        return int(row["failures"])

    # --- connecting again --------------------------------------------------------------------------------------------

    async def _failure(self, drain: Drain, error: SendError) -> None:
        """Open the page anew: one that hung, crashed or got lost is not trusted with another message."""
        await self.seats.close(drain.lane)
        failures = await self._count("count_failure", drain.lane)
        if self.breaker_failures and failures >= self.breaker_failures:
            await self._open_circuit(drain, error)
            return
        pause = backoff(failures, base=1, factor=2, cap=RECONNECT_CAP)
        await self._close_gate(drain.lane, pause, error.code, attend=pause)
        await self.states.change(drain.lane, State.starting, error.summary)

    async def _break(self, drain: Drain, error: SendError) -> None:
        """Stop for a while, whatever the count of other failures."""
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
        # The page connects by itself, without a new boot, where it stands.
        await self._reconnect(drain, error)

    async def _reconnect(self, drain: Drain, error: SendError) -> None:
        failures = await self._count("count_reconnect", drain.lane)
        if failures <= RECONNECTS:
            pause = backoff(failures, base=1, factor=2, cap=RECONNECT_CAP)
            await self._close_gate(drain.lane, pause, error.code, attend=pause)
            await self._say_why(drain.lane, error)
            return
        # Its seat is of more use to others.
        await self._close_gate(drain.lane, LOST, error.code, attend=LOST)
        await self.seats.leave(drain.lane, error.summary, to=State.disconnected)

    async def _say_why(self, account: str, error: SendError) -> None:
        """Write why an account is not ready yet, or not any more since its browser was closed."""

        async def write(tx: Transaction) -> None:
            row = await self.states.held(tx, account)
            # A suspicion, and what was given up, stand as they are; and so does a session that was ready and is open.
            if row["state"] == State.starting or (row["state"] in OPEN and self.seats.live(account) is None):
                await self.states.write(tx, row, State.starting, error.summary)

        await self.database.transact(write)

    async def _look(self, drain: Drain, error: SendError) -> None:
        """Open the page anew, to see what has become of the login."""
        await self.seats.close(drain.lane)
        # Not a reason that the session alone ends, where another one keeps the gate closed.
        reason = drain.gate_reason if drain.for_good and drain.gate_reason else "not_linked"
        await self._close_gate(drain.lane, None, reason, attend=0)
        log.debug("account %s is looked at again: %s", drain.lane, error.code)

    # --- linking -----------------------------------------------------------------------------------------------------

    async def _logged_out(self, drain: Drain, error: SendError) -> None:
        await self._close_gate(drain.lane, None, error.code)
        await self.seats.leave(drain.lane, error.summary, to=State.auth_failed, login="aside")

    async def _give_back(self, drain: Drain, error: SendError) -> None:
        # Written first, and only if nobody asked again meanwhile: closing a browser takes seconds, and a person who
        # sees that the codes have ended clicks on connect.
        async def write(tx: Transaction) -> None:
            await self.states.held(tx, drain.lane)
            await tx.all("disconnect_unscanned", account=drain.lane, worker=self.worker, began=drain.began)

        await self.database.transact(write)
        await self.seats.leave(drain.lane, error.detail, to=State.disconnected)

    async def _no_seat(self, drain: Drain, error: SendError) -> None:
        await self.seats.leave(drain.lane, error.summary)
        await self.database.all("attend", lane=drain.lane, seconds=NO_SEAT)

    async def _send_home(self, drain: Drain, error: SendError) -> None:
        """Let the worker go on that has the account's profile, if it lives."""
        at_home = await self.database.one("worker_at_home", account=drain.lane, worker=self.worker)
        if at_home is None:
            await self._close_gate(drain.lane, ELSEWHERE, error.code, attend=ELSEWHERE)
        await self.seats.leave(drain.lane, error.summary)
        if at_home:
            await self.database.all("move_lane", lane=drain.lane, queue=f"account@{at_home['id']}")
            await self.database.all("attend", lane=drain.lane, seconds=0)

    # --- stopping ----------------------------------------------------------------------------------------------------

    async def _banned(self, drain: Drain, error: SendError) -> None:
        """Two looks, 30 s apart, before it counts as a ban; from there only a person resumes."""
        async with self.database.transaction() as tx:
            row = await self.states.held(tx, drain.lane)
        second_look = row["state"] == State.suspected_ban
        state = State.banned if second_look else State.suspected_ban
        await self.evidence_of(drain.lane, error)
        await self._close_gate(drain.lane, None, state, attend=None if second_look else self.look_again)
        await self.states.change(drain.lane, state, "The page shows a ban screen.")
        if second_look:
            await self.seats.leave(drain.lane, "The page shows a ban screen.")

    async def _doubt(self, drain: Drain, error: SendError) -> None:
        """Open the page anew, once: one that loaded itself anew under a message lacks what was there before."""
        await self.seats.close(drain.lane)
        if await self._count("doubt_page", drain.lane, selectors=self.seats.selectors.fingerprint) > 1:
            await self._stop_until_known(drain, error)
            return
        await self._close_gate(drain.lane, DOUBT, error.code, attend=DOUBT)
        await self._say_why(drain.lane, error)

    async def wait_for_settling(self, drain: Drain, seconds: float) -> None:
        """Let nothing new be typed on a page in doubt before it is told what became of the message in hand.

        It is waited for so many seconds from Enter: its own chat may be what cannot be looked at.
        """
        row = await self.database.one("unsettled", account=drain.lane, seconds=seconds)
        if row and row["unsettled"]:
            await self._close_gate(drain.lane, SETTLE_AGAIN, UiChanged.code, attend=SETTLE_AGAIN)

    async def _not_known(self, drain: Drain, error: SendError) -> None:
        await self.evidence_of(drain.lane, error)
        await self._stop_until_known(drain, error)

    async def _stop_until_known(self, drain: Drain, error: SendError) -> None:
        """Stop, and look again after a while whether the page is known; sooner when other selectors come.

        A person who resumes it meanwhile has the last word: it is given back, and opened anew at once.
        """
        row = await self.database.one(
            "stop_until_known",
            account=drain.lane,
            worker=self.worker,
            began=drain.began,
            attend_at=drain.attend_at,
            selectors=self.seats.selectors.fingerprint,
            pauses=list(self.look_anew),
        )
        if row is not None:
            again = row["seconds"]
            await self._close_gate(drain.lane, None, UiChanged.code, attend=again, unless_asked=drain)
        missing = isinstance(error, UiChanged) and error.element
        said = f"{error.summary} It lacks {missing}." if missing else error.summary
        await self.seats.leave(drain.lane, said, to=State.disconnected)

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
