"""Upkeep: what one worker of the cluster does every ten minutes, so that no table grows for ever.

Ended jobs move from the task table to the history, and rows older than RETENTION_DAYS are deleted: whole partitions at
once, the rest in batches. Every statement is a short transaction of its own; a run has a time limit, and what is left
waits for the next run. Nothing that is open is ever deleted.
"""

import logging
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

from errors import DatabaseUnavailable
from sql.database import Database

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Days that an ended job stays in the task table. Two readers look only there, and no further back: the search for
#: ticks, which goes on for so many days after a submission (`awaiting_ticks`), and the recognition of equal requests
#: without an idempotency key (DEDUPE_SECONDS). No job ends before its submission, so none is moved too early.
SETTLED_DAYS = 3.0
BATCH = 500  # rows of one statement
RECOUNTS = 10  # lanes of one run whose waiting messages are counted anew
TURN = 20.0  # seconds of one run; less than the grace period of a worker that stops

#: Queries that do not depend on RETENTION_DAYS, and queries that do.
ALWAYS = ("purge_tokens", "purge_signatures", "purge_secrets", "purge_api_processes")
BY_AGE = (
    "purge_jobs",
    "purge_history",
    "purge_evidence",
    "purge_deliveries",
    "purge_events",
    "purge_attempts",
    "purge_recoveries",
    "purge_changes",
    "purge_incoming",
    "purge_checkups",
    "purge_kept_profiles",
)


@dataclass
class Upkeep:
    """Keeps the tables small."""

    database: Database
    keepalive_days: float
    #: 0 keeps everything
    retention_days: float
    batch: int = BATCH
    turn: float = TURN

    async def run_once(self) -> None:
        """Do one run. What fails is logged and stops nothing else, unless Postgres is away."""
        end = time.monotonic() + self.turn
        await _alone("ensure_partitions", self.database.all("ensure_partitions"))
        await _alone("keep_alive", self.database.all("keep_alive", days=self.keepalive_days))
        if self.retention_days:
            await _alone("drop_old_partition", self._drop_partitions(end))
        await _alone("lanes_to_recount", self._recount(end))
        await self._rows(end)

    async def _recount(self, end: float) -> None:
        """Count the waiting messages of the lanes that were not counted for longest, and correct `lane_depth`."""
        for lane in await self.database.all("lanes_to_recount", most=RECOUNTS):
            if time.monotonic() > end:
                return
            row = await self.database.one("recount_lane", lane=lane["id"])
            if row and row["missed"]:
                log.error(
                    "the count of waiting messages of %s was wrong by %d", lane["id"], row["missed"],
                    extra={"event": "depth.wrong", "account": lane["id"], "missed": row["missed"]},
                )  # fmt: skip

    async def _drop_partitions(self, end: float) -> None:
        """Drop the partitions in which every row is over age, each in a transaction of its own."""
        while time.monotonic() < end:
            rows = await self.database.all("drop_old_partition", days=self.retention_days)
            if dropped := [row["partition"] for row in rows if row["dropped"]]:
                log.info(
                    "dropped partition %s", *dropped, extra={"event": "partition.dropped", "partition": dropped[0]}
                )
                continue
            if rows:
                busy = [row["partition"] for row in rows]
                log.info(
                    "partitions over age are in use, and dropped later: %s", ", ".join(busy),
                    extra={"event": "partition.in_use", "partitions": busy},
                )  # fmt: skip
            return

    async def _rows(self, end: float) -> None:
        """Move and delete rows in rounds of one batch of each kind, so that a backlog of one kind blocks no other."""
        kinds = {"move_ended_jobs": SETTLED_DAYS}
        if self.retention_days:
            kinds |= dict.fromkeys(BY_AGE, self.retention_days)
        left = [*kinds, *ALWAYS]
        while left and time.monotonic() < end:
            counts = {name: await _alone(name, self._batch(name, kinds.get(name))) for name in left}
            left = [name for name, count in counts.items() if count == self.batch]
        if left:
            log.info(
                "upkeep goes on in its next run: %s", ", ".join(left), extra={"event": "upkeep.behind", "kinds": left}
            )

    async def _batch(self, name: str, days: float | None) -> int:
        age = {} if days is None else {"days": days}
        row = await self.database.one(name, most=self.batch, **age)
        return int(row["rows"]) if row else 0


async def _alone(name: str, work: Awaitable[T]) -> T | None:
    """Return what `work` returns; log why it failed and return None. Raise DatabaseUnavailable."""
    try:
        return await work
    except DatabaseUnavailable:
        raise
    except Exception:
        log.exception("upkeep could not do %s", name, extra={"event": "upkeep.failed", "kind": name})
        return None
