"""Pace: slow down before an account is harmed.

WhatsApp bans accounts that write much, fast and to everybody. What an account sent is counted in Postgres, from each
permission to press Enter on, so that a restart forgets nothing. Over a limit its lane's gate moves to when it may go
on, and its messages wait.
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
from tasks.sending.job import Job

log = logging.getLogger(__name__)

MINUTE = 60.0  # seconds
STEP = 0.2  # seconds between looks whether the worker stops
LONGEST_GAP = 10.0  # seconds that a drain waits by itself; over it the gate closes, or a disconnect would wait as long
LONGEST_TOOK = 5.0  # seconds; a message that took longer had to wait for something
REJECTED_AT_ONCE = 500  # jobs of one transaction
REJECTING = 20  # transactions of one drain


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
    #: its last submission, and seconds since then
    submitted_at: datetime | None
    since: float | None
    #: seconds from then until the oldest submission of its minute is a minute old
    room: float | None
    #: seconds from taking that message to submitting it
    took: float | None

    def gap(self, lane: str, low: float, high: float) -> float:
        """Return seconds still to wait after the last message: in all, `low` to `high` at random."""
        if self.submitted_at is None or self.since is None:
            return 0.0
        # The same at every look, and in a worker that was started since.
        share = random.Random(f"{lane} {self.submitted_at.isoformat()}").random()  # noqa: S311  # no secret
        return low + share * (self._widest(low, high) - low) - self.since

    def _widest(self, low: float, high: float) -> float:
        """Return the longest gap with which what is due still fills the minute's limit in a minute."""
        if self.minute_limit is None or low * self.minute_limit >= MINUTE:
            return high
        room = MINUTE if self.room is None else self.room
        took = min(self.took or 0.0, LONGEST_TOOK)
        # One more than go, so that one that takes longer than the last does not fall out of the minute.
        messages = min(self.due, self.minute_limit - self.minute_used) + 1
        mean = room / messages - took
        return min(high, max(low, 2 * mean - low))


@dataclass
class Pace:
    """Paces the accounts of one worker."""

    database: Database
    limits: PaceLimits
    #: what is over the day's limit waits for the next day; else it fails
    defer: bool
    #: whether the worker stops
    stopping: Callable[[], bool]

    async def before(self, drain: Drain) -> bool:
        """Wait out the gap to the account's last message; False when nothing may be taken now, or nothing is due."""
        while look := await self._look(drain.lane):
            if not look.due or not await self._allows(drain, look):
                return False
            gap = look.gap(drain.lane, *self.limits.gap_seconds)
            if gap <= 0:
                return True
            if gap > LONGEST_GAP:
                await self._hold(drain, look.now + timedelta(seconds=gap), "pace_gap")
                return False
            await self._sleep(gap)
            if self.stopping():
                return False
        return True

    async def admits(self, job: Job) -> bool:
        """Return whether a job just taken may go; if not, all that waits for its recipient is put off with it."""
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
                "job %s and what follows it to its recipient wait until %s", job.id, until,
                extra={"event": "job.put_off", "job": job.id, "account": job.account_id, "until": until},
            )  # fmt: skip
        return row is None

    async def _look(self, account: str) -> PaceStatus | None:
        looks = await self.database.read(PaceStatus, "pace_of", account=account, limits=self.limits.wire())
        return looks[0] if looks else None

    async def _allows(self, drain: Drain, look: PaceStatus) -> bool:
        """Return whether a job may go after its gap; if not, let what is due wait or fail."""
        if look.day_over and not self.defer:
            # In quiet hours it waits in any case: when they end, another day may have begun.
            if look.quiet_until:
                await self._hold(drain, look.quiet_until, "quiet_hours")
            else:
                await self._reject(drain, look)
            return False
        if look.opens_at and look.reason:
            await self._hold(drain, look.opens_at, look.reason)
            return False
        return True

    async def _hold(self, drain: Drain, until: datetime, reason: str) -> None:
        log.info(
            "account %s waits until %s: %s", drain.lane, until.isoformat(), reason,
            extra={"event": "account.waits", "account": drain.lane, "until": until.isoformat(), "reason": reason},
        )  # fmt: skip
        await self.database.all("hold_gate", lane=drain.lane, epoch=drain.epoch, until=until, reason=reason)

    async def _reject(self, drain: Drain, look: PaceStatus) -> None:
        error = DailyCapExceeded(
            f"The account has sent {look.day_used} messages today and may send {look.day_limit}; its next day begins "
            f"at {look.resets_at.isoformat()} ({look.time_zone})."
        )

        async def work(tx: Transaction) -> int:
            rows = await tx.all(
                "reject_over_day",
                lane=drain.lane,
                epoch=drain.epoch,
                most=REJECTED_AT_ONCE,
                code=error.code,
                detail=error.detail,
            )
            return await wake_returned(tx, rows)

        for _ in range(REJECTING):
            rejected = await self.database.transact(work)
            log.info(
                "%d jobs of account %s failed: %s", rejected, drain.lane, error.code,
                extra={"event": "jobs.rejected", "account": drain.lane, "jobs": rejected, "code": error.code},
            )  # fmt: skip
            if rejected < REJECTED_AT_ONCE or self.stopping():
                return

    async def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self.stopping() and (left := end - time.monotonic()) > 0:  # noqa: ASYNC110  # nothing tells of a stop
            await asyncio.sleep(min(left, STEP))
