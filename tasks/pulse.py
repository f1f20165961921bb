"""The clock of the lanes: it wakes those whose time has come and everything that was missed, and rescues what died.

One process in the cluster has it, whatever the duties of its worker are.
"""

import logging
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

import psycopg

from sql.database import CONNECTION, LIMIT, Row, Transaction, bounded, translated
from sql.pool import Connection
from tasks.lanes import UNKNOWN_MOST, wake_returned

log = logging.getLogger(__name__)

DEAD = 30.0  # seconds without a sign of life after which a worker is dead
PULSE = 1.0  # seconds between pulses
GAP = 5.0  # seconds between two pulses from which this process, or its way to Postgres, was away
FAILED_AT_ONCE = 1000  # deliveries to endpoints that are disabled or deleted, in each pulse


@dataclass
class Pulse:
    """The clock of the lanes. One process in the cluster has it, on a connection of its own, by an advisory lock."""

    url: str
    settle_seconds: float
    dead: float = DEAD
    #: for which an account rests whose messages end without a tick; 0 is not at all
    breaker_seconds: float = 0
    _connection: psycopg.AsyncConnection | None = None
    _led: bool = False
    #: Postgres's time at the last pulse, and from when silence counts as death
    _seen: datetime | None = None
    _judging_from: datetime | None = None

    async def run_once(self) -> bool:
        """Wake what is due and rescue what is lost, if this process leads; return whether it does."""
        try:
            with translated():
                async with bounded(LIMIT):
                    return await self._turn()
        except BaseException:
            # The lock ends with its connection: whoever cannot use it must not hold it.
            await self.close()
            raise

    async def _turn(self) -> bool:
        connection = self._connection = self._connection or await self._connect()
        statement = Transaction(connection)
        if not await self._leads(statement):
            return False
        await self._beat(statement)
        if await self._may_judge(statement):
            await statement.all("reclaim_queues", dead=self.dead)
            await Rescue(connection, self.dead).run_once()
        await self._expire(statement)
        return True

    async def close(self) -> None:
        """Give the lock back."""
        connection, self._connection, self._led, self._seen = self._connection, None, False, None
        if connection is not None:
            with suppress(psycopg.Error):
                await connection.close()

    async def _connect(self) -> psycopg.AsyncConnection:
        options = f"{CONNECTION['options']} -c idle_session_timeout=10s"
        return await Connection.connect(
            # A frozen process keeps its connection, and with it the lock; Postgres ends what says nothing.
            self.url,
            autocommit=True,
            application_name="postrider pulse",
            **{**CONNECTION, "options": options},
        )

    async def _leads(self, statement: Transaction) -> bool:
        if not self._led:
            row = await statement.one("take_lead")
            self._led = bool(row and row["leads"])
            if self._led:
                log.info("this process has the pulse", extra={"event": "pulse.led"})
        return self._led

    async def _may_judge(self, statement: Transaction) -> bool:
        """Tell whether silence counts as death now: after a sleep or a cut everybody was silent, this process too."""
        (row,) = await statement.all("database_time")
        now: datetime = row["now"]
        if self._seen is None or (now - self._seen).total_seconds() > GAP:
            self._judging_from = now + timedelta(seconds=self.dead)
        self._seen = now
        return self._judging_from is not None and now >= self._judging_from

    async def _beat(self, statement: Transaction) -> None:
        for lane in await statement.all("finish_lapsed_wakeups"):
            log.warning(
                "the worker of lane %s let its lease end; others may go on", lane["lane"],
                extra={"event": "lease.lapsed", "lane": lane["lane"]},
            )  # fmt: skip
        await statement.all("reclaim_lapsed")
        await statement.all("reclaim_wakeups")
        for lane in await statement.all("pulse"):
            log.debug("woke lane %s", lane["lane"])

    async def _expire(self, statement: Transaction) -> None:
        async with statement.connection.transaction():
            expired = await statement.all("expire_jobs")
            cancelled = await statement.all("cancel_for_deleted")
            unknown = (
                await statement.all(
                    "give_up_settling", seconds=self.settle_seconds, most=UNKNOWN_MOST, rest=self.breaker_seconds
                )
                if self.settle_seconds
                else []
            )
            await wake_returned(statement, expired + cancelled + unknown)
        (failed,) = await statement.all("fail_waiting", endpoint=None, most=FAILED_AT_ONCE)
        _tell(len(expired), len(cancelled), len(unknown), failed["rows"])


def _tell(expired: int, cancelled: int, unknown: int, deliveries: int) -> None:
    if expired:
        log.info("%d jobs waited too long", expired, extra={"event": "jobs.expired", "jobs": expired})
    if cancelled:
        log.info("%d jobs of deleted accounts", cancelled, extra={"event": "jobs.cancelled", "jobs": cancelled})
    if unknown:
        log.warning("%d jobs may have been sent", unknown, extra={"event": "jobs.unknown", "jobs": unknown})
    if deliveries:
        log.info(
            "%d deliveries to endpoints that are disabled or deleted have failed", deliveries,
            extra={"event": "deliveries.failed", "deliveries": deliveries},
        )  # fmt: skip


@dataclass
class Rescue:
    """Gives back what dead workers held. procrastinate rescues nothing by itself, and does not fence."""

    connection: psycopg.AsyncConnection
    dead: float = DEAD

    async def run_once(self) -> list[str]:
        """Finish wake-ups of dead workers and orphaned ones, free their accounts; wake their lanes and return them."""
        async with self.connection.transaction():
            tx = Transaction(self.connection)
            lanes: set[str] = set()
            if dead := await tx.all("dead_workers", dead=self.dead):
                lanes |= await self._finish(tx, dead)
            lanes |= {row["lane"] for row in await tx.all("finish_orphaned_wakeups", dead=self.dead) if row["lane"]}
            if lanes:
                log.warning("rescued %d lanes", len(lanes), extra={"event": "lanes.rescued", "lanes": len(lanes)})
                await tx.all("wake", lanes=sorted(lanes))
            return sorted(lanes)

    async def _finish(self, tx: Transaction, dead: list[Row]) -> set[str]:
        workers = [row["id"] for row in dead]
        log.warning("workers found dead: %s", ", ".join(workers), extra={"event": "workers.dead", "workers": workers})
        ids = [one for row in dead for one in row["procrastinate_ids"]]
        finished = await tx.all("finish_dead_wakeups", ids=ids, workers=workers)
        closed = await tx.all("close_dead_sessions", workers=workers)
        freed = await tx.all("free_dead_leases", workers=workers)
        drained = await tx.all("free_dead_drains", workers=workers)
        told = {lane for row in closed for lane in row["lanes"]}
        return told | {row["lane"] for row in finished if row["lane"]} | {row["id"] for row in (*freed, *drained)}
