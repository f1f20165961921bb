"""Sending one message: open the chat, read it, type, write the permission to press Enter, press it, wait for the tick.

What becomes of it is a state of the job's row, and an event in the same statement. A result that is known is never
thrown away: it is written until it commits. What is not known is settled by looking at the chat, and never sent again
on a guess.
"""

import asyncio
import logging
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date
from functools import partial

from browser.page.bubbles import Bubble
from browser.page.history import Finding, Reason, Verdict
from errors import (
    AccountWaits,
    AttemptFailed,
    DatabaseUnavailable,
    EnterNotTaken,
    EnterRefused,
    LeaseLost,
    NewChatsRestricted,
    OutcomesUnknown,
    OutcomeUnknown,
    PageHung,
    PostriderError,
    Refused,
    SendError,
    UiChanged,
)
from sql.database import Database, Transaction
from tasks.backoff import backoff
from tasks.lanes import UNKNOWN_MOST, Drain, wake_returned
from tasks.sending.job import Job, Policy
from tasks.web import page_metrics
from tasks.web.evidence_store import EvidenceStore
from tasks.web.incoming import Incoming
from tasks.web.seats import Session

log = logging.getLogger(__name__)

#: Seconds of lease that submitting needs, and for which the page lets an Enter through.
ENTER_MARGIN = 10.0
MESSAGE_LIMIT = 150.0  # seconds to open the chat and type
SETTLE_AGAIN = 5.0  # seconds until an unsettled message is looked at again
BACKOFF_CAP = 300.0  # seconds
COMMIT_AGAIN = 0.5  # seconds between tries to write a result
HELD_BACK = 3  # times in a row that Enter did not reach the page, until it is opened anew
#: why Enter did not reach the page: it would have come after ENTER_MARGIN
LATE = "late"
SURVEY = 60.0  # seconds between looks how well a page is known


class Fenced(LeaseLost):
    """This drain may not press Enter: a newer one has begun, the gate has closed or the lease is about to end."""


