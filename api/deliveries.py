"""Deliveries: what became of each event on its way to each endpoint, attempt by attempt."""

from typing import Literal, Self

from starlette.requests import Request
from starlette.responses import Response

from api.auth import permit
from api.context import of
from api.endpoints import EventType
from api.fields import Moment
from api.models import Shown, Time
from api.pages import Page
from api.parameters import parameters
from errors import NotFound
from sql.database import Row

MOST_ATTEMPTS = 100  # of one delivery that are shown

Status = Literal["pending", "sending", "delivered", "failed"]


class Delivery(Shown):
    """An event on its way to an endpoint. What its event tells of is null once that is past its retention."""

    id: str
    endpoint: str
    #: the `webhook-id` of every attempt
    event_id: str
    type: str
    event_at: Time
    job_id: str | None
    account: str | None
    status: Status
    attempt_count: int
    next_attempt_at: Time | None
    last_status: int | None
    last_error: str | None
    created_at: Time
    ended_at: Time | None

    @classmethod
    def of(cls, row: Row, **more: object) -> Self:
        """Make it of a row of shown_deliveries."""
        return cls.model_validate(
            {
                **row,
                "endpoint": row["endpoint_id"],
                "account": row["account_id"],
                "status": row["state"],
                "attempt_count": row["attempts"],
                "next_attempt_at": row["due_at"],
                **more,
            }
        )


class Attempt(Shown):
    """One request. It has neither status nor error while it is under way."""

    number: int
    at: Time
    status: int | None
    duration_ms: int | None
    response_headers: dict[str, str]
    #: its beginning
    response_body: str | None
    error: str | None
    #: whether it used up one of the attempts that the endpoint's policy allows
    counted: bool

    @classmethod
    def of(cls, row: Row) -> Self:
        """Make it of a row of attempts."""
        return cls.model_validate(
            {
                **row,
                "at": row["created_at"],
                "response_headers": row["headers"] or {},
                "response_body": row["response"],
                "counted": row["counts"],
            }
        )


class DeliveryWithAttempts(Delivery):
    """A delivery with what was sent, and with its attempts, newest first."""

    body: str | None
    attempts: list[Attempt]


class Deliveries(Shown):
    """A page of deliveries by the time of their events, newest first."""

    items: list[Delivery]
    next_cursor: str | None


class DeliveryFilter(Page):
    """Which deliveries; `since` and `until` are about when their events happened."""

    status: Status | None = None
    type: EventType = "*"
    since: Moment | None = None
    until: Moment | None = None


async def list_deliveries(request: Request) -> Response:
    """Return a page of an endpoint's deliveries."""
    caller = await permit(request)
    wanted = parameters(request, DeliveryFilter)
    endpoint = request.path_params["id"]
    async with of(request).database.transaction() as tx:
        if await tx.one("endpoint_exists", org=caller.org, endpoint=endpoint) is None:
            raise NotFound(f"There is no webhook {endpoint}.")
        rows = await tx.all(
            "list_deliveries",
            endpoint=endpoint,
            status=wanted.status,
            type=None if wanted.type == "*" else wanted.type,
            since=wanted.since,
            until=wanted.until,
            **wanted.values(),
        )
    return _page(wanted, rows)


async def list_job_deliveries(request: Request) -> Response:
    """Return a page of the deliveries of a job's events."""
    caller = await permit(request)
    wanted = parameters(request, Page)
    job = request.path_params["jobId"]
    async with of(request).database.transaction() as tx:
        found = await tx.one("job_of_events", org=caller.org, job=job)
        if found is None:
            raise NotFound("There is no such job.")
        rows = await tx.all("list_job_deliveries", org=caller.org, job=found["id"], **wanted.values())
    return _page(wanted, rows)


async def show_delivery(request: Request) -> Response:
    """Return a delivery with its attempts."""
    caller = await permit(request)
    delivery = request.path_params["id"]
    async with of(request).database.transaction() as tx:
        row = await tx.one("show_deliveries", org=caller.org, endpoint=None, deliveries=[delivery])
        if row is None:
            raise NotFound(f"There is no delivery {delivery}.")
        attempts = await tx.all("list_attempts", delivery=delivery, most=MOST_ATTEMPTS)
    return DeliveryWithAttempts.of(row, attempts=[Attempt.of(attempt) for attempt in attempts]).answer()


def _page(wanted: Page, rows: list[Row]) -> Response:
    items = [Delivery.of(row) for row in rows[: wanted.limit]]
    return Deliveries(items=items, next_cursor=wanted.next_cursor(rows, "event_at")).answer()
