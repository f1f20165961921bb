"""The lane: the one mechanism by which due work is done, strictly one drain at a time.

A lane is a row of `lanes`. Its work stands in the task tables (`jobs`, `deliveries`); procrastinate holds only
wake-ups, at most one waiting and one running for each lane, cluster-wide. This module knows nothing of WhatsApp or
webhooks: what is done with a lane's rows is its `Work`.

`Lanes.drain` is what a wake-up runs; the pulse (`pulse.py`) wakes lanes whose time has come.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from errors import DatabaseUnavailable
from logs import bind
from sql.database import Database, Row, Transaction

log = logging.getLogger(__name__)

SLICE = 20.0  # seconds a drain may work before it goes to the back of the line
UNKNOWN_MOST = 3  # messages in a row without a tick that open the circuit
AFTER_BUG = 10.0  # seconds until a lane is attended to again after an error that nobody foresaw


@dataclass(frozen=True)
class Drain:
    """One turn of a lane. Taking a row and submitting one name its epoch, so that a newer drain fences it off."""

    lane: str
    kind: str
    queue: str
    epoch: int
    #: when it began, by Postgres's clock
    began: datetime
    #: when the lane was to be attended to, as of then
    attend_at: datetime | None
    #: whether the gate was closed then, whether until somebody acts and not for a while, and why it was last closed
    closed: bool
    for_good: bool
    gate_reason: str | None


class Unattended(Exception):
    """The drain could not attend to its lane: what was wanted of it is still wanted."""


class Work(Protocol):
    """What is done with the rows of one kind of lane."""

    async def begin(self, drain: Drain) -> bool:
        """Settle what earlier drains left half done; return whether rows may be taken. Raises Unattended."""

    async def one(self, drain: Drain) -> bool:
        """Take the next due row and work on it; return whether there may be more."""


@dataclass
class Lanes:
    """The drains of one worker."""

    database: Database
    worker: str
    works: Mapping[str, Work]
    slice: float = SLICE
    #: wake-ups in hand, by their procrastinate job ids
    in_hand: set[int] = field(default_factory=set)
    #: lanes that a drain of this worker works on
    draining: set[str] = field(default_factory=set)
    #: set when the worker ends
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def drain(self, lane: str, wakeup: int) -> None:
        """Work on a lane while its gate is open, its slice lasts and a row is due."""
        self.in_hand.add(wakeup)
        try:
            drains = await self.database.read(Drain, "begin_drain", lane=lane, worker=self.worker, wakeup=wakeup)
            for drain in drains:
                self.draining.add(drain.lane)
                with bind(worker=self.worker, lane=drain.lane):
                    await self._work(drain)
        finally:
            self.in_hand.discard(wakeup)

    async def _work(self, drain: Drain) -> None:
        work, attended = self.works[drain.kind], False
        try:
            if not self.stopping.is_set():
                if await work.begin(drain):
                    await self._rows(drain, work)
                attended = True
        except Unattended:
            log.debug("lane %s was not attended to", drain.lane)
        except DatabaseUnavailable:
            log.warning(
                "the drain of lane %s ends: the database is away",
                drain.lane,
                extra={"event": "drain.cut", "lane": drain.lane},
            )
        except Exception:
            # What nobody foresaw comes back with the next drain; not every second.
            with suppress(DatabaseUnavailable):
                await self.database.all("attend", lane=drain.lane, seconds=AFTER_BUG)
            raise
        finally:
            self.draining.discard(drain.lane)
            # When this cannot be written, the wake-up is found as lost, and the next pulse finds what it left.
            with suppress(DatabaseUnavailable):
                await self.database.all(
                    "end_drain", lane=drain.lane, epoch=drain.epoch, began=drain.began, attended=attended
                )

    async def _rows(self, drain: Drain, work: Work) -> None:
        end = time.monotonic() + self.slice
        while not self.stopping.is_set() and await work.one(drain):
            if time.monotonic() > end:
                await self.database.all("wake", lanes=[drain.lane])
                return


async def wake_returned(tx: Transaction, rows: list[Row]) -> int:
    """Wake the lanes named in the column `lanes` of a query's rows, as the last statement; return how many rows."""
    if lanes := sorted({lane for row in rows for lane in row["lanes"]}):
        await tx.all("wake", lanes=lanes)
    return len(rows)


@dataclass
class Lost:
    """Finds wake-ups that procrastinate believes to run here and that do not.

    One status write that was swallowed, or lost in an outage of Postgres, leaves a wake-up `doing` for as long as the
    worker lives, and its lane closed.
    """

    database: Database
    lanes: Lanes
    #: those that were not in hand at the last look; a wake-up may be just fetched or just done
    _suspects: set[int] = field(default_factory=set)

    async def run_once(self) -> list[int]:
        """Finish what was not in hand at two looks in a row; return those wake-ups."""
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