@dataclass
class Sender:
    """Sends the jobs of one worker."""

    database: Database
    worker: str
    policy: Policy
    incoming: Incoming
    evidence: EvidenceStore

    async def take(self, drain: Drain) -> Job | None:
        """Claim the next due job of the lane."""
        jobs = await self.database.read(Job, "take_job", lane=drain.lane, epoch=drain.epoch, worker=self.worker)
        return jobs[0] if jobs else None

    async def send(self, drain: Drain, session: Session, job: Job) -> None:
        """Send a claimed job and write what became of it. Raises AttemptFailed and AccountWaits after that."""
        if job.attempts > self.policy.attempts + job.blamed:
            await self.failed(job, AttemptFailed("Each attempt ended with the worker that made it."))
            return
        try:
            await self._type(session, job)
            armed = time.monotonic()
            anchor = await self._submit(drain, session, job)
        except DatabaseUnavailable:
            await self._not_pressed(job)
            raise
        except SendError as error:
            await self._not_sent(session, job, error)
            if job.blamed and isinstance(error, UiChanged):
                raise _blamed(error) from error
            if isinstance(error, AttemptFailed | AccountWaits):
                raise
            return
        await self._enter(session, job, anchor, armed)

    async def _type(self, session: Session, job: Job) -> None:
        try:
            async with asyncio.timeout(MESSAGE_LIMIT):
                await self.incoming.before_opening(job.account_id, job.phone, job.id, session.page)
                # A new number that is tried while WhatsApp allows none makes the restriction last.
                messages = await self._beside(job) if session.restricted else ()
                await session.page.open_chat(job.phone, known_only=session.restricted, messages=messages)
                await self.incoming.before_typing(job.account_id, job.phone, job.id, session.page)
                await session.page.write(job.message)
        except TimeoutError:
            raise PageHung(f"The chat was not open and the message typed within {MESSAGE_LIMIT:.0f} s.") from None

    async def _submit(self, drain: Drain, session: Session, job: Job) -> str | None:
        # Armed before the write: the page then closes no later than the lease, however long this process is frozen in
        # between.
        anchor = await session.page.arm(ENTER_MARGIN)
        try:
            row = await self.database.one(
                "submit_job",
                lane=drain.lane,
                epoch=drain.epoch,
                worker=self.worker,
                job=job.id,
                claim=job.claim,
                anchor=anchor,
                generation=session.generation,
                pressed_on=session.place,
                margin=ENTER_MARGIN,
                look=SETTLE_AGAIN,
            )
        except DatabaseUnavailable:
            await self._clear(session)
            raise
        if row is None:
            await self._clear(session)
            raise Fenced
        return anchor

    async def _clear(self, session: Session) -> None:
        # Best effort: writing the next message clears the box as well.
        with suppress(PostriderError):
            await session.page.clear()

    async def _enter(self, session: Session, job: Job, anchor: str | None, armed: float) -> None:
        if time.monotonic() - armed > ENTER_MARGIN:
            await self._held_back(session, job, LATE)
            return
        try:
            await session.page.press_enter()
            if held := await session.page.held_back():
                await self._held_back(session, job, held)
                return
            session.held_back = 0
            await self._follow(session, job, anchor, armed)
        except Refused as error:
            await self._without_tick(session, job, error)
        except (EnterNotTaken, EnterRefused) as error:
            await self._not_taken(session, job, error)
        except SendError as error:
            # Enter was pressed, or may have been: the chat has to be looked at, at once.
            reason = Reason.UNREADABLE if isinstance(error, UiChanged) else None
            await self.database.all("settle_soon", job=job.id, claim=job.claim, reason=reason)
            await self._keep(session, job, error)
            raise

    async def _follow(self, session: Session, job: Job, anchor: str | None, armed: float) -> None:
        """Wait for the tick; where the page lost sight of the message, look for it as after a crash."""
        seen = partial(self._note, job)
        try:
            bubble = await session.page.confirm(job.message, anchor, self.policy.confirm_seconds, seen)
        except OutcomeUnknown as error:
            if error.reason == Reason.AT_THE_CLOCK:
                await self._without_tick(session, job, error)
                return
            pressed = replace(
                job, anchor=anchor, bubble=error.bubble, profile_generation=session.generation,
                pressed_on=session.place, submitted_for=time.monotonic() - armed,
            )  # fmt: skip
            await self._settle_one(session, pressed)
            return
        await self.sent(job, bubble)
        await self._survey(session)

    async def _survey(self, session: Session) -> None:
        """Count now and then how well the page is known, with a chat open and a message of ours in it."""
        if time.monotonic() - session.surveyed > SURVEY:
            session.surveyed = time.monotonic()
            with suppress(SendError):
                page_metrics.surveyed(*await session.page.survey())

    async def _held_back(self, session: Session, job: Job, why: str) -> None:
        """Give back a message whose Enter was held back. Raise PageHung where that happens again and again."""
        session.held_back += 1
        if session.held_back < HELD_BACK:
            await self._not_pressed(job)
            return
        session.held_back = 0
        error = PageHung(
            "Enter would have come too late, again and again."
            if why == LATE
            else "Something else than the compose box would have got Enter, again and again."
        )
        await self._not_pressed(job, error, counts=True)
        raise error

    async def _not_taken(self, session: Session, job: Job, error: EnterNotTaken | EnterRefused) -> None:
        """Give back a message that still stands in the box; it is tried through the button next, then not at all."""
        refused = error if isinstance(error, EnterRefused) else None
        await self._not_pressed(job, refused, counts=job.blamed and refused is not None)
        await self._keep(session, job, error)
        await self._clear(session)
        if refused:
            raise _blamed(refused) if job.blamed else refused

    async def _without_tick(self, session: Session, job: Job, error: OutcomeUnknown | Refused) -> None:
        await self._keep(session, job, error)
        if isinstance(error, Refused) and (restriction := await session.page.restriction()):
            await self._restricted(session, restriction, None)
        await self.failed(job, error, error.bubble)

    async def _note(self, job: Job, bubble: str) -> None:
        """Write the id of a message that stays at the clock; its outcome does not hang on that."""
        with suppress(DatabaseUnavailable):
            await self.database.all("note_bubble", job=job.id, claim=job.claim, bubble=bubble)

    async def _not_pressed(self, job: Job, error: SendError | None = None, *, counts: bool = False) -> None:
        """Write that Enter did not reach the page: Postgres was away, or this process was frozen for too long.

        Nobody else can know it. Whoever took over meanwhile looks at a chat that proves nothing, from an older profile.
        With `counts` the `error` has used up an attempt.
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

    async def release(self, drain: Drain) -> None:
        """Give back what earlier drains of the lane only typed."""
        await self.database.all("release_typed", lane=drain.lane, epoch=drain.epoch)

    async def settle(self, drain: Drain, session: Session) -> None:
        """Look for what earlier drains of the lane may have sent."""
        while jobs := await self.database.read(
            Job, "take_submitted", lane=drain.lane, epoch=drain.epoch, worker=self.worker, look=SETTLE_AGAIN
        ):
            async with session.busy:
                try:
                    await self._settle_one(session, jobs[0])
                except (AttemptFailed, UiChanged) as error:
                    # Not at once again: the page is opened anew for the others.
                    await self.database.all("put_off_settling", job=jobs[0].id, claim=jobs[0].claim, look=SETTLE_AGAIN)
                    # A chat without a box, as that of somebody blocked, tells nothing of the page.
                    if not isinstance(error, UiChanged) or error.element != "compose":
                        raise

    async def _beside(self, job: Job) -> set[str]:
        """Return the ids of other messages to the same recipient."""
        rows = await self.database.all("bubbles_of_recipient", account=job.account_id, phone=job.phone, job=job.id)
        return {row["bubble"] for row in rows}

    async def _settle_one(self, session: Session, job: Job) -> None:
        found = await session.page.look_for(
            job.phone, job.message, job.anchor, bubble=job.bubble, others=await self._beside(job)
        )
        if found.verdict is Verdict.NOT_SENT and not _is_proof(job, session):
            found = Finding(Verdict.UNKNOWN, reason=Reason.OLDER_PROFILE)
        log.info(
            "settling job %s: %s", job.id, found.verdict.name,
            extra={"event": "job.settling", "job": job.id, "account": job.account_id, "verdict": found.verdict.value,
                   "reason": found.reason},
        )  # fmt: skip
        bubble = found.bubble
        if found.verdict is Verdict.SENT and bubble:
            await self.sent(job, bubble, "settled")
        elif found.verdict is Verdict.FAILED and bubble:
            await self.failed(job, Refused(bubble.failure or None), bubble.id)
        elif found.verdict is Verdict.NOT_SENT:
            await self._again(job, AttemptFailed("Enter was not pressed: the chat shows that nothing left."))
        elif job.submitted_for > self._patience(found.verdict):
            unknown = OutcomeUnknown(reason=found.reason)
            await self._keep(session, job, unknown)
            await self.failed(job, unknown, bubble.id if bubble else None)
        else:
            await self.database.all("note_reason", job=job.id, claim=job.claim, reason=found.reason)
            if found.verdict is Verdict.UNREADABLE and bubble:
                detail = f"The page has no meta that tells the status of our message: {bubble.mark or 'none'}."
                raise UiChanged(detail, element="meta")

    def _patience(self, verdict: Verdict) -> float:
        # A bubble at the clock may still leave, and a status that nobody can read may be read by other selectors. What
        # cannot be told now may be told once the page has loaded more.
        waits = verdict in {Verdict.PENDING, Verdict.UNREADABLE}
        return self.policy.settle_seconds if waits else self.policy.confirm_seconds

    async def _keep(self, session: Session, job: Job, error: SendError) -> None:
        """Keep what the page shows, where it is the page that failed, and say in the job where."""
        if isinstance(error, AttemptFailed | UiChanged | OutcomeUnknown | Refused):
            name = await self.evidence.keep(job.account_id, error.sign, session.page, job=job.id)
            if name:
                await self.database.all("set_evidence", job=job.id, evidence=name)

    async def _not_sent(self, session: Session, job: Job, error: SendError) -> None:
        log.info(
            "job %s was not sent: %s", job.id, error.code,
            extra={"event": "job.not_sent", "job": job.id, "account": job.account_id, "code": error.code,
                   "attempts": job.attempts},
        )  # fmt: skip
        if isinstance(error, AttemptFailed) or (isinstance(error, UiChanged) and job.blamed):
            await self._again(job, error)
        elif isinstance(error, AccountWaits):
            await self.database.all("return_job", job=job.id, claim=job.claim, code=error.code, detail=error.detail)
        else:
            if isinstance(error, NewChatsRestricted) and not session.restricted:
                await self._restricted(session, error.restriction, error.until)
            await self.failed(job, error)
        await self._keep(session, job, error)

    async def _restricted(self, session: Session, restriction: str, until: date | None) -> None:
        session.restricted = True
        await self.database.all(
            "set_restriction", account=session.account, worker=self.worker, restriction=restriction, until=until
        )

    async def _again(self, job: Job, error: AttemptFailed | UiChanged) -> None:
        if job.attempts >= self.policy.attempts:
            await self.failed(job, error)
            return
        await self.database.all(
            "try_again", job=job.id, claim=job.claim, seconds=self._pause(job), code=error.code, detail=error.detail
        )

    def _pause(self, job: Job) -> float:
        return backoff(job.attempts, base=self.policy.backoff_seconds, factor=2, cap=BACKOFF_CAP)

    async def sent(self, job: Job, bubble: Bubble, detail: str | None = None) -> None:
        """Write that the message has its tick."""
        await self._until_written("job_sent", job=job.id, claim=job.claim, bubble=bubble.id, detail=detail)
        log.info(
            "job %s was sent", job.id,
            extra={"event": "job.sent", "job": job.id, "account": job.account_id, "attempts": job.attempts},
        )  # fmt: skip

    async def failed(self, job: Job, error: SendError, bubble: str | None = None) -> None:
        """Write that the message failed for good. Raise OutcomesUnknown where that is one too many."""
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
            await self._count(job)

    async def _count(self, job: Job) -> None:
        """Raise OutcomesUnknown when three messages of the account in a row have ended without a tick."""
        row = await self.database.one("unknown_in_a_row", account=job.account_id)
        if row and row["count"] >= UNKNOWN_MOST:
            raise OutcomesUnknown

    async def _until_written(self, name: str, **values: object) -> None:
        # Written again after a commit whose answer was lost, it finds the claim gone and changes nothing.
        async def write(tx: Transaction) -> None:
            await wake_returned(tx, await tx.all(name, **values))

        while True:
            try:
                await self.database.transact(write)
                return
            except DatabaseUnavailable:
                log.warning(
                    "the result of job %s waits for the database", values["job"],
                    extra={"event": "job.result_waits", "job": values["job"]},
                )  # fmt: skip
                await asyncio.sleep(COMMIT_AGAIN)


def _blamed(error: UiChanged) -> PageHung:
    """Return what a page that is not known means of a job that is blamed: it may be its own chat alone that is so."""
    return PageHung(error.detail)


def _is_proof(job: Job, session: Session) -> bool:
    """Tell whether this page would show the message; an older copy of the profile, or a disk without power, may not."""
    return (job.profile_generation, job.pressed_on) == (session.generation, session.place)
