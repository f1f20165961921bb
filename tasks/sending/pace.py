"""Pace: slow down before an account is harmed.

WhatsApp bans accounts that write much, fast and to everybody. Messages are counted in Postgres with each permission to
press Enter, so that a restart loses no count. Over a limit the gate of the account's lane closes until it may send
again, and its messages wait.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from errors import DailyCapExceeded
from sql.database import Database, Transaction
from sql.pace_limits import PaceLimits
from tasks.lanes import Drain, wake_returned
from tasks.sending.claimed_job import Job

log = logging.getLogger(__name__)

MINUTE = 60.0  # seconds
STOP_CHECK_SECONDS = 0.2  # seconds between checks whether the worker stops
#: Seconds that a drain itself waits; a longer gap closes the gate, so that a disconnect need not wait for the drain.
LONGEST_GAP = 10.0
LONGEST_TOOK = 5.0  # seconds; a message that took longer was held up by something else
REJECT_BATCH = 500  # jobs rejected in one transaction
MAX_REJECT_BATCHES = 20  # transactions of one drain


@dataclass(frozen=True)
class PaceStatus:
    """What Postgres knows of an account's pace: a row of pace_of."""

    #: jobs that are due now, counted up to the minute's limit
    due: int
    #: from when it may send again, and why not before; None when it may send now
    opens_at: datetime | None
    reason: str | None
    quiet_until: datetime | None
    minute_limit: int | None
    minute_used: int
    day_limit: int | None
    day_used: int
    day_over: bool | None
    resets_at: datetime
    time_zone: str
    now: datetime
    #: its last submission, None when that is longer ago than any gap, and seconds since then
    submitted_at: datetime | None
    since: float | None
    #: seconds from then until the oldest submission of its minute is a minute old
    room: float | None
    #: seconds from taking that message to submitting it
    took: float | None

    def gap(self, lane: str, low: float, high: float) -> float:
        """Return the seconds still to wait after the last message; the whole gap is random, `low` to `high`."""
        if self.submitted_at is None or self.since is None:
            return 0.0
        # Seeded with the last message: the same gap at every check, and in another worker.
        share = random.Random(f"{lane} {self.submitted_at.isoformat()}").random()  # noqa: S311  # no secret
        return low + share * (self._widest(low, high) - low) - self.since

    def _widest(self, low: float, high: float) -> float:
        """Return the longest gap with which the due jobs still use the limit per minute fully."""
        if self.minute_limit is None or low * self.minute_limit >= MINUTE:
            return high
        room = MINUTE if self.room is None else self.room
        took = min(self.took or 0.0, LONGEST_TOOK)
        # One more than will be sent: leaves time for a message that takes longer than the last one.
        messages = min(self.due, self.minute_limit - self.minute_used) + 1
        mean = room / messages - took
        return min(high, max(low, 2 * mean - low))


@dataclass
class Pace:
    """Paces the accounts of one worker."""

    database: Database
    limits: PaceLimits
    #: messages over the day's limit wait for the next day instead of failing
    defer: bool
    #: whether the worker stops
    stopping: Callable[[], bool]

    async def before(self, drain: Drain) -> bool:
        """Wait out the gap after the account's last message; False when no job may be taken now, or none is due."""
        while status := await self._status(drain.lane):
            if not status.due or not await self._allows(drain, status):
                return False
            gap = status.gap(drain.lane, *self.limits.gap_seconds)
            if gap <= 0:
                return True
            if gap > LONGEST_GAP:
                await self._hold(drain, status.now + timedelta(seconds=gap), "pace_gap")
                return False
            await self._sleep(gap)
            if self.stopping():
                return False
        return True

    async def admits(self, job: Job) -> bool:
        """Return whether a job just taken may be sent; if not, put off all waiting jobs to its recipient with it."""
        if not self.limits.per_recipient_hour:
            return True
        row = await self.database.one(
            "put_off_recipient",
            account=job.account_id,
            phone=job.phone,
            job=job.id,
            claim=job.claim,
            per_hour=self.limits.per_recipient_hour,
        )
        if row:
            until = row["opens_at"].isoformat()
            log.info(
                "job %s and later ones to its recipient wait until %s", job.id, until,
                extra={"event": "job.put_off", "job": job.id, "account": job.account_id, "until": until},
            )  # fmt: skip
        return row is None

    async def _status(self, account: str) -> PaceStatus | None:
        longest = max(MINUTE, self.limits.gap_seconds[1])
        rows = await self.database.read(
            PaceStatus, "pace_of", account=account, limits=self.limits.wire(), longest=longest
        )
        return rows[0] if rows else None

    async def _allows(self, drain: Drain, status: PaceStatus) -> bool:
        """Return whether a job may be sent after its gap; if not, let the due jobs wait or fail."""
        if status.day_over and not self.defer:
            # In quiet hours jobs wait in any case: when those end, another day may have begun.
            if status.quiet_until:
                await self._hold(drain, status.quiet_until, "quiet_hours")
            else:
                await self._reject(drain, status)
            return False
        if status.opens_at and status.reason:
            await self._hold(drain, status.opens_at, status.reason)
            return False
        return True

    async def _hold(self, drain: Drain, until: datetime, reason: str) -> None:
        log.info(
            "account %s waits until %s: %s", drain.lane, until.isoformat(), reason,
            extra={"event": "account.waits", "account": drain.lane, "until": until.isoformat(), "reason": reason},
        )  # fmt: skip
        await self.database.all("hold_gate", lane=drain.lane, epoch=drain.epoch, until=until, reason=reason)

    async def _reject(self, drain: Drain, status: PaceStatus) -> None:
        error = DailyCapExceeded(
            f"The account has sent {status.day_used} messages today and may send {status.day_limit}; "
            f"its next day begins at {status.resets_at.isoformat()} ({status.time_zone})."
        )

        async def work(tx: Transaction) -> int:
            rows = await tx.all(
                "reject_over_day",
                lane=drain.lane,
                epoch=drain.epoch,
                most=REJECT_BATCH,
                code=error.code,
                detail=error.detail,
            )
            return await wake_returned(tx, rows)

        for _ in range(MAX_REJECT_BATCHES):
            rejected = await self.database.transact(work)
            log.info(
                "%d jobs of account %s failed: %s", rejected, drain.lane, error.code,
                extra={"event": "jobs.rejected", "account": drain.lane, "jobs": rejected, "code": error.code},
            )  # fmt: skip
            if rejected < REJECT_BATCH or self.stopping():
                return

    async def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self.stopping() and (left := end - time.monotonic()) > 0:  # noqa: ASYNC110  # there is no event
            await asyncio.sleep(min(left, STOP_CHECK_SECONDS))
