"""Sending one message: open → read → type → arm → permit → press → confirm → write.

Until Enter is pressed nothing has left, whatever goes wrong: the job goes back to the queue, or fails. From then on the
message may have been sent, and only the chat can show whether it was.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial

from browser.page.bubbles import Bubble
from browser.page.history import Reason
from errors import (
    AccountWaits,
    AttemptFailed,
    DatabaseError,
    EnterNotTaken,
    EnterRefused,
    LeaseLost,
    NewChatsRestricted,
    OutcomeUnknown,
    PageHung,
    PostriderError,
    Refused,
    SendError,
    UiChanged,
)
from tasks.lanes import Drain
from tasks.sending.claimed_job import Job
from tasks.sending.jobs import SETTLE_RETRY_SECONDS, Jobs
from tasks.web import page_metrics
from tasks.web.incoming import Incoming
from tasks.web.job_evidence import JobEvidence
from tasks.web.seats import Session
from tasks.web.settle import Settler

log = logging.getLogger(__name__)

#: Seconds that the lease must still last for submitting, and for which the armed page lets an Enter through.
ENTER_MARGIN = 10.0
MESSAGE_LIMIT = 150.0  # seconds to open the chat and type
MAX_HELD_BACK = 3  # times in a row that Enter did not reach the page, until the page is reopened
#: why Enter did not reach the page: it would have come after ENTER_MARGIN
LATE = "late"
SURVEY_SECONDS = 60.0  # seconds between counts of how well the selectors match a page


class Fenced(LeaseLost):
    """This drain may not press Enter: a newer one has begun, the gate has closed or the lease is about to end."""


class HeldBack(Exception):
    """Enter did not reach the page."""


@dataclass(frozen=True)
class Sending:
    """A message that is being sent: what each step hands to the next."""

    drain: Drain
    session: Session
    job: Job
    #: until when the chat must be open and the message typed, by the loop's clock
    deadline: float
    #: when the page was armed, by the monotonic clock
    armed_at: float = 0.0
    #: id of the last message above it
    anchor: str | None = None
    #: its bubble, once that has its tick
    bubble: Bubble | None = None


Step = Callable[[Sending], Awaitable[Sending]]


@dataclass
class Sender:
    """Sends the jobs of one worker."""

    jobs: Jobs
    incoming: Incoming
    evidence: JobEvidence
    settler: Settler = field(init=False)

    def __post_init__(self) -> None:
        self.settler = Settler(self.jobs, self.evidence)

    async def send(self, drain: Drain, session: Session, job: Job) -> None:
        """Send a claimed job and write its result. Raises AttemptFailed and AccountWaits, after writing."""
        if job.attempts > self.jobs.policy.attempts + job.blamed:
            await self.jobs.failed(job, AttemptFailed("The worker of each attempt ended before the attempt did."))
            return
        sending = Sending(drain, session, job, asyncio.get_running_loop().time() + MESSAGE_LIMIT)
        try:
            sending = await _through(sending, self._open, self._read, self._type, self._arm, self._permit)
        except DatabaseError:
            await self.jobs.not_pressed(job)
            raise
        except SendError as error:
            await self._not_sent(sending, error)
        else:
            await self._enter(sending)

    async def _enter(self, sending: Sending) -> None:
        try:
            await _through(sending, self._press, self._confirm, self._write)
        except HeldBack as error:
            await self._held_back(sending, str(error))
        except Refused as error:
            await self._without_tick(sending, error)
        except (EnterNotTaken, EnterRefused) as error:
            await self._not_taken(sending, error)
        except OutcomeUnknown as error:
            await self._unknown(sending, error)
        except SendError as error:
            await self._settle_soon(sending, error)
            raise

    # --- the steps before Enter --------------------------------------------------------------------------------------

    async def _open(self, sending: Sending) -> Sending:
        session, job = sending.session, sending.job
        async with _in_time(sending):
            await self.incoming.before_opening(job.account_id, job.phone, job.id, session.page)
            # Trying a new number while WhatsApp restricts new chats prolongs the restriction.
            messages = await self.jobs.bubbles_of_recipient(job) if session.restricted else ()
            await session.page.open_chat(job.phone, known_only=session.restricted, messages=messages)
        return sending

    async def _read(self, sending: Sending) -> Sending:
        async with _in_time(sending):
            job = sending.job
            await self.incoming.before_typing(job.account_id, job.phone, job.id, sending.session.page)
        return sending

    async def _type(self, sending: Sending) -> Sending:
        async with _in_time(sending):
            await sending.session.page.write(sending.job.message)
        return sending

    async def _arm(self, sending: Sending) -> Sending:
        # Armed before the permission is written: so the page lets no Enter through after the lease, however long this
        # process is frozen in between.
        armed_at = time.monotonic()
        return replace(sending, armed_at=armed_at, anchor=await sending.session.page.arm(ENTER_MARGIN))

    async def _permit(self, sending: Sending) -> Sending:
        drain, session, job = sending.drain, sending.session, sending.job
        try:
            row = await self.jobs.database.one(
                "submit_job",
                lane=drain.lane,
                epoch=drain.epoch,
                worker=self.jobs.worker,
                job=job.id,
                claim=job.claim,
                anchor=sending.anchor,
                generation=session.generation,
                pressed_on=session.place,
                margin=ENTER_MARGIN,
                look=SETTLE_RETRY_SECONDS,
            )
        except DatabaseError:
            await _clear(session)
            raise
        if row is None:
            await _clear(session)
            raise Fenced
        return sending

    # --- the steps from Enter on -------------------------------------------------------------------------------------

    async def _press(self, sending: Sending) -> Sending:
        if time.monotonic() - sending.armed_at > ENTER_MARGIN:
            raise HeldBack(LATE)
        await sending.session.page.press_enter()
        if why := await sending.session.page.held_back():
            raise HeldBack(why)
        sending.session.held_back = 0
        return sending

    async def _confirm(self, sending: Sending) -> Sending:
        seconds, seen = self.jobs.policy.confirm_seconds, partial(self._note, sending.job)
        bubble = await sending.session.page.confirm(sending.job.message, sending.anchor, seconds, seen)
        return replace(sending, bubble=bubble)

    async def _write(self, sending: Sending) -> Sending:
        if sending.bubble:
            await self.jobs.sent(sending.job, sending.bubble.id)
            await _survey(sending.session)
        return sending

    async def _note(self, job: Job, bubble: str) -> None:
        """Write the id of a message that stays pending; best effort, since its outcome does not depend on that."""
        with suppress(DatabaseError):
            await self.jobs.note_bubble(job, bubble)

    # --- when a step fails -------------------------------------------------------------------------------------------

    async def _not_sent(self, sending: Sending, error: SendError) -> None:
        """Write the result of a message that has not left. Raise an error of the account or its page."""
        session, job = sending.session, sending.job
        log.info(
            "job %s was not sent: %s", job.id, error.code,
            extra={"event": "job.not_sent", "job": job.id, "account": job.account_id, "code": error.code,
                   "attempts": job.attempts},
        )  # fmt: skip
        doubted = job.blamed and isinstance(error, UiChanged)
        if isinstance(error, AttemptFailed) or doubted:
            await self.jobs.retry_later(job, error)
        elif isinstance(error, AccountWaits):
            await self.jobs.returned(job, error)
        else:
            if isinstance(error, NewChatsRestricted) and not session.restricted:
                await self._restricted(session, error.restriction, error.until)
            await self.jobs.failed(job, error)
        await self.evidence.keep(session, job, error)
        if doubted:
            raise _blamed(error) from error
        if isinstance(error, AttemptFailed | AccountWaits):
            raise error

    async def _held_back(self, sending: Sending, why: str) -> None:
        """Queue a message again whose Enter did not reach the page. Raise PageHung if that happens repeatedly."""
        session, job = sending.session, sending.job
        session.held_back += 1
        if session.held_back < MAX_HELD_BACK:
            await self.jobs.not_pressed(job)
            return
        session.held_back = 0
        error = PageHung(
            "Enter would have come too late, several times in a row."
            if why == LATE
            else "Another element than the compose box would have got Enter, several times in a row."
        )
        await self.jobs.not_pressed(job, error, counts=True)
        await self.evidence.keep(session, job, error)
        raise error

    async def _not_taken(self, sending: Sending, error: EnterNotTaken | EnterRefused) -> None:
        """Queue a message again that is still in the box, for the send button next; if that has failed too, raise."""
        session, job = sending.session, sending.job
        refused = error if isinstance(error, EnterRefused) else None
        await self.jobs.not_pressed(job, refused, counts=job.blamed and refused is not None)
        await self.evidence.keep(session, job, error)
        await _clear(session)
        if refused:
            raise _blamed(refused) if job.blamed else refused

    async def _without_tick(self, sending: Sending, error: OutcomeUnknown | Refused) -> None:
        session, job = sending.session, sending.job
        await self.evidence.keep(session, job, error)
        if isinstance(error, Refused) and (restriction := await session.page.restriction()):
            await self._restricted(session, restriction, None)
        await self.jobs.failed(job, error, error.bubble)

    async def _unknown(self, sending: Sending, error: OutcomeUnknown) -> None:
        """Look for a message that the page lost sight of, for example in a crash."""
        try:
            if error.reason == Reason.AT_THE_CLOCK:
                await self._without_tick(sending, error)
                return
            pressed = replace(
                sending.job, anchor=sending.anchor, bubble=error.bubble,
                profile_generation=sending.session.generation, pressed_on=sending.session.place,
                submitted_for=time.monotonic() - sending.armed_at,
            )  # fmt: skip
            await self.settler.settle_one(sending.session, pressed)
        except SendError as found:
            await self._settle_soon(sending, found)
            raise

    async def _settle_soon(self, sending: Sending, error: SendError) -> None:
        """Have the job settled at once: Enter was pressed, or may have been."""
        await self.jobs.settle_soon(sending.job, Reason.UNREADABLE if isinstance(error, UiChanged) else None)
        await self.evidence.keep(sending.session, sending.job, error)

    async def _restricted(self, session: Session, restriction: str, until: date | None) -> None:
        session.restricted = True
        await self.jobs.database.all(
            "set_restriction", account=session.account, worker=self.jobs.worker, restriction=restriction, until=until
        )


async def _through(sending: Sending, *steps: Step) -> Sending:
    for step in steps:
        sending = await step(sending)
    return sending


@asynccontextmanager
async def _in_time(sending: Sending) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout_at(sending.deadline):
            yield
    except TimeoutError:
        raise PageHung(f"The chat was not open and the message typed within {MESSAGE_LIMIT:.0f} s.") from None


async def _clear(session: Session) -> None:
    # Best effort: writing the next message clears the box as well.
    with suppress(PostriderError):
        await session.page.clear()


async def _survey(session: Session) -> None:
    """Count how well the selectors match the page, at most once a minute; a chat with our message is open now."""
    if time.monotonic() - session.surveyed > SURVEY_SECONDS:
        session.surveyed = time.monotonic()
        with suppress(SendError):
            page_metrics.surveyed(*await session.page.survey())


def _blamed(error: SendError) -> PageHung:
    """Return the error of a blamed job on a page that is not recognised: it may be only the job's own chat."""
    return PageHung(error.detail)
