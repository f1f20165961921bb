"""A worker: its sign of life, its consumers and duties, from start to a clean stop."""

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import httpx2
import procrastinate

from errors import DatabaseUnavailable
from sql.database import Database
from tasks.duty import keep
from tasks.lanes import PULSE, Lanes, Lost, Pulse
from tasks.queue import Consumer
from tasks.seats import Seats
from tasks.ticks import Ticks

log = logging.getLogger(__name__)

HEARTBEAT = 5.0  # seconds; 30 of silence are death
TICKS = 1.0  # seconds between looks for ticks
LOST = 5.0  # seconds between looks for lost wake-ups
STOP_LIMIT = 45.0  # seconds from the signal to the end


@dataclass
class Heartbeat:
    """The worker's sign of life in Postgres, and with it its leases."""

    database: Database
    worker: str
    seats: Seats
    consumers: Sequence[Consumer]
    lease_seconds: float
    grace_seconds: float
    #: set when the worker has to end, with the reason in `reason`
    fatal: asyncio.Event = field(default_factory=asyncio.Event)
    reason: str = ""
    _last: float = field(default_factory=time.monotonic)
    _dropping: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def procrastinate_ids(self) -> list[int]:
        """The ids of its procrastinate workers."""
        return [number for consumer in self.consumers if (number := consumer.procrastinate_id) is not None]

    @property
    def age(self) -> float:
        """Seconds since the last sign of life that Postgres took."""
        return time.monotonic() - self._last

    async def run_once(self) -> None:
        """Renew the row and the leases; close what is no longer leased; end the worker when its row is gone."""
        before = set(self.seats.sessions)
        try:
            row = await self.database.one(
                "renew_worker", worker=self.worker, ids=self.procrastinate_ids, lease=self.lease_seconds
            )
        except DatabaseUnavailable:
            if self.grace_seconds and self.age > self.grace_seconds:
                self._end(f"the database has been away for more than {self.grace_seconds:.0f} s")
            raise
        if row is None:
            self._end("this worker was silent for so long that it was declared dead")
            return
        self._last = time.monotonic()
        for account in before - set(row["leases"]):
            # Beside the heartbeat: a hung page takes longer to close than the next sign of life may wait.
            task = asyncio.create_task(self.seats.drop(account))
            self._dropping.add(task)
            task.add_done_callback(self._dropping.discard)

    def _end(self, reason: str) -> None:
        self.reason = reason
        self.fatal.set()


@dataclass
class Worker:
    """Everything that a worker process runs."""

    id: str
    database: Database
    app: procrastinate.App
    lanes: Lanes
    seats: Seats
    ticks: Ticks
    pulse: Pulse
    heartbeat: Heartbeat
    consumers: Sequence[Consumer]
    #: of the deliveries
    client: httpx2.AsyncClient
    idle_seconds: float
    host: str
    version: str

    async def run(self, stop: asyncio.Event) -> int:
        """Work until `stop` is set; return the exit code: 0 after a clean stop, 1 when the worker had to end."""
        await self.database.all(
            "register_worker",
            worker=self.id,
            host=self.host,
            version=self.version,
            home=self.seats.home,
            seats=self.seats.capacity,
        )
        await self.database.all("ensure_partitions")
        async with self.app.open_async(), self.client:
            life = asyncio.create_task(
                keep("heartbeat", min(HEARTBEAT, self.heartbeat.lease_seconds / 6), self.heartbeat.run_once)
            )
            duties = self._duties()
            running = [asyncio.create_task(consumer.run()) for consumer in self.consumers]
            log.info("worker %s has %d seats", self.id, self.seats.capacity)
            await _first(stop, self.heartbeat.fatal)
            log.info("worker %s is stopping", self.id)
            try:
                async with asyncio.timeout(STOP_LIMIT):
                    await self._stop(running, duties)
            except TimeoutError:
                log.warning("worker %s did not stop within %.0f s", self.id, STOP_LIMIT)
            await _cancel(life, *duties, *running)
        if self.heartbeat.fatal.is_set():
            log.error("worker %s ends: %s", self.id, self.heartbeat.reason)
            return 1
        return 0

    def _duties(self) -> list[asyncio.Task[None]]:
        lost = Lost(self.database, self.lanes)
        return [
            asyncio.create_task(keep("pulse", PULSE, self.pulse.run_once)),
            asyncio.create_task(keep("ticks", TICKS, self.ticks.run_once)),
            asyncio.create_task(keep("idle", LOST, lambda: self.seats.leave_idle(self.idle_seconds))),
            asyncio.create_task(keep("lost", LOST, lost.run_once)),
        ]

    async def _stop(self, running: Sequence[asyncio.Task[None]], duties: Sequence[asyncio.Task[None]]) -> None:
        # The sign of life goes on until the last drain has ended, or another worker would take over what is in hand.
        self.lanes.stopping = True
        for consumer in self.consumers:
            consumer.stop()
        await asyncio.gather(*running, return_exceptions=True)
        await _cancel(*duties)
        await self.pulse.close()
        await self.seats.close_all()
        with suppress(DatabaseUnavailable):
            await self.database.all("unregister_worker", worker=self.id)


async def _first(*events: asyncio.Event) -> None:
    tasks = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    await _cancel(*tasks)


async def _cancel(*tasks: asyncio.Task[None] | asyncio.Task[bool]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
