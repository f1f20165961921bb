"""The pulse: wakes every lane that has due work and no wake-up, and frees what dead workers held.

One process in the cluster runs it, whatever the duties of its worker are.
"""

import logging
import math
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import psycopg

from sql import roles
from sql.database import BY_INDEX, LIMIT, Row, Transaction, bounded, connection_options, translated
from sql.pool import Connection
from sql.roles import Role
from tasks.lanes import UNKNOWN_LIMIT, wake_returned

log = logging.getLogger(__name__)

DEAD = 30.0  # seconds without a heartbeat after which a worker is dead
PULSE = 1.0  # seconds between pulses
STALL_SECONDS = 5.0  # seconds between two pulses that prove a stall of this process or of its connection to Postgres
MARKS_AT_ONCE = 10_000  # marks that one pulse uses
MARKS_SECONDS = 3.0  # seconds after which a turn leaves the rest of a backlog of marks to the next one
MARK_AGE = 60.0  # seconds by which a mark may become visible late: more than any transaction of ours lasts
SWEEP = 600.0  # seconds within which every lane with work is looked at, for a mark that was forgotten
SWEPT_AT_ONCE = 20  # lanes that one pulse looks at, at least
FIRST_SWEEP = 120_000  # lanes with work that the first sweep allows for, at most
FAILED_AT_ONCE = 1000  # deliveries to disabled or deleted endpoints that one pulse fails


