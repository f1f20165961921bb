"""A worker: its sign of life, its consumers and duties, from start to a clean stop."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import procrastinate

from browser.engine.process import end_orphans
from errors import DatabaseUnavailable
from sql.database import Database, Transaction
from sql.sealing import admit, lacking
from tasks.lanes import PULSE, Lanes, Lost, Pulse
from tasks.periodic import run_every
from tasks.queue import Consumer
from tasks.web.seats import Seats

log = logging.getLogger(__name__)

HEARTBEAT = 5.0  # seconds; 30 of silence are death
RESTORE_APART = 2.0  # seconds between the accounts that a worker opens again at its start
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
        held, before = set(self.seats.leases), time.monotonic()
        try:
            row = await self.database.one(
                "renew_worker", worker=self.worker, ids=self.procrastinate_ids, lease=self.lease_seconds,
                open=sorted(self.seats.sessions),
            )  # fmt: skip
        except DatabaseUnavailable:
            if self.grace_seconds and self.age > self.grace_seconds:
                self._end(f"the database has been away for more than {self.grace_seconds:.0f} s")
            self._beside(self.seats.drop_ending())
            raise
        if row is None:
            self._end("this worker was silent for so long that it was declared dead")
            for account in list(self.seats.sessions):
                self._beside(self.seats.close(account))
            return
        if row["needed_key"] not in {None, *self.seats.profiles.sealer.fingerprints}:
            self._end(lacking(row["needed_key"]))
            return
        self._last = time.monotonic()
        self.seats.renewed(row["leases"], before)
        for account in held - set(row["leases"]):
            if self.seats.leases.pop(account, None) is not None:
                self._beside(self.seats.drop(account))
        await self.seats.let_go(row["leases"])

    def _beside(self, dropping: Coroutine[None, None, None]) -> None:
        # A hung page takes longer to close than the next sign of life may wait.
        task = asyncio.create_task(dropping)
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
    #: what is done again and again, with the seconds between
    duties: Sequence[tuple[str, float, Callable[[], Awaitable[object]]]]
    pulse: Pulse
    heartbeat: Heartbeat
    consumers: Sequence[Consumer]
    host: str
    version: str

    async def run(self, stop: asyncio.Event) -> int:
        """Work until `stop` is set; return the exit code: 0 after a clean stop, 1 when the worker had to end.

        Raises SettingsWrong when everything is sealed with a key that it has not.
        """
        await self.register()
        await self.database.all("ensure_partitions")
        await self._tidy()
        await self.seats.guard.start()
        async with self.app.open_async():
            life = self._live()
            duties = self._duties()
            running = [asyncio.create_task(consumer.run()) for consumer in self.consumers]
            log.info(
                "worker %s has %d seats", self.id, self.seats.capacity,
                extra={"event": "worker.started", "worker": self.id, "seats": self.seats.capacity,
                       "version": self.version},
            )  # fmt: skip
            await self.database.all("restore_accounts", seats=self.seats.capacity, apart=RESTORE_APART)
            await _first(stop, self.heartbeat.fatal)
            log.info("worker %s is stopping", self.id, extra={"event": "worker.stopping", "worker": self.id})
            try:
                async with asyncio.timeout(STOP_LIMIT):
                    await self._stop(running, duties)
            except TimeoutError:
                log.warning(
                    "worker %s did not stop within %.0f s", self.id, STOP_LIMIT,
                    extra={"event": "worker.overdue", "worker": self.id},
                )  # fmt: skip
            await _cancel(life, *duties, *running)
            await self.seats.guard.close()
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
        """Be a worker within the block that may lease an account and works on none.

        It has no seats, so that others send it nothing; what it leases it has to leave.
        """
        await self.register(seats=0)
        try:
            await self.seats.guard.start()
            life = self._live()
            try:
                yield
            finally:
                await _cancel(life)
                await self.seats.guard.close()
        finally:
            with suppress(DatabaseUnavailable):
                await self.database.all("unregister_worker", worker=self.id)

    async def register(self, *, seats: int | None = None) -> None:
        """Write its row. Raises SettingsWrong when everything is sealed with a key that it has not."""
        await self.database.transact(lambda tx: self._register(tx, self.seats.capacity if seats is None else seats))

    async def _register(self, tx: Transaction, seats: int) -> None:
        fingerprints = self.seats.profiles.sealer.fingerprints
        await admit(tx, fingerprints)
        await tx.all(
            "register_worker",
            worker=self.id,
            host=self.host,
            version=self.version,
            home=self.seats.profiles.home,
            seats=seats,
        )
        await tx.all("tell_keys", worker=self.id, fingerprints=fingerprints)

    def _live(self) -> asyncio.Task[None]:
        every = min(HEARTBEAT, self.heartbeat.lease_seconds / 6)
        return asyncio.create_task(run_every("heartbeat", every, self.heartbeat.run_once))

    async def _tidy(self) -> None:
        """Remove what an earlier worker left in the directory of profiles, which nobody else uses now."""
        for directory in await end_orphans(self.seats.profiles.root):
            log.warning(
                "ended a browser that was left open in %s", directory,
                extra={"event": "browser.orphan", "directory": str(directory)},
            )  # fmt: skip
        await self.seats.profiles.clean()
        await self.seats.profiles.sweep()

    def _duties(self) -> list[asyncio.Task[None]]:
        lost = Lost(self.database, self.lanes)
        own = [("pulse", PULSE, self.pulse.run_once), ("lost", LOST, lost.run_once)]
        return [asyncio.create_task(run_every(*duty)) for duty in (*own, *self.duties)]

    async def _stop(self, running: Sequence[asyncio.Task[None]], duties: Sequence[asyncio.Task[None]]) -> None:
        # The sign of life goes on until the last drain has ended, or another worker would take over what is in hand.
        self.lanes.stopping.set()
        for consumer in self.consumers:
            consumer.stop()
        await asyncio.gather(self.seats.leave_all_idle(), *running, return_exceptions=True)
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
