"""Jobs: show, cancel and retry them."""

from typing import Literal, Self

from pydantic import Field, JsonValue
from starlette.requests import Request
from starlette.responses import Response

from api.http.auth import permit
from api.http.lists import listed
from api.http.models import Model, Shown, Time
from api.http.operations import Operation
from api.http.pagination import Cursor, Page
from api.http.query_params import parameters
from api.http.transactional import Call, retried_transaction
from api.http.validators import Number, Since, Until
from errors import Conflict, NotFound
from sql.database import Database, Row, Transaction

CANCELLED_AT_ONCE = 1000  # jobs in one transaction
CONFIRMS = "This job confirms an opt-out. It is not sent again, since the confirmation would come too late."
DELETED = "The account of this job was deleted. Send the message again by another account."

Status = Literal["queued", "sending", "submitting", "sent", "delivered", "read", "failed", "cancelled"]


class JobError(Shown):
    """Why a job failed, or why its last attempt did."""

    code: str = Field(description="An error code for programs, such as `not_on_whatsapp` or `outcome_unknown`.")
    detail: str | None = Field(description="The error in a sentence.")
    reason: str | None = Field(
        default=None,
        exclude_if=lambda reason: reason is None,
        description="Why the outcome is unknown, with `outcome_unknown`: `other_outgoing`, `rows_missing`, "
        "`older_profile`, `anchor_lost`, `unreadable` or `at_the_clock`. Other errors do not have it.",
    )


class TimelineStep(Shown):
    """A step in the life of a job."""

    at: str = Field(description="When.")
    status: str = Field(description="The status from then on.")
    detail: str | None = Field(description="Why, if there is a reason to tell.")


class Job(Shown):
    """A message with its status."""

    job_id: str = Field(description="Its idempotency key, or `job_…`.")
    status: Status = Field(
        description="`queued` → `sending` → `submitting` → `sent` → `delivered` → `read`, or `failed`, or `cancelled`.",
    )
    account: str = Field(description="The account that sends it.")
    phone: str = Field(description="The recipient, digits only.")
    message: str = Field(description="The text.")
    priority: Literal["high", "normal"] = Field(description="As it was given.")
    created_at: Time = Field(description="When it was accepted.")
    send_at: Time = Field(description="When it is to be sent.")
    expires_at: Time = Field(description="When it expires: from then on it is not sent.")
    started_at: Time | None = Field(description="When a worker first took it.")
    sent_at: Time | None = Field(description="When its first tick was seen.")
    delivered_at: Time | None = Field(description="When two ticks were seen.")
    read_at: Time | None = Field(description="When blue ticks were seen.")
    attempts: int = Field(description="How often a worker tried to send it.")
    error: JobError | None = Field(description="Why it failed, or why its last attempt did.")
    evidence: str | None = Field(
        description="Name of the screenshot and the page of its last failure under `EVIDENCE_URL`.",
    )
    metadata: dict[str, JsonValue] | None = Field(description="As it was given.")
    timeline: list[TimelineStep] = Field(
        description="What happened to it, oldest first. Of more than 100 steps the first 20 and the newest are kept."
    )

    @classmethod
    def of(cls, row: Row) -> Self:
        """Make it of a row of jobs."""
        code, detail, reason = row["error_code"], row["error_detail"], row["error_reason"]
        error = JobError(code=code, detail=detail, reason=reason) if code else None
        return cls.model_validate(
            {
                **row,
                "job_id": row["key"] or row["id"],
                "status": row["state"],
                "account": row["account_id"],
                "priority": "high" if row["priority"] else "normal",
                "error": error,
            }
        )


class JobList(Shown):
    """A page of jobs, newest first."""

    items: list[Job] = Field(description="The jobs.")
    next_cursor: Cursor | None = Field(description="`cursor` of the next page; null on the last.")


class JobFilter(Page):
    """Which jobs to list."""

    status: Status | None = Field(default=None, description="Only those with this status.")
    account: str | None = Field(default=None, description="Only those of this account.")
    phone: Number | None = Field(default=None, description="Only those to this number.")
    since: Since | None = Field(default=None, description="Only those accepted from then on.")
    until: Until | None = Field(default=None, description="Only those accepted before then.")


class CancelFilter(Model):
    """Which jobs to cancel: the queued ones of one account or of all."""

    status: Literal["queued"] = Field(description="Required, since only queued jobs can be cancelled.")
    account: str | None = Field(default=None, description="Only those of this account; of all unless given.")


