"""Upkeep: what one worker of the cluster does every ten minutes, so that no table grows for ever.

What reports count is rolled up. Ended jobs move from the task table to the history, and rows older than RETENTION_DAYS
are deleted: whole partitions at once, the rest in batches. Every statement is a short transaction of its own; a run has
a time limit, and what is left waits for the next run. Nothing that is open is ever deleted.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar

from errors import DatabaseUnavailable
from sql.database import Database
from tasks.roll_up import RollUp

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Days that an ended job stays in the task table. The search for ticks looks only there, and goes on for so many days
#: after a submission (`awaiting_ticks`). No job ends before its submission, so none is moved too early.
SETTLED_DAYS = 3.0
BATCH = 500  # rows of one statement
RECOUNTS = 10  # lanes of one run whose waiting messages are counted anew
#: Rows are checked for their parents from this long before the first run on, a period a statement, and only once every
#: transaction that may have written them has ended.
CHECKED_FROM, CHECKED_AT_ONCE, UNFINISHED = timedelta(hours=1), timedelta(minutes=10), timedelta(minutes=1)
SWEPT_PAGES = 100  # of one run, in which keys are looked for whose job is gone: ten million keys in a day and a half
NAMED = 20  # rows without a parent that a line of the log names
TURN = 300.0  # seconds of one run at most; half of them are pauses, for the work of others

#: Queries that do not depend on RETENTION_DAYS, and queries that do.
ALWAYS = ("purge_tokens", "purge_signatures", "purge_contents", "purge_secrets", "purge_api_processes")
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
    "purge_endpoints",
    "purge_accounts",
)


@dataclass
class Upkeep:
    """Keeps the tables small."""

    database: Database
    keepalive_days: float
    #: 0 keeps everything
    retention_days: float
    #: set when the worker stops
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    batch: int = BATCH
    turn: float = TURN
    #: time and id of the last old event that was read; None before the first
    _place: tuple[datetime, str] | None = None
    #: the last key that was looked at
    _swept: tuple[str, bytes] = ("", b"")
    #: rows that were created before this have been checked for their parents
    _checked: datetime | None = None
    _reports: RollUp = field(init=False)

    def __post_init__(self) -> None:
        """Make its parts."""
        self._reports = RollUp(self.database)

    async def run_once(self) -> None:
        """Do one run. What fails is logged and stops nothing else, unless Postgres is away."""
        end = time.monotonic() + self.turn
        await _alone("ensure_partitions", self.database.all("ensure_partitions"))
        await _alone("keep_alive", self.database.all("keep_alive", days=self.keepalive_days))
        await self._roll_up(end)
        if self.retention_days:
            await _alone("drop_old_partition", self._drop_partitions(end))
            await _alone("paused_for_long", self._tell_paused())
        # The pulse fails those of lanes that are marked; this is for one whose mark was lost.
        await _alone("fail_waiting", self.database.all("fail_waiting", endpoints=None, most=self.batch))
        await _alone("lanes_to_recount", self._recount(end))
        await _alone("broken_references", self._check_references(end))
        await _alone("sweep_keys", self._sweep_keys(end))
        await self._rows(end)

    async def _roll_up(self, end: float) -> None:
        """Count what reports tell, before anything of it is deleted; for half of the time at most."""
        half = time.monotonic() + (end - time.monotonic()) / 2

        def goes_on() -> bool:
            return self._goes_on(half)

        await _alone("take_report_marks", self._reports.take_marks(goes_on, self._pause))
        await _alone("roll_up_days", self._reports.roll_up(goes_on, self._pause))
        if self.retention_days:
            await _alone("seal_report_days", self._reports.seal(self.retention_days, goes_on, self._pause))
        if goes_on():
            await _alone("check_report_day", self._reports.check())

    async def _recount(self, end: float) -> None:
        """Count the waiting messages of the lanes that were not counted for longest, and correct `lane_depth`."""
        for lane in await self.database.all("lanes_to_recount", most=RECOUNTS):
            if not self._goes_on(end):
                return
            row = await self.database.one("recount_lane", lane=lane["id"])
            if row and row["missed"]:
                log.error(
                    "the count of waiting messages of %s was wrong by %d", lane["id"], row["missed"],
                    extra={"event": "depth.wrong", "account": lane["id"], "missed": row["missed"]},
                )  # fmt: skip

    async def _check_references(self, end: float) -> None:
        """Look among the rows that came since the last run for those that lack their account, endpoint or event."""
        clock = await self.database.all("database_time")
        until: datetime = clock[0]["now"] - UNFINISHED
        since = self._checked or until - CHECKED_FROM
        while since < until and self._goes_on(end):
            next_one = min(since + CHECKED_AT_ONCE, until)
            found = await self.database.all("broken_references", since=since, until=next_one, most=NAMED)
            if names := [f"{row['table']} {row['id']}" for row in found]:
                log.error(
                    "rows without their account, endpoint or event, or of another org: %s", ", ".join(names),
                    extra={"event": "references.broken", "rows": names},
                )  # fmt: skip
            self._checked = since = next_one

    async def _drop_partitions(self, end: float) -> None:
        """Drop the partitions in which every row is over age, each in a transaction of its own."""
        while self._goes_on(end):
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

    async def _sweep_keys(self, end: float) -> None:
        """Go on through all idempotency keys, and delete those whose job is gone."""
        for _ in range(SWEPT_PAGES):
            if not self._goes_on(end):
                return
            page = await self.database.one(
                "sweep_keys", after_org=self._swept[0], after_hash=self._swept[1], most=self.batch
            )
            more = page is not None and page["read"] == self.batch
            self._swept = (page["last_org"], page["last_hash"]) if page and more else ("", b"")
            if not more:
                return

    async def _rows(self, end: float) -> None:
        """Move and delete rows in rounds of one batch of each kind, so that a backlog of one kind blocks no other."""
        kinds = {"move_ended_jobs": SETTLED_DAYS}
        if self.retention_days:
            kinds |= dict.fromkeys(BY_AGE, self.retention_days)
        left = [*kinds, *ALWAYS]
        while left and self._goes_on(end):
            began = time.monotonic()
            left = [name for name in left if await _alone(name, self._batch(name, kinds.get(name)))]
            if left:
                await self._pause(time.monotonic() - began)
        if left:
            log.info(
                "upkeep goes on in its next run: %s", ", ".join(left), extra={"event": "upkeep.behind", "kinds": left}
            )

    async def _batch(self, name: str, days: float | None) -> bool:
        """Move or delete some rows of a kind; return whether there may be more."""
        if name == "purge_events":
            return await self._events(days)
        age = {} if days is None else {"days": days}
        row = await self.database.one(name, most=self.batch, **age)
        return bool(row and row["rows"] == self.batch)

    async def _events(self, days: float | None) -> bool:
        """Look at the next old events, from where the last look ended; at the last one the next look begins anew."""
        at, event = self._place or (None, "")
        row = await self.database.one("purge_events", days=days, most=self.batch, after_at=at, after_id=event)
        more = bool(row and row["read"] == self.batch)
        self._place = (row["last_at"], row["last_id"]) if row and more else None
        return more

    async def _tell_paused(self) -> None:
        for row in await self.database.all("paused_for_long", days=self.retention_days):
            log.warning(
                "endpoint %s is paused and keeps events that are %.0f days old; resume or delete it",
                row["id"], row["days"],
                extra={"event": "endpoint.paused_for_long", "endpoint": row["id"], "days": round(row["days"])},
            )  # fmt: skip

    def _goes_on(self, end: float) -> bool:
        return time.monotonic() < end and not self.stopping.is_set()

    async def _pause(self, seconds: float) -> None:
        """Wait, or until the worker stops."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.stopping.wait(), seconds)


async def _alone(name: str, work: Awaitable[T]) -> T | None:
    """Return what `work` returns; log why it failed and return None. Raise DatabaseUnavailable."""
    try:
        return await work
    except DatabaseUnavailable:
        raise
    except Exception:
        log.exception("upkeep could not do %s", name, extra={"event": "upkeep.failed", "kind": name})
        return None
