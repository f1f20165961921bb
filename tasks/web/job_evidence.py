"""Evidence of failed messages: what the page showed, with its name in the job."""

from dataclasses import dataclass

from errors import AttemptFailed, OutcomeUnknown, Refused, SendError, UiChanged
from sql.database import Database
from tasks.sending.claimed_job import Job
from tasks.web.evidence_store import EvidenceStore
from tasks.web.seats import Session

#: errors for which the page itself is evidence
OF_THE_PAGE = AttemptFailed | UiChanged | OutcomeUnknown | Refused


@dataclass
class JobEvidence:
    """Keeps evidence of pages on which a message failed."""

    database: Database
    store: EvidenceStore

    async def keep(self, session: Session, job: Job, error: SendError) -> None:
        """If the error is one of the page, keep evidence of the page and write its name into the job."""
        if isinstance(error, OF_THE_PAGE):
            name = await self.store.keep(job.account_id, error.sign, session.page, job=job.id)
            if name:
                await self.database.all("set_evidence", job=job.id, evidence=name)
