"""Claims jobs and writes their results, whatever the transport.

A result is a state of the job's row, and an event in the same statement. A known result is never thrown away: the write
is retried until it commits.
"""

import asyncio
import logging
from dataclasses import dataclass

from errors import DatabaseError, OutcomesUnknown, OutcomeUnknown, Refused, SendError
from sql.database import Database, Transaction
from tasks.backoff import backoff
from tasks.lanes import UNKNOWN_LIMIT, Drain, wake_returned
from tasks.sending.claimed_job import Job, Policy

log = logging.getLogger(__name__)

SETTLE_RETRY_SECONDS = 5.0  # seconds until an unsettled message is looked for again
BACKOFF_CAP = 300.0  # seconds
COMMIT_RETRY_SECONDS = 0.5  # seconds between attempts to write a result


@dataclass
class Jobs:
    """The jobs that one worker has claimed."""

    database: Database
    worker: str
    policy: Policy

    # --- claiming ----------------------------------------------------------------------------------------------------

    async def take(self, drain: Drain) -> Job | None:
        """Claim the next due job of the lane."""
        jobs = await self.database.read(Job, "take_job", lane=drain.lane, epoch=drain.epoch, worker=self.worker)
        return jobs[0] if jobs else None

    async def take_submitted(self, drain: Drain) -> Job | None:
        """Claim a job of the lane that an earlier drain may have sent."""
        jobs = await self.database.read(
            Job, "take_submitted", lane=drain.lane, epoch=drain.epoch, worker=self.worker, look=SETTLE_RETRY_SECONDS
        )
        return jobs[0] if jobs else None

    async def release(self, drain: Drain) -> None:
        """Queue again what earlier drains of the lane claimed and did not submit."""
        await self.database.all("release_typed", lane=drain.lane, epoch=drain.epoch)

    # --- results -----------------------------------------------------------------------------------------------------

    async def sent(self, job: Job, bubble: str, detail: str | None = None) -> None:
        """Write that the message has its tick."""
        await self._until_written("job_sent", job=job.id, claim=job.claim, bubble=bubble, detail=detail)
        log.info(
            "job %s was sent", job.id,
            extra={"event": "job.sent", "job": job.id, "account": job.account_id, "attempts": job.attempts},
        )  # fmt: skip

    async def failed(self, job: Job, error: SendError, bubble: str | None = None) -> None:
        """Write that the message failed. Raise OutcomesUnknown after too many unknown outcomes in a row."""
        reason = error.reason if isinstance(error, OutcomeUnknown) else None
        await self._until_written(
            "job_failed",
            job=job.id,
            claim=job.claim,
            bubble=bubble,
            code=error.code,
            detail=error.detail,
            reason=reason,
        )
        log.info(
            "job %s failed: %s", job.id, error.code,
            extra={"event": "job.failed", "job": job.id, "account": job.account_id, "code": error.code,
                   "reason": reason, "attempts": job.attempts},
        )  # fmt: skip
        if isinstance(error, OutcomeUnknown | Refused):
            await self._count_unknown(job)

    async def retry_later(self, job: Job, error: SendError) -> None:
        """Queue a job again after a failed attempt, with a backoff; after its last attempt write that it failed."""
        if job.attempts >= self.policy.attempts:
            await self.failed(job, error)
            return
        await self.database.all(
            "try_again", job=job.id, claim=job.claim, seconds=self._pause(job), code=error.code, detail=error.detail
        )

    async def returned(self, job: Job, error: SendError) -> None:
        """Queue a job again because its account has to wait; no attempt is used up."""
        await self.database.all("return_job", job=job.id, claim=job.claim, code=error.code, detail=error.detail)

    async def not_pressed(self, job: Job, error: SendError | None = None, *, counts: bool = False) -> None:
        """Write that Enter did not reach the page: Postgres was away, or this process was frozen for too long.

        No other process can know that: a worker that took over meanwhile has an older profile, whose chat proves
        nothing. With `counts` the `error` has used up an attempt.
        """
        log.warning(
            "job %s: Enter was not pressed", job.id,
            extra={"event": "job.not_pressed", "job": job.id, "account": job.account_id},
        )  # fmt: skip
        if counts and error and job.attempts >= self.policy.attempts:
            await self.failed(job, error)
            return
        code, detail = (error.code, error.detail) if error else (None, None)
        seconds = self._pause(job) if counts else None
        await self._until_written("not_pressed", job=job.id, claim=job.claim, seconds=seconds, code=code, detail=detail)

    # --- unsettled jobs ----------------------------------------------------------------------------------------------

    async def settle_soon(self, job: Job, reason: str | None) -> None:
        """Have a submitted job settled at once."""
        await self.database.all("settle_soon", job=job.id, claim=job.claim, reason=reason)

    async def put_off_settling(self, job: Job) -> None:
        """Have a submitted job settled later, after the others."""
        await self.database.all("put_off_settling", job=job.id, claim=job.claim, look=SETTLE_RETRY_SECONDS)

    async def note_bubble(self, job: Job, bubble: str) -> None:
        """Write the id of its message."""
        await self.database.all("note_bubble", job=job.id, claim=job.claim, bubble=bubble)

    async def note_reason(self, job: Job, reason: str | None) -> None:
        """Write why its outcome is unknown for now."""
        await self.database.all("note_reason", job=job.id, claim=job.claim, reason=reason)

    async def bubbles_of_recipient(self, job: Job) -> set[str]:
        """Return the ids of other messages to its recipient."""
        rows = await self.database.all("bubbles_of_recipient", account=job.account_id, phone=job.phone, job=job.id)
        return {row["bubble"] for row in rows}

    # --- inside ------------------------------------------------------------------------------------------------------

    def _pause(self, job: Job) -> float:
        return backoff(job.attempts, base=self.policy.backoff_seconds, factor=2, cap=BACKOFF_CAP)

    async def _count_unknown(self, job: Job) -> None:
        """Raise OutcomesUnknown when three messages of the account in a row have ended without a tick."""
        row = await self.database.one("unknown_in_a_row", account=job.account_id)
        if row and row["count"] >= UNKNOWN_LIMIT:
            raise OutcomesUnknown

    async def _until_written(self, name: str, **values: object) -> None:
        # Idempotent: if the commit succeeded and only its answer was lost, the claim is gone and nothing changes.
        async def write(tx: Transaction) -> None:
            await wake_returned(tx, await tx.all(name, **values))

        while True:
            try:
                await self.database.transact(write)
                return
            except DatabaseError:
                log.warning(
                    "the result of job %s waits for the database", values["job"],
                    extra={"event": "job.result_waits", "job": values["job"]},
                )  # fmt: skip
                await asyncio.sleep(COMMIT_RETRY_SECONDS)