class CancelResult(Shown):
    """How many jobs were cancelled."""

    cancelled: int = Field(description="The number of cancelled jobs.")


class RetryRequest(Model):
    """Whether to retry a job that may have been sent already."""

    force: bool = Field(
        default=False,
        description="Send it even if it may have reached its recipient already (`outcome_unknown`).",
    )


async def list_jobs(request: Request) -> Response:
    """List the jobs, newest first."""
    caller = await permit(request)
    return await listed(request, caller, JobFilter, "list_jobs", shape=JobList, item=Job.of)


async def show_job(request: Request) -> Response:
    """Show a job with its timeline."""
    caller = await permit(request)
    row = await caller.database.one("show_job", job=request.path_params["jobId"])
    return Job.of(_found(row)).answer()


@retried_transaction()
async def cancel_job(tx: Transaction, call: Call[None]) -> Response:
    """Cancel a queued job.

    The answer is 409 if it is no longer `queued`.
    """
    job = call.path["jobId"]
    cancelled = await tx.one("cancel_job", job=job)
    row = _found(await tx.one("show_job", job=job))
    if cancelled is None:
        raise Conflict(f"Only a queued job can be cancelled, and this one is {row['state']}.")
    await tx.all("wake_own", lanes=cancelled["lanes"])
    return Job.of(row).answer()


async def cancel_jobs(request: Request) -> Response:
    """Cancel all queued jobs of one account or of all."""
    caller = await permit(request)
    wanted = parameters(request, CancelFilter)
    return CancelResult(cancelled=await cancel_queued(caller.database, wanted.account)).answer()


@retried_transaction(RetryRequest)
async def retry_job(tx: Transaction, call: Call[RetryRequest]) -> Response:
    """Queue a failed job again.

    Its attempts are counted anew. The answer is 409 for a job that has not failed, for one that confirms an opt-out,
    and for one of a deleted account. A job with an unknown outcome may have reached its recipient; it is sent again
    only with `force`.
    """
    job = {"job": call.path["jobId"]}
    how = {"force": call.body.force, "ttl": call.context.job_ttl}
    retried = await tx.one("retry_job", **job, **how)
    if retried is None and await tx.one("bring_back", **job):
        retried = await tx.one("retry_job", **job, **how)
    row = _found(await tx.one("show_job", **job))
    if retried is None:
        [forbids] = await tx.all("why_not_retried", job=row["id"])
        raise Conflict(_why_not_again(row, forbids))
    if retried["open"]:
        await tx.all("wake_own", lanes=[retried["lane"]])
    return Job.of(row).answer(202)


async def cancel_queued(database: Database, account: str | None) -> int:
    """Cancel the queued jobs of an account, or of all in the scope, in several transactions; return their number."""

    async def work(tx: Transaction) -> int:
        cancelled = await tx.all("cancel_jobs", account=account, most=CANCELLED_AT_ONCE)
        lanes = {lane for row in cancelled for lane in row["lanes"]}
        await tx.all("wake_own", lanes=sorted(lanes))
        return len(cancelled)

    total, count = 0, CANCELLED_AT_ONCE
    # A round that finds fewer is the last: others may go on sending to the account meanwhile.
    while count == CANCELLED_AT_ONCE:
        count = await database.transact(work)
        total += count
    return total


def _found(row: Row | None) -> Row:
    if row is None:
        raise NotFound("There is no such job.")
    return row


def _why_not_again(row: Row, forbids: Row) -> str:
    if forbids["account_deleted"]:
        return DELETED
    if forbids["confirms_opt_out"]:
        return CONFIRMS
    if row["state"] == "failed":
        return 'The message may have reached its recipient. Send {"force": true} to send it anyway.'
    return f"Only a failed job can be sent again, and this one is {row['state']}."


OPERATIONS = (
    Operation("GET", "/jobs", list_jobs, (200, JobList), query=JobFilter),
    Operation("DELETE", "/jobs", cancel_jobs, (200, CancelResult), query=CancelFilter),
    Operation("GET", "/jobs/{jobId}", show_job, (200, Job)),
    Operation("DELETE", "/jobs/{jobId}", cancel_job, (200, Job), refuses=(409,)),
    Operation("POST", "/jobs/{jobId}/retry", retry_job, (202, Job), takes=RetryRequest, refuses=(409,)),
)
