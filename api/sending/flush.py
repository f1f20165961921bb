"""One flush for many orders: those that come while the last flush is under way go together, in one statement.

A flush begins as soon as there is an order and fewer than FLUSHES are under way, so that nothing waits for company.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import psycopg
from psycopg import errors as postgres
from starlette.requests import Request

from api.sending.acceptance import AGAIN, ROUNDS, Acceptance, Answer, Order, to_wake
from errors import DatabaseBusy, DatabaseSlow
from sql.database import RETRY_AFTER

log = logging.getLogger(__name__)

FLUSHES = 2  # under way at once: while Postgres writes one to its disk, the next is made
MOST_ORDERS = 256  # of one flush
MOST_BYTES = 1024 * 1024  # of one flush, unless a single order has more
PATIENCE = 2.0  # seconds that an order waits for its flush to begin
LONGEST_LINE = 1.0  # seconds; while the first of an org's orders has waited for longer, no more of it are let in
MOST_OF_AN_ORG, MOST_WAITING = 8 * 1024 * 1024, 32 * 1024 * 1024  # bytes of the orders that wait
#: Seconds that a flush waits for a name that another transaction holds, as all its orders do; one alone has more.
NAME_PATIENCE, NAME_PATIENCE_ALONE = 0.1, 0.5


@dataclass
class _Waiting:
    """An order, and whose answer is awaited."""

    order: Order
    org: str
    answer: asyncio.Future[Answer]
    since: float = field(default_factory=time.monotonic)
    rounds: int = 0
    taken: bool = False

    @cached_property
    def size(self) -> int:
        """Its bytes."""
        return len(self.order.row)


class Flusher:
    """Accepts orders in flushes. Orgs take turns, so that none waits for the many of another."""

    def __init__(self, acceptance: Acceptance, fatal: asyncio.Event) -> None:
        """`fatal` is set when it cannot go on, and the process has to end."""
        self.acceptance = acceptance
        self._fatal = fatal
        self._orgs: OrderedDict[str, deque[_Waiting]] = OrderedDict()
        self._bytes: Counter[str] = Counter()
        self._all_bytes = 0
        self._wanted = asyncio.Event()
        self._lanes: set[str] = set()
        self._to_wake = asyncio.Event()
        self._closing = False

    def admit(self, org: str) -> None:
        """Raise DatabaseBusy if a further order of this org would wait for too long.

        For the beginning of a request: turned away later, it would have kept others waiting for nothing.
        """
        first = self._orgs[org][0].since if org in self._orgs else math.inf
        if time.monotonic() - first > LONGEST_LINE or not self._has_room(org, 0):
            raise _busy()

    def _has_room(self, org: str, more: int) -> bool:
        return self._bytes[org] + more <= MOST_OF_AN_ORG and self._all_bytes + more <= MOST_WAITING

    async def accept(self, org: str, order: Order) -> Answer:
        """Return the answer to an order of an org, once it is committed. Raises DatabaseError.

        After DatabaseBusy it is not accepted.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(order, org, loop.create_future())
        if not self._has_room(org, waiting.size):
            raise _busy()
        self._put(waiting)
        timer = loop.call_later(PATIENCE, _give_up, waiting)
        try:
            # A client that goes away cancels this future, and no flush.
            return await waiting.answer
        finally:
            timer.cancel()

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Flush during the block."""
        tasks = [asyncio.create_task(work()) for work in [*[self._run] * FLUSHES, self._wake]]
        for task in tasks:
            task.add_done_callback(self._ended)
        try:
            yield
        finally:
            self._closing = True
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        # Without it, every order would wait in vain.
        if not self._closing:
            reason = "cancelled" if task.cancelled() else repr(task.exception())
            log.error("the API ends: a flush has ended: %s", reason, extra={"event": "api.failed", "reason": reason})
            self._fatal.set()

    async def _wake(self) -> None:
        """Wake lanes, apart from the flushes: a wake-up that somebody holds must delay no message."""
        while True:
            await self._to_wake.wait()
            self._to_wake.clear()
            lanes, self._lanes = self._lanes, set()
            try:
                await self.acceptance.wake(lanes)
            except Exception:
                log.exception("lanes were not woken, and wait for their marks", extra={"event": "wakeup.failed"})

    async def _run(self) -> None:
        while True:
            await self._wanted.wait()
            if taken := self._take():
                await self._flush(taken)
            else:
                self._wanted.clear()

    # --- what waits --------------------------------------------------------------------------------------------------

    def _put(self, waiting: _Waiting) -> None:
        self._orgs.setdefault(waiting.org, deque()).append(waiting)
        self._bytes[waiting.org] += waiting.size
        self._all_bytes += waiting.size
        self._wanted.set()

    def _take(self) -> list[_Waiting]:
        """Take the orders of the next flush, one of each org in turn."""
        taken, size = list[_Waiting](), 0
        while self._orgs and len(taken) < MOST_ORDERS:
            org = next(iter(self._orgs))
            queue = self._orgs[org]
            first = queue[0]
            if not first.answer.done():
                size += first.size
                if taken and size > MOST_BYTES:
                    break  # it is the first of the next one
                first.taken = True
                taken.append(first)
            queue.popleft()
            self._bytes[org] -= first.size
            self._all_bytes -= first.size
            self._orgs.move_to_end(org)
            if not queue:
                del self._orgs[org], self._bytes[org]
        return taken

    # --- a flush -----------------------------------------------------------------------------------------------------

    async def _flush(self, taken: Sequence[_Waiting]) -> None:
        """Accept these orders, and answer each. If all fail for one of them, parts are tried until it stands alone."""
        taken = [each for each in taken if not each.answer.done()]
        if not taken:
            return
        patience = NAME_PATIENCE if len(taken) > 1 else NAME_PATIENCE_ALONE
        try:
            outcomes = await self.acceptance.insert([each.order for each in taken], patience)
            answered = list(zip(taken, outcomes, strict=True))
        except Exception as error:  # noqa: BLE001  # raised to each that waits
            if len(taken) > 1 and _rolled_back(error):
                for part in _parts(taken):
                    await self._flush(part)
                return
            for each in taken:
                _fail(each, error)
            return
        for each, outcome in answered:
            each.rounds += 1
            if outcome.outcome == AGAIN and each.rounds < ROUNDS:
                each.order = each.order.once_more()
                self._put(each)
                continue
            try:
                _settle(each, _busy() if outcome.outcome == AGAIN else self.acceptance.answer(each.order, outcome))
            except Exception as error:  # noqa: BLE001  # raised to the one that waits
                _fail(each, error)
        if lanes := to_wake(outcomes):
            self._lanes |= lanes
            self._to_wake.set()


def _parts(taken: Sequence[_Waiting]) -> list[Sequence[_Waiting]]:
    """Return the orders of each org, the fewest first, or halves of those of one: others must not wait for its name."""
    orgs: dict[str, list[_Waiting]] = {}
    for each in taken:
        orgs.setdefault(each.org, []).append(each)
    half = len(taken) // 2
    return sorted(orgs.values(), key=len) if len(orgs) > 1 else [taken[:half], taken[half:]]


def _give_up(waiting: _Waiting) -> None:
    """Refuse an order whose flush has not begun; once it has, it may be a job."""
    if not waiting.taken:
        _fail(waiting, _busy())


def _settle(waiting: _Waiting, answer: Answer) -> None:
    if not waiting.answer.done():
        waiting.answer.set_result(answer)


def _fail(waiting: _Waiting, error: Exception) -> None:
    if not waiting.answer.done():
        waiting.answer.set_exception(error)


def _rolled_back(error: Exception) -> bool:
    """Tell whether Postgres has refused the statement for what one of its orders was: nothing of it is there."""
    if isinstance(error, DatabaseSlow):
        return isinstance(error.__cause__, postgres.LockNotAvailable)
    return isinstance(error, psycopg.Error) and error.sqlstate is not None


def _busy() -> DatabaseBusy:
    return DatabaseBusy(retry_after=RETRY_AFTER[DatabaseBusy])


def flusher_of(request: Request) -> Flusher:
    """Return the flusher of the app that serves this request."""
    flusher: Flusher = request.app.state.flusher
    return flusher
