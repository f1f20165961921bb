"""Settling: look in the chat for a message that may have been sent, and write what is proved.

While the outcome is unknown, it is looked for again for a while; the message is never sent again on a guess.
"""

import logging
from dataclasses import dataclass

from browser.page.history import Finding, Reason, Verdict
from errors import AttemptFailed, OutcomeUnknown, Refused, UiChanged
from tasks.lanes import Drain
from tasks.sending.claimed_job import Job
from tasks.sending.jobs import Jobs
from tasks.web.job_evidence import JobEvidence
from tasks.web.seats import Session

log = logging.getLogger(__name__)


@dataclass
class Settler:
    """Settles the jobs of one worker."""

    jobs: Jobs
    evidence: JobEvidence

    async def settle(self, drain: Drain, session: Session) -> None:
        """Look for what earlier drains of the lane may have sent."""
        while job := await self.jobs.take_submitted(drain):
            async with session.busy:
                try:
                    await self.settle_one(session, job)
                except (AttemptFailed, UiChanged) as error:
                    # Not again at once: the page is reopened for the others first.
                    await self.jobs.put_off_settling(job)
                    # A chat without a compose box, such as that of a blocked contact, proves no fault of the page.
                    if not isinstance(error, UiChanged) or error.element != "compose":
                        raise
                finally:
                    session.touch()

    async def settle_one(self, session: Session, job: Job) -> None:
        """Look for one message, and write what was found. Raise UiChanged where its status cannot be read."""
        found = await session.page.look_for(
            job.phone, job.message, job.anchor, bubble=job.bubble, others=await self.jobs.bubbles_of_recipient(job)
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
            await self.jobs.sent(job, bubble.id, "settled")
        elif found.verdict is Verdict.FAILED and bubble:
            await self.jobs.failed(job, Refused(bubble.failure or None), bubble.id)
        elif found.verdict is Verdict.NOT_SENT:
            await self.jobs.retry_later(job, AttemptFailed("Enter was not pressed: the chat shows that nothing left."))
        elif job.submitted_for > self._patience(found.verdict):
            unknown = OutcomeUnknown(reason=found.reason)
            await self.evidence.keep(session, job, unknown)
            await self.jobs.failed(job, unknown, bubble.id if bubble else None)
        else:
            await self.jobs.note_reason(job, found.reason)
            if found.verdict is Verdict.UNREADABLE and bubble:
                detail = f"The page has no meta that shows the status of our message: {bubble.mark or 'none'}."
                raise UiChanged(detail, element="meta")

    def _patience(self, verdict: Verdict) -> float:
        # A pending bubble may still leave, and other selectors may be able to read a status. For anything else it is
        # enough to wait until the page has loaded more.
        policy = self.jobs.policy
        waits = verdict in {Verdict.PENDING, Verdict.UNREADABLE}
        return policy.settle_seconds if waits else policy.confirm_seconds


def _is_proof(job: Job, session: Session) -> bool:
    """Tell whether this page must show the message; an older profile, or a disk after a power loss, may lack it."""
    return (job.profile_generation, job.pressed_on) == (session.generation, session.place)
