"""One flush for many orders: those that come while the last flush is under way go together, in one statement.

A flush begins as soon as there is an order and fewer than FLUSHES are under way, so that nothing waits for company.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import psycopg
from psycopg import errors as postgres
from starlette.requests import Request

from api.sending.enqueue import AGAIN, ROUNDS, Acceptance, Answer, Order
from errors import DatabaseBusy, DatabaseSlow
from sql.database import RETRY_AFTER

log = logging.getLogger(__name__)

FLUSHES = 2  # under way at once: while Postgres writes one to its disk, the next is made
MOST_ORDERS = 256  # of one flush
MOST_BYTES = 1024 * 1024  # of one flush, unless a single order has more
PATIENCE = 2.0  # seconds that an order waits for its answer
LONGEST_LINE = 1.0  # seconds; while the first of an org's orders has waited for longer, no more of it are let in
MOST_WAITING = 32 * 1024 * 1024  # bytes of all orders that wait


@dataclass
class _Waiting:
    """An order, and whose answer is awaited."""

    order: Order
    org: str
    answer: asyncio.Future[Answer]
    since: float = field(default_factory=time.monotonic)
    rounds: int = 0


class Flusher:
    """Accepts orders in flushes. Orgs take turns, so that none waits for the many of another."""

    def __init__(self, acceptance: Acceptance, fatal: asyncio.Event) -> None:
        """`fatal` is set when it cannot go on, and the process has to end."""
        self.acceptance = acceptance
        self._fatal = fatal
        self._orgs: OrderedDict[str, deque[_Waiting]] = OrderedDict()
        self._bytes = 0
        self._wanted = asyncio.Event()

    def admit(self, org: str) -> None:
        """Raise DatabaseBusy if a further order of this org would wait for too long.

        For the beginning of a request: turned away later, it would have kept others waiting for nothing.
        """
        first = self._orgs[org][0].since if org in self._orgs else math.inf
        if time.monotonic() - first > LONGEST_LINE or self._bytes > MOST_WAITING:
            raise _busy()

    async def accept(self, org: str, order: Order) -> Answer:
        """Return the answer to an order of an org, once it is committed. Raises DatabaseError."""
        waiting = _Waiting(order, org, asyncio.get_running_loop().create_future())
        self._put(waiting)
        try:
            async with asyncio.timeout(PATIENCE):
                # A client that goes away, or has waited for too long, cancels this future and no flush.
                return await waiting.answer
        except TimeoutError:
            raise _busy() from None

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Flush during the block."""
        tasks = [asyncio.create_task(self._run()) for _ in range(FLUSHES)]
        for task in tasks:
            task.add_done_callback(self._ended)
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        # Without it, every order would wait in vain.
        if not task.cancelled():
            reason = repr(task.exception())
            log.error("the API ends: a flush has ended: %s", reason, extra={"event": "api.failed", "reason": reason})
            self._fatal.set()

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
        self._bytes += len(waiting.order.row)
        self._wanted.set()

    def _take(self) -> list[_Waiting]:
        """Take the orders of the next flush, one of each org in turn."""
        taken, size = list[_Waiting](), 0
        while self._orgs and len(taken) < MOST_ORDERS:
            org, queue = self._orgs.popitem(last=False)
            more = len(queue[0].order.row)
            if not queue[0].answer.done():
                if taken and size + more > MOST_BYTES:
                    self._orgs[org] = queue
                    break
                taken.append(queue[0])
                size += more
            queue.popleft()
            self._bytes -= more
            if queue:
                self._orgs[org] = queue
        return taken

    # --- a flush -----------------------------------------------------------------------------------------------------

    async def _flush(self, taken: Sequence[_Waiting]) -> None:
        """Accept these orders, and answer each. If all fail for one of them, halves are tried until it stands alone."""
        taken = [each for each in taken if not each.answer.done()]
        if not taken:
            return
        try:
            outcomes = await self.acceptance.insert([each.order for each in taken])
            answered = list(zip(taken, outcomes, strict=True))
        except Exception as error:  # noqa: BLE001  # raised to each that waits
            if len(taken) > 1 and _rolled_back(error):
                half = len(taken) // 2
                await self._flush(taken[:half])
                await self._flush(taken[half:])
                return
            for each in taken:
                _fail(each, error)
            return
        for each, outcome in answered:
            each.rounds += 1
            if outcome.outcome == AGAIN and each.rounds < ROUNDS:
                self._put(each)
                continue
            try:
                _settle(each, _busy() if outcome.outcome == AGAIN else self.acceptance.answer(each.order, outcome))
            except Exception as error:  # noqa: BLE001  # raised to the one that waits
                _fail(each, error)
        await self.acceptance.wake(outcomes)


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
