"""The lane: the one mechanism by which due work is done, strictly one drain at a time.

A lane is a row of `lanes`. Its work is in the task tables (`jobs`, `deliveries`); procrastinate holds only wake-ups, at
most one waiting and one running for each lane, cluster-wide. This module knows nothing of WhatsApp or webhooks: a
`Work` for each kind of lane handles the rows.

A wake-up runs `Lanes.drain`; the pulse (`pulse.py`) wakes lanes that have due work and no wake-up.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from errors import DatabaseError
from logs import bind
from sql.database import Database, Row, Transaction

log = logging.getLogger(__name__)

SLICE = 20.0  # seconds that a drain may work; then its lane is queued again, behind the others
UNKNOWN_LIMIT = 3  # messages in a row that end without a tick and so open the circuit breaker
ERROR_RETRY_SECONDS = 10.0  # seconds until a lane is drained again after an unexpected error


@dataclass(frozen=True)
class Drain:
    """One turn of a lane. Its epoch is a fencing token: once a newer drain has begun, it can take and submit no row."""

    lane: str
    org: str
    kind: str
    queue: str
    epoch: int
    #: when it began, by Postgres's clock
    began: datetime
    #: the lane's `attend_at` when it began
    attend_at: datetime | None
    #: whether the gate was closed when it began
    closed: bool
    #: whether the gate stays closed until it is opened explicitly
    for_good: bool
    #: why the gate was last closed
    gate_reason: str | None


class Unattended(Exception):
    """The drain could not do what `attend_at` asks for; the request stands."""


class Work(Protocol):
    """Handles the rows of one kind of lane."""

    async def begin(self, drain: Drain) -> bool:
        """Settle what earlier drains left half done; return whether rows may be taken, or were. Raises Unattended."""

    async def one(self, drain: Drain) -> bool:
        """Take the next due row and work on it; return whether there may be more. Takes none once the worker stops."""


@dataclass
class Lanes:
    """The drains of one worker."""

    database: Database
    worker: str
    works: Mapping[str, Work]
    slice: float = SLICE
    #: procrastinate job ids of the wake-ups that run here
    in_hand: set[int] = field(default_factory=set)
    #: lanes that this worker drains now
    draining: set[str] = field(default_factory=set)
    #: set when the worker stops
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def drain(self, lane: str, wakeup: int) -> None:
        """Work on a lane while its gate is open, its slice lasts and a row is due."""
        self.in_hand.add(wakeup)
        try:
            drains = await self.database.read(Drain, "begin_drain", lane=lane, worker=self.worker, wakeup=wakeup)
            for drain in drains:
                self.draining.add(drain.lane)
                with bind(worker=self.worker, lane=drain.lane, org=drain.org):
                    await self._work(drain)
        finally:
            self.in_hand.discard(wakeup)

    async def _work(self, drain: Drain) -> None:
        work, attended, settled = self.works[drain.kind], False, False
        try:
            if not self.stopping.is_set():
                if await work.begin(drain):
                    await self._rows(drain, work)
                attended = settled = True
        except Unattended:
            log.debug("lane %s was not attended to", drain.lane)
        except DatabaseError:
            log.warning(
                "the drain of lane %s ends: the database did not do its work",
                drain.lane,
                extra={"event": "drain.cut", "lane": drain.lane},
            )
        except Exception:
            # A bug fails the next drain too; without a pause the pulse would start one every second.
            with suppress(DatabaseError):
                await self.database.all("attend", lane=drain.lane, seconds=ERROR_RETRY_SECONDS)
            raise
        finally:
            self.draining.discard(drain.lane)
            # If this cannot be written, `LostWakeups` finishes the wake-up, and the pulse wakes the lane again.
            with suppress(DatabaseError):
                await self.database.all(
                    "end_drain",
                    lane=drain.lane,
                    epoch=drain.epoch,
                    began=drain.began,
                    attended=attended,
                    settled=settled,
                )

    async def _rows(self, drain: Drain, work: Work) -> None:
        end = time.monotonic() + self.slice
        # Once in any case: `begin` may have taken rows.
        while await work.one(drain) and not self.stopping.is_set():
            if time.monotonic() > end:
                await self.database.all("wake", lanes=[drain.lane])
                return


async def wake_returned(tx: Transaction, rows: list[Row]) -> int:
    """Wake the lanes in the column `lanes` of a query's rows, as the last statement; return the number of rows."""
    if lanes := sorted({lane for row in rows for lane in row["lanes"]}):
        await tx.all("wake", lanes=lanes)
    return len(rows)


@dataclass
class LostWakeups:
    """Finishes wake-ups that procrastinate has as `doing` in this worker, although no drain runs them.

    A status write that was swallowed, or lost in an outage of Postgres, leaves a wake-up `doing` for as long as the
    worker lives, and blocks its lane.
    """

    database: Database
    lanes: Lanes
    #: not running at the last check; one check is no proof, since a wake-up may have just been fetched or just ended
    _suspects: set[int] = field(default_factory=set)

    async def run_once(self) -> list[int]:
        """Finish the wake-ups that were not running at two checks in a row; return their ids."""
        rows = await self.database.all("wakeups_in_hand", worker=self.lanes.worker)
        missing = {row["id"] for row in rows} - self.lanes.in_hand
        lost = sorted(missing & self._suspects)
        self._suspects = missing - set(lost)
        for wakeup in lost:
            log.warning(
                "wake-up %d was lost; its lane is free again", wakeup, extra={"event": "wakeup.lost", "wakeup": wakeup}
            )
            await self.database.all("finish_lost_wakeup", wakeup=wakeup)
        return lost