@dataclass
class Pulse:
    """The pulse. One process in the cluster leads: it holds an advisory lock on a connection of its own."""

    url: str
    settle_seconds: float
    dead: float = DEAD
    #: how long an account's circuit stays open after messages without a tick; 0 never opens it
    breaker_seconds: float = 0
    _connection: psycopg.AsyncConnection | None = None
    _led: bool = False
    #: Postgres's time at the last pulse
    _seen: datetime | None = None
    #: Postgres's time before which every mark was used
    _marks_from: datetime | None = None
    #: the last lane that was swept
    _swept: str = ""
    #: lanes with work that this sweep has seen, and that the last one saw; None before the first
    _seen_lanes: int = 0
    _lanes: int | None = None
    #: disabled or deleted endpoints for which deliveries wait
    _gone: list[str] = field(default_factory=list)
    #: Postgres's time from which on silent workers may be declared dead
    _judging_from: datetime | None = None

    async def run_once(self) -> bool:
        """Wake due lanes and free what dead workers held, if this process leads; return whether it does."""
        try:
            with translated():
                async with bounded(LIMIT):
                    return await self._turn()
        except BaseException:
            # Closing the connection releases the lock, so that another process can lead.
            await self.close()
            raise

    async def _turn(self) -> bool:
        connection = self._connection = self._connection or await self._connect()
        statement = self._statement(connection)
        if not await self._leads(statement):
            return False
        await self._beat(statement)
        all_used = await self._use_marks(statement)
        if await self._may_declare_dead(statement):
            await statement.all("reclaim_queues", dead=self.dead)
            await Rescue(connection, self.dead).run_once()
        await self._expire(statement)
        if all_used:
            await self._sweep(statement)
        return True

    async def close(self) -> None:
        """Close the connection, which releases the lock."""
        connection, self._connection, self._led, self._seen = self._connection, None, False, None
        self._marks_from = None
        if connection is not None:
            with suppress(psycopg.Error):
                await connection.close()

    def _statement(self, connection: psycopg.AsyncConnection[Any]) -> Transaction:
        return Transaction(connection)

    async def _connect(self) -> psycopg.AsyncConnection:
        connection = await Connection.connect(
            # A frozen process keeps its connection, and with it the lock, until Postgres ends the idle session.
            self.url,
            autocommit=True,
            application_name="postrider pulse",
            **connection_options(Role.WORKER, BY_INDEX, "-c idle_session_timeout=10s"),
        )
        await roles.take(connection, Role.WORKER)
        return connection

    async def _leads(self, statement: Transaction) -> bool:
        if not self._led:
            row = await statement.one("take_lead")
            self._led = bool(row and row["leads"])
            if self._led:
                log.info("this process has the pulse", extra={"event": "pulse.led"})
        return self._led

    async def _may_declare_dead(self, statement: Transaction) -> bool:
        """Tell whether silent workers may be declared dead: not soon after a stall, which may have silenced all."""
        (row,) = await statement.all("database_time")
        now: datetime = row["now"]
        if self._seen is None or (now - self._seen).total_seconds() > STALL_SECONDS:
            self._judging_from = now + timedelta(seconds=self.dead)
        self._seen = now
        return self._judging_from is not None and now >= self._judging_from

    async def _beat(self, statement: Transaction) -> None:
        for lane in await statement.all("finish_lapsed_wakeups"):
            log.warning(
                "the worker of lane %s let its lease end; others may take over", lane["lane"],
                extra={"event": "lease.lapsed", "lane": lane["lane"]},
            )  # fmt: skip
        await statement.all("reclaim_lapsed")
        await statement.all("reclaim_wakeups")

    async def _use_marks(self, statement: Transaction) -> bool:
        """Use the marks whose time has come; return False when some are left for the next turn."""
        end = time.monotonic() + MARKS_SECONDS
        self._gone = []
        while True:
            (row,) = await statement.all("use_marks", since=self._marks_from, most=MARKS_AT_ONCE)
            self._gone += row["gone"]
            if row["lanes"]:
                log.debug("woke lanes %s", ", ".join(row["lanes"]))
            # They are used in their order.
            self._marks_from = row["until"] - timedelta(seconds=MARK_AGE)
            if row["marks"] < MARKS_AT_ONCE:
                return True
            if time.monotonic() > end:
                return False

    async def _sweep(self, statement: Transaction) -> None:
        """Look at some more lanes that have work, so that all are looked at within SWEEP."""
        if self._lanes is None:
            (count,) = await statement.all("count_lanes")
            self._lanes = min(count["lanes"], FIRST_SWEEP)
        most = max(SWEPT_AT_ONCE, math.ceil(max(self._lanes, self._seen_lanes) * PULSE / SWEEP))
        (row,) = await statement.all("sweep", after=self._swept, most=most, since=self._marks_from)
        self._swept, self._seen_lanes = row["last"] or "", self._seen_lanes + row["lanes"]
        if row["lanes"] < most:
            self._swept, self._lanes, self._seen_lanes = "", self._seen_lanes, 0
        for lane in row["forgotten"]:
            log.error(
                "lane %s has work that is due, and was forgotten", lane, extra={"event": "lane.forgotten", "lane": lane}
            )

    async def _expire(self, statement: Transaction) -> None:
        expired = await self._end_jobs(statement, "expire_jobs")
        cancelled = await self._end_jobs(statement, "cancel_for_deleted")
        unknown = (
            await self._end_jobs(
                statement,
                "give_up_settling",
                seconds=self.settle_seconds,
                most=UNKNOWN_LIMIT,
                rest=self.breaker_seconds,
            )
            if self.settle_seconds
            else 0
        )
        failed = 0
        if self._gone:
            (row,) = await statement.all("fail_waiting", endpoints=self._gone, most=FAILED_AT_ONCE)
            failed = row["rows"]
        _log_counts(expired, cancelled, unknown, failed)

    async def _end_jobs(self, statement: Transaction, name: str, **values: object) -> int:
        """Run a query that ends jobs, and wake their lanes; return how many.

        Each in a transaction of its own: only within a statement are the counts of waiting jobs locked in the order of
        lanes.
        """
        async with statement.connection.transaction():
            return await wake_returned(statement, await statement.all(name, **values))


def _log_counts(expired: int, cancelled: int, unknown: int, deliveries: int) -> None:
    if expired:
        log.info("%d jobs waited too long", expired, extra={"event": "jobs.expired", "jobs": expired})
    if cancelled:
        log.info(
            "cancelled %d jobs of deleted accounts", cancelled, extra={"event": "jobs.cancelled", "jobs": cancelled}
        )
    if unknown:
        log.warning("%d jobs failed with an unknown outcome", unknown, extra={"event": "jobs.unknown", "jobs": unknown})
    if deliveries:
        log.info(
            "%d deliveries to endpoints that are disabled or deleted have failed", deliveries,
            extra={"event": "deliveries.failed", "deliveries": deliveries},
        )  # fmt: skip


@dataclass
class Rescue:
    """Frees what dead workers held. procrastinate neither recovers a dead worker's jobs by itself nor fences them."""

    connection: psycopg.AsyncConnection
    dead: float = DEAD

    async def run_once(self) -> list[str]:
        """Finish the wake-ups of dead workers and orphaned ones, free the accounts, wake the lanes and return them."""
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
        notified = {lane for row in closed for lane in row["lanes"]}
        return notified | {row["lane"] for row in finished if row["lane"]} | {row["id"] for row in (*freed, *drained)}
