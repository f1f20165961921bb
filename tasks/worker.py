"""A worker: its heartbeat and the parts that do its duties, from the start to a clean stop."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass

import procrastinate

from errors import DatabaseError
from sql.database import Database, Transaction
from sql.pace_limits import PaceLimits
from sql.sealing import admit
from tasks.heartbeat import Heartbeat
from tasks.lanes import Lanes, LostWakeups
from tasks.part import Part, PeriodicTask
from tasks.periodic import run_every
from tasks.pulse import PULSE, Pulse

log = logging.getLogger(__name__)

LOST_CHECK_SECONDS = 5.0  # seconds between checks for lost wake-ups
STOP_LIMIT = 45.0  # seconds from the signal to the end


@dataclass
class Worker:
    """Everything that a worker process runs."""

    id: str
    database: Database
    app: procrastinate.App
    lanes: Lanes
    parts: Sequence[Part]
    pulse: Pulse
    heartbeat: Heartbeat
    host: str
    version: str
    #: of the accounts that it sends for, for reports
    pace_limits: PaceLimits

    @property
    def capacity(self) -> int:
        """How many accounts it has room for."""
        return sum(part.capacity for part in self.parts)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Keep its resources open within the block; it takes no work yet."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.database)
            await stack.enter_async_context(self.heartbeat.database)
            for part in self.parts:
                await stack.enter_async_context(part.opened())
            yield

    async def check(self) -> None:
        """Raise PostriderError when one of its duties cannot be done at present."""
        for part in self.parts:
            await part.check()

    async def run(self, stop: asyncio.Event) -> int:
        """Work until `stop` is set; return the exit code: 0 after a clean stop, 1 when the worker had to end.

        Raises SettingsWrong when it lacks the encryption key that is in use.
        """
        await self.register()
        await self.database.all("ensure_partitions")
        for part in self.parts:
            await part.prepare()
        async with self.app.open_async():
            heartbeat, periodic = self._start_heartbeat(), self._start_periodic()
            running = [asyncio.create_task(consumer.run()) for part in self.parts for consumer in part.consumers]
            duties = ",".join(part.duty for part in self.parts)
            log.info(
                "worker %s begins: %s; %d seats", self.id, duties, self.capacity,
                extra={"event": "worker.started", "worker": self.id, "seats": self.capacity, "duties": duties,
                       "version": self.version},
            )  # fmt: skip
            for part in self.parts:
                await part.begin()
            await _first(stop, self.heartbeat.fatal)
            log.info("worker %s is stopping", self.id, extra={"event": "worker.stopping", "worker": self.id})
            try:
                async with asyncio.timeout(STOP_LIMIT):
                    await self._stop(running, periodic)
            except TimeoutError:
                log.warning(
                    "worker %s did not stop within %.0f s", self.id, STOP_LIMIT,
                    extra={"event": "worker.overdue", "worker": self.id},
                )  # fmt: skip
            await _cancel(heartbeat, *periodic, *running)
        if self.heartbeat.fatal.is_set():
            log.error(
                "worker %s ends: %s", self.id, self.heartbeat.reason,
                extra={"event": "worker.failed", "worker": self.id, "reason": self.heartbeat.reason},
            )  # fmt: skip
            return 1
        log.info("worker %s has stopped", self.id, extra={"event": "worker.stopped", "worker": self.id})
        return 0

    @asynccontextmanager
    async def visiting(self) -> AsyncIterator[None]:
        """Be a temporary worker within the block: without duties, but able to lease an account.

        It has no seats, so that no other worker hands it an account. The caller must give back what it leases.
        """
        await self.register(visits=True)
        try:
            heartbeat = self._start_heartbeat()
            try:
                yield
            finally:
                await _cancel(heartbeat)
        finally:
            await self._unregister()

    async def register(self, *, visits: bool = False) -> None:
        """Write its row. Raises SettingsWrong when it lacks the encryption key that is in use."""
        await self.database.transact(lambda tx: self._register(tx, visits=visits))

    async def _register(self, tx: Transaction, *, visits: bool) -> None:
        fingerprints = list(self.heartbeat.fingerprints)
        await admit(tx, fingerprints)
        await tx.all(
            "register_worker",
            worker=self.id,
            host=self.host,
            version=self.version,
            home=next((part.home for part in self.parts if part.home), None),
            seats=0 if visits else self.capacity,
            duties=[] if visits else [part.duty for part in self.parts],
            limits=self.pace_limits.wire(),
        )
        await tx.all("tell_keys", worker=self.id, fingerprints=fingerprints)

    async def _unregister(self) -> None:
        with suppress(DatabaseError):
            await self.database.all("unregister_worker", worker=self.id)

    def _start_heartbeat(self) -> asyncio.Task[None]:
        return asyncio.create_task(run_every("heartbeat", self.heartbeat.every, self.heartbeat.run_once))

    def _start_periodic(self) -> list[asyncio.Task[None]]:
        own = [
            PeriodicTask("pulse", PULSE, self.pulse.run_once),
            PeriodicTask("lost", LOST_CHECK_SECONDS, LostWakeups(self.database, self.lanes).run_once),
        ]
        periodic = [*own, *(task for part in self.parts for task in part.periodic_tasks)]

        return [asyncio.create_task(run_every(*task)) for task in periodic]

    async def _stop(self, running: Sequence[asyncio.Task[None]], periodic: Sequence[asyncio.Task[None]]) -> None:
        # The heartbeat goes on until the last drain has ended: without it another worker would take over its lane.
        self.lanes.stopping.set()
        for part in self.parts:
            for consumer in part.consumers:
                consumer.stop()
        await asyncio.gather(*(part.leave_idle() for part in self.parts), *running, return_exceptions=True)
        await _cancel(*periodic)
        await self.pulse.close()
        for part in self.parts:
            await part.leave()
        await self._unregister()


async def _first(*events: asyncio.Event) -> None:
    tasks = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    await _cancel(*tasks)


async def _cancel(*tasks: asyncio.Task[None] | asyncio.Task[bool]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
