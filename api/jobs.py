"""Jobs: look at them, cancel them, try them again."""

from typing import Literal, Self

from pydantic import JsonValue
from starlette.requests import Request
from starlette.responses import Response

from api.auth import permit
from api.bodies import read
from api.context import of
from api.fields import Moment
from api.models import Model, Shown, Time
from api.pages import Page
from api.parameters import parameters
from errors import Conflict, NotFound
from sql.database import Database, Row, Transaction

CANCELLED_AT_ONCE = 1000  # jobs of one transaction

Status = Literal["queued", "sending", "submitting", "sent", "delivered", "read", "failed", "cancelled"]


class Fault(Shown):
    """Why a job failed, or why its last attempt did."""

    code: str
    detail: str | None


class Step(Shown):
    """Something that happened to a job."""

    at: str
    status: str
    detail: str | None


class Job(Shown):
    """One message on its way."""

    job_id: str
    status: Status
    account: str
    phone: str
    message: str
    priority: Literal["high", "normal"]
    created_at: Time
    send_at: Time
    expires_at: Time
    started_at: Time | None
    sent_at: Time | None
    delivered_at: Time | None
    read_at: Time | None
    attempts: int
    error: Fault | None
    evidence: str | None
    metadata: dict[str, JsonValue] | None
    timeline: list[Step]

    @classmethod
    def of(cls, row: Row) -> Self:
        """Make it of a row of jobs."""
        error = Fault(code=row["error_code"], detail=row["error_detail"]) if row["error_code"] else None
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


class Jobs(Shown):
    """A page of jobs, newest first."""

    items: list[Job]
    next_cursor: str | None


class JobFilter(Page):
    """Which jobs."""

    status: Status | None = None
    account: str | None = None
    since: Moment | None = None
    until: Moment | None = None


class Cancelling(Model):
    """Which jobs to cancel: those that still wait, of one account or of all."""

    status: Literal["queued"]
    account: str | None = None


class Cancelled(Shown):
    """How many jobs were cancelled."""

    cancelled: int


class Again(Model):
    """Whether to send again what may have been sent already."""

    force: bool = False


async def list_jobs(request: Request) -> Response:
    """Return a page of the org's jobs."""
    caller = await permit(request)
    wanted = parameters(request, JobFilter)
    rows = await of(request).database.all(
        "list_jobs",
        org=caller.org,
        status=wanted.status,
        account=wanted.account,
        since=wanted.since,
        until=wanted.until,
        **wanted.values(),
    )
    items = [Job.of(row) for row in rows[: wanted.limit]]
    return Jobs(items=items, next_cursor=wanted.next_cursor(rows)).answer()


async def show_job(request: Request) -> Response:
    """Return one job."""
    caller = await permit(request)
    row = await of(request).database.one("show_job", org=caller.org, job=request.path_params["jobId"])
    return Job.of(_found(row)).answer()


async def cancel_job(request: Request) -> Response:
    """Cancel a job that still waits."""
    caller = await permit(request)
    job = request.path_params["jobId"]

    async def work(tx: Transaction) -> Row:
        cancelled = await tx.one("cancel_job", org=caller.org, job=job)
        row = _found(await tx.one("show_job", org=caller.org, job=job))
        if cancelled is None:
            raise Conflict(f"Only a queued job can be cancelled, and this one is {row['state']}.")
        await tx.all("wake", lanes=cancelled["lanes"])
        return row

    return Job.of(await of(request).database.transact(work)).answer()


async def cancel_jobs(request: Request) -> Response:
    """Cancel all jobs that still wait."""
    caller = await permit(request)
    wanted = parameters(request, Cancelling)
    return Cancelled(cancelled=await cancel_queued(of(request).database, caller.org, wanted.account)).answer()


async def retry_job(request: Request) -> Response:
    """Queue a failed job again."""
    caller = await permit(request)
    again = await read(request, Again)
    context = of(request)
    job = request.path_params["jobId"]

    async def retry(tx: Transaction) -> Row | None:
        return await tx.one("retry_job", org=caller.org, job=job, force=again.force, ttl=context.job_ttl)

    async def work(tx: Transaction) -> Row:
        retried = await retry(tx)
        if retried is None and await tx.one("bring_back", org=caller.org, job=job):
            retried = await retry(tx)
        row = _found(await tx.one("show_job", org=caller.org, job=job))
        if retried is None:
            raise Conflict(_why_not_again(row))
        if retried["open"]:
            await tx.all("wake", lanes=[retried["lane"]])
        return row

    return Job.of(await context.database.transact(work)).answer(202)


async def cancel_queued(database: Database, org: str, account: str | None) -> int:
    """Cancel what waits of an account, or of all, some in each transaction; return how many jobs that were."""

    async def work(tx: Transaction) -> int:
        cancelled = await tx.all("cancel_jobs", org=org, account=account, most=CANCELLED_AT_ONCE)
        lanes = {lane for row in cancelled for lane in row["lanes"]}
        await tx.all("wake", lanes=sorted(lanes))
        return len(cancelled)

    total = 0
    while count := await database.transact(work):
        total += count
    return total


def _found(row: Row | None) -> Row:
    if row is None:
        raise NotFound("There is no such job.")
    return row


def _why_not_again(row: Row) -> str:
    if row["state"] == "failed":
        return 'The message may have reached its recipient. Send {"force": true} to send it all the same.'
    return f"Only a failed job can be sent again, and this one is {row['state']}."
