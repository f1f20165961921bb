"""The requests of one drain of an endpoint's lane: how many are in flight at once, and when the endpoint rests."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from errors import DatabaseError
from sql.database import Database, Transaction
from tasks.delivery.connections import Connections
from tasks.delivery.endpoint_health import OVERLOADED, PROVEN, RETRY_AFTER_CAP, EndpointHealth
from tasks.delivery.rate import Rate
from tasks.delivery.recover import recover
from tasks.delivery.request import Answer, Delivery
from tasks.lanes import SLICE, Drain, wake_returned
from tasks.queue import FAST, SLOW

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5  # seconds between queries for more due deliveries while requests are in flight
#: Seconds that a drain waits for the rate limit. For a longer wait it ends, and the pulse wakes the lane a second late.
LONGEST_WAIT = 5.0
#: Seconds until the retry after a failure of our own network; doubles each time, up to the cap.
OFFLINE_BACKOFF, OFFLINE_BACKOFF_CAP = 5.0, 60.0
GONE, TOO_MANY_REQUESTS = 410, 429  # RFC 9110, 15.5.11; RFC 6585, 4


class Ended(NamedTuple):
    """A request that has ended."""

    delivery: Delivery
    answer: Answer
    #: done once its result is committed
    written: asyncio.Future[None]


@dataclass
class Dispatch:
    """The requests of one drain: as many in flight at once as the endpoint's health and rate allow."""

    database: Database
    worker: str
    #: makes a request and records its result
    deliver: Callable[[Delivery, Connections], Coroutine[Any, Any, Ended]]
    stopping: Callable[[], bool]
    drain: Drain
    #: the URL that `health` is about
    url: str
    health: EndpointHealth
    rate: Rate
    connections: Connections
    #: a recovery is open: when nothing else is due, it adds deliveries of missed events
    recovers: bool = False
    #: no more requests may begin: the endpoint rests from now on
    resting: bool = False
    #: the last query found as many deliveries as it asked for, so that more may be due
    full: bool = True
    #: when the last query was made, by the monotonic clock
    looked: float = 0.0
    #: the health that Postgres has
    written: EndpointHealth = field(init=False)
    under_way: set[asyncio.Task[Ended]] = field(default_factory=set)
    #: results that are not committed yet; the next requests do not wait for them
    unwritten: set[asyncio.Future[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.written = self.health

    def begin(self, taken: Sequence[Delivery], most: int) -> None:
        """Make the requests of deliveries that were taken as the drain began, when at most so many were."""
        self.under_way |= {asyncio.create_task(self.deliver(delivery, self.connections)) for delivery in taken}
        self.full = len(taken) == most or self.recovers
        if not self.full:
            self.looked = time.monotonic()

    async def run(self) -> bool:
        """Make requests until none is due or the time slice is over; return whether more may be due."""
        end = time.monotonic() + SLICE
        try:
            while not self.resting and not self.stopping() and time.monotonic() < end:
                await self._take()
                if not (self.under_way or self.full):
                    break
                await self._wait()
            while self.under_way:
                await self._wait()
            if self.unwritten:
                await asyncio.wait(self.unwritten)
                self._note_written()
            if self.health != self.written or self.rate.wait:
                await self._write(0.0, None)
        except Exception:
            # Requests in flight may have arrived: wait for their results.
            if self.under_way:
                done, self.under_way = await asyncio.wait(self.under_way)
                with suppress(DatabaseError):
                    await self._learn([task.result() for task in done])
            if self.unwritten:
                await asyncio.wait(self.unwritten)
            raise
        finally:
            # Only a drain that is cancelled still has any; their deliveries are released and sent again.
            for task in self.under_way:
                task.cancel()
        return self.full and not self.resting

    async def _take(self) -> None:
        """Begin requests, if at least half of the slots for requests in flight are free."""
        room = self.health.in_flight - len(self.under_way)
        early = not self.full and time.monotonic() < self.looked + POLL_SECONDS
        if early or room < max(1, self.health.in_flight // 2) or self._is_behind():
            return
        most = self.rate.allows(room)
        if not most:
            return
        begun = await self._begin(most)
        if begun < most and self.recovers:
            self.recovers = await recover(self.database, self.drain, self.health.in_flight)
            begun += await self._begin(most - begun)
        self.looked, self.full = time.monotonic(), begun == most or self.recovers

    async def _begin(self, most: int) -> int:
        """Begin up to `most` requests, as far as deliveries are due; return how many."""
        rows = await self.database.all(
            "take_deliveries",
            lane=self.drain.lane,
            epoch=self.drain.epoch,
            worker=self.worker,
            begins=False,
            most=most,
        )
        taken = Delivery.of(rows)
        self.rate.used(len(taken))
        self.under_way |= {asyncio.create_task(self.deliver(delivery, self.connections)) for delivery in taken}
        return len(taken)

    async def _wait(self) -> None:
        """Wait until a request has ended or more may begin."""
        if self.full and self.rate.wait > LONGEST_WAIT and not self.under_way:
            await self._rest(self.rate.wait, "rate_limit")
            return
        pause = min(POLL_SECONDS, self.rate.wait or POLL_SECONDS)
        waited: set[asyncio.Future[Any]] = {*self.under_way}
        if not waited or self._is_behind():
            waited |= self.unwritten
        if not waited:
            await asyncio.sleep(pause)
            return
        done, _ = await asyncio.wait(waited, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
        self._note_written()
        ended, self.under_way = self.under_way & done, self.under_way - done
        if ended:
            await self._learn([task.result() for task in ended])

    def _note_written(self) -> None:
        """Forget the results that are committed. Raise what one of them could not be written for."""
        ended = {written for written in self.unwritten if written.done()}
        self.unwritten -= ended
        for written in ended:
            written.result()

    def _is_behind(self) -> bool:
        """Tell whether Postgres does not write results as fast as requests end."""
        return len(self.unwritten) > self.health.in_flight

    async def _learn(self, results: Sequence[Ended]) -> None:
        """Update the endpoint's health by the results; let the endpoint rest, or disable it, if they require that."""
        self.unwritten |= {written for _, _, written in results}
        before, now = self.health, max(delivery.attempt_at for delivery, _, _ in results)
        for _, answer, _ in results:
            if answer.ok:
                self.health = self.health.succeeded()
            elif answer.counts:
                overloaded = answer.status in OVERLOADED or answer.timed_out
                self.health = self.health.failed(now, overloaded=overloaded)
        if gone := [delivery for delivery, answer, _ in results if answer.status == GONE]:
            await self._disable(gone[0].url, "It answered 410 Gone.")
        elif self.health.is_hopeless(now):
            await self._disable(self.url, "There was nothing but failures for five days.")
        elif rest := self._rest_for([answer for _, answer, _ in results if not answer.ok]):
            await self._rest(*rest)
        elif self.health.failures != before.failures:
            await self._write(0.0, None)
        await self._choose_queue([answer for _, answer, _ in results])

    def _rest_for(self, failed: Sequence[Answer]) -> tuple[float, str] | None:
        """Return how many seconds the endpoint must rest now, and why."""
        if any(not answer.counts for answer in failed):
            self.health = self.health.rested()
            return min(OFFLINE_BACKOFF * 2 ** (self.health.rests - 1), OFFLINE_BACKOFF_CAP), "own_fault"
        if not failed:
            return None
        asked = max(answer.retry_after for answer in failed)
        refused = any(answer.status == TOO_MANY_REQUESTS for answer in failed)
        # Failures of requests in flight when the rest began do not prolong it, unless they have a Retry-After.
        seconds = asked if self.resting else self.health.rest(asked, refused=refused)
        if not seconds:
            return None
        if not self.resting:
            self.health = self.health.rested()
        return min(seconds, RETRY_AFTER_CAP), "retry_after" if asked else "failing"

    async def _rest(self, seconds: float, reason: str) -> None:
        self.resting = True
        log.info(
            "endpoint %s is left alone for %.1f s: %s", self.drain.lane, seconds, reason,
            extra={"event": "endpoint.rests", "endpoint": self.drain.lane, "seconds": round(seconds, 1),
                   "reason": reason},
        )  # fmt: skip
        await self._write(seconds, reason)

    async def _write(self, rest: float, reason: str | None) -> None:
        health = self.written = self.health
        await self.database.all(
            "write_health", lane=self.drain.lane, epoch=self.drain.epoch, url=self.url, in_flight=health.in_flight,
            failures=health.failures, rests=health.rests, failing_since=health.failing_since,
            failed_at=health.failed_at, rest=rest, reason=reason, not_ready_for=self.rate.wait,
        )  # fmt: skip

    async def _disable(self, url: str, reason: str) -> None:
        self.resting = True

        async def work(tx: Transaction) -> int:
            rows = await tx.all(
                "disable_endpoint", lane=self.drain.lane, epoch=self.drain.epoch, url=url, reason=reason
            )
            return await wake_returned(tx, rows)

        if await self.database.transact(work):
            log.warning(
                "endpoint %s is disabled: %s", self.drain.lane, reason,
                extra={"event": "endpoint.disabled", "endpoint": self.drain.lane, "reason": reason},
            )  # fmt: skip

    async def _choose_queue(self, answers: Sequence[Answer]) -> None:
        # Endpoints that hang or fail have a queue of their own, so that they cause no head-of-line blocking.
        hangs = any(answer.timed_out for answer in answers)
        queue = FAST if self.health.in_flight >= PROVEN and not hangs else SLOW
        if queue != self.drain.queue:
            await self.database.all("move_lane", lane=self.drain.lane, queue=queue)
            self.drain = replace(self.drain, queue=queue)
