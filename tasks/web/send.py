"""Sending one message: open → read → type → arm → permit → press → confirm → write.

Until Enter is pressed nothing has left, whatever goes wrong: the job goes back to the queue, or fails. From then on the
message may have been sent, and only what the chat shows is believed.
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
    DatabaseUnavailable,
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
from tasks.sending.job import Job
from tasks.sending.jobs import SETTLE_AGAIN, Jobs
from tasks.web import page_metrics
from tasks.web.incoming import Incoming
from tasks.web.job_evidence import JobEvidence
from tasks.web.seats import Session
from tasks.web.settle import Settler

log = logging.getLogger(__name__)

#: Seconds of lease that submitting needs, and for which the page lets an Enter through.
ENTER_MARGIN = 10.0
MESSAGE_LIMIT = 150.0  # seconds to open the chat and type
HELD_BACK = 3  # times in a row that Enter did not reach the page, until it is opened anew
#: why Enter did not reach the page: it would have come after ENTER_MARGIN
LATE = "late"
SURVEY = 60.0  # seconds between looks how well a page is known


class Fenced(LeaseLost):
    """This drain may not press Enter: a newer one has begun, the gate has closed or the lease is about to end."""


class HeldBack(Exception):
    """Enter did not reach the page."""


@dataclass(frozen=True)
class Sending:
    """A message on its way: what each step hands to the next."""

    drain: Drain
    session: Session
    job: Job
    #: by the loop's clock, until when its chat is to be open and it typed
    deadline: float
    #: when the page was armed, by the monotonic clock
    armed_at: float = 0.0
    #: id of the last message above it
    anchor: str | None = None
    #: itself, once it has its tick
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
        """Send a claimed job and write what became of it. Raises AttemptFailed and AccountWaits after that."""
        if job.attempts > self.jobs.policy.attempts + job.blamed:
            await self.jobs.failed(job, AttemptFailed("Each attempt ended with the worker that made it."))
            return
        sending = Sending(drain, session, job, asyncio.get_running_loop().time() + MESSAGE_LIMIT)
        try:
            sending = await _through(sending, self._open, self._read, self._type, self._arm, self._permit)
        except DatabaseUnavailable:
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
            await self._look_soon(sending, error)
            raise

    # --- the steps before Enter --------------------------------------------------------------------------------------

    async def _open(self, sending: Sending) -> Sending:
        session, job = sending.session, sending.job
        async with _in_time(sending):
            await self.incoming.before_opening(job.account_id, job.phone, job.id, session.page)
            # A new number that is tried while WhatsApp allows none makes the restriction last.
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
        # Armed before the permission is written: the page then closes no later than the lease, however long this
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
                look=SETTLE_AGAIN,
            )
        except DatabaseUnavailable:
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
        """Write the id of a message that stays at the clock; its outcome does not hang on that."""
        with suppress(DatabaseUnavailable):
            await self.jobs.note_bubble(job, bubble)

    # --- when a step fails -------------------------------------------------------------------------------------------

    async def _not_sent(self, sending: Sending, error: SendError) -> None:
        """Write what becomes of a message of which nothing left. Raise what is about the account or its page."""
        session, job = sending.session, sending.job
        log.info(
            "job %s was not sent: %s", job.id, error.code,
            extra={"event": "job.not_sent", "job": job.id, "account": job.account_id, "code": error.code,
                   "attempts": job.attempts},
        )  # fmt: skip
        doubted = job.blamed and isinstance(error, UiChanged)
        if isinstance(error, AttemptFailed) or doubted:
            await self.jobs.again(job, error)
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
        """Give back a message whose Enter was held back. Raise PageHung where that happens again and again."""
        session, job = sending.session, sending.job
        session.held_back += 1
        if session.held_back < HELD_BACK:
            await self.jobs.not_pressed(job)
            return
        session.held_back = 0
        error = PageHung(
            "Enter would have come too late, again and again."
            if why == LATE
            else "Something else than the compose box would have got Enter, again and again."
        )
        await self.jobs.not_pressed(job, error, counts=True)
        await self.evidence.keep(session, job, error)
        raise error

    async def _not_taken(self, sending: Sending, error: EnterNotTaken | EnterRefused) -> None:
        """Give back a message that still stands in the box; it is tried through the button next, then not at all."""
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
        """Look for a message that the page lost sight of, as after a crash."""
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
            await self._look_soon(sending, found)
            raise

    async def _look_soon(self, sending: Sending, error: SendError) -> None:
        """Have the chat looked at at once: Enter was pressed, or may have been."""
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
    """Count now and then how well the page is known, with a chat open and a message of ours in it."""
    if time.monotonic() - session.surveyed > SURVEY:
        session.surveyed = time.monotonic()
        with suppress(SendError):
            page_metrics.surveyed(*await session.page.survey())


def _blamed(error: SendError) -> PageHung:
    """Return what a page that is not known means of a job that is blamed: it may be its own chat alone that is so."""
    return PageHung(error.detail)
