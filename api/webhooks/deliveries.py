"""Deliveries: an event's way to an endpoint, with each attempt."""

from typing import Literal, Self

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from api.http.auth import permit
from api.http.lists import page_of
from api.http.models import Shown, Time
from api.http.operations import Operation
from api.http.pagination import SOONEST, Cursor, Page
from api.http.query_params import parameters
from api.http.validators import Since, Until
from api.webhooks.endpoint_models import EventType
from errors import NotFound
from sql.database import Row

MOST_ATTEMPTS = 100  # of one delivery that are shown

Status = Literal["pending", "sending", "delivered", "failed"]


class Delivery(Shown):
    """An event's delivery to an endpoint. Fields of the event are null once its retention has ended."""

    id: str = Field(description="`dlv_…`.")
    endpoint: str = Field(description="The endpoint that receives it.")
    event_id: str = Field(description="The `webhook-id` of every attempt.")
    type: str = Field(description="The event's type.")
    event_at: Time = Field(description="When the event happened.")
    job_id: str | None = Field(description="The job of the event, if any.")
    account: str | None = Field(description="The account of the event, if any.")
    status: Status = Field(description="`sending`: a request is under way. `failed`: it is not tried again.")
    attempt_count: int = Field(description="Requests so far.")
    next_attempt_at: Time | None = Field(description="When the next attempt is due; null when it has ended.")
    last_status: int | None = Field(description="HTTP status of the last answer.")
    last_error: str | None = Field(description="Why the last attempt failed.")
    created_at: Time = Field(description="When it was created.")
    ended_at: Time | None = Field(description="When it was delivered or given up.")

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
    """One request of a delivery. It has neither status nor error while it is under way."""

    number: int = Field(description="1 for the first.")
    at: Time = Field(description="When it began.")
    status: int | None = Field(description="HTTP status of the answer; null if there was none.")
    duration_ms: int | None = Field(description="How long it took, in milliseconds.")
    response_headers: dict[str, str] = Field(description="Headers of the answer, at most 50.")
    response_body: str | None = Field(description="The first 2,000 characters of the answer.")
    error: str | None = Field(description="Why it failed; null if it succeeded.")
    counted: bool = Field(description="Whether it used up one of the attempts that the endpoint's policy allows.")

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
    """A delivery with its request body and its attempts."""

    body: str | None = Field(description="The request body, byte for byte.")
    attempts: list[Attempt] = Field(description="Its newest 100 attempts, newest first.")


class DeliveryList(Shown):
    """A page of deliveries by the time of their events, newest first."""

    items: list[Delivery] = Field(description="The deliveries.")
    next_cursor: Cursor | None = Field(description="`cursor` of the next page; null on the last.")


class DeliveryFilter(Page):
    """Which deliveries to list, by the time of their events."""

    status: Status | None = Field(default=None, description="Only those with this status.")
    type: EventType = Field(default="*", description="Only those of this type of event.")
    since: Since | None = Field(default=None, description="Only those whose event happened from then on.")
    until: Until | None = Field(default=None, description="Only those whose event happened before then.")


async def list_deliveries(request: Request) -> Response:
    """List an endpoint's deliveries by the time of their events, newest first."""
    caller = await permit(request)
    wanted = parameters(request, DeliveryFilter)
    endpoint = request.path_params["id"]
    async with caller.reading.transaction() as tx:
        if await tx.one("endpoint_exists", endpoint=endpoint) is None:
            raise NotFound(f"There is no webhook {endpoint}.")
        rows = await tx.all(
            "list_deliveries",
            endpoint=endpoint,
            status=wanted.status,
            type=None if wanted.type == "*" else wanted.type,
            since=wanted.since or SOONEST,
            **wanted.values(wanted.until),
        )
    return page_of(wanted, rows, DeliveryList, Delivery.of, "event_at")


async def list_job_deliveries(request: Request) -> Response:
    """List the deliveries of a job's events, to every endpoint, newest first."""
    caller = await permit(request)
    wanted = parameters(request, Page)
    job = request.path_params["jobId"]
    async with caller.reading.transaction() as tx:
        found = await tx.one("job_of_events", job=job)
        if found is None:
            raise NotFound("There is no such job.")
        rows = await tx.all("list_job_deliveries", job=found["id"], **wanted.values())
    return page_of(wanted, rows, DeliveryList, Delivery.of, "event_at")


async def show_delivery(request: Request) -> Response:
    """Show a delivery, with what was sent and its attempts."""
    caller = await permit(request)
    delivery = request.path_params["id"]
    async with caller.database.transaction() as tx:
        row = await tx.one("show_deliveries", endpoint=None, deliveries=[delivery])
        if row is None:
            raise NotFound(f"There is no delivery {delivery}.")
        attempts = await tx.all("list_attempts", delivery=delivery, most=MOST_ATTEMPTS)
    return DeliveryWithAttempts.of(row, attempts=[Attempt.of(attempt) for attempt in attempts]).answer()


OPERATIONS = (
    Operation("GET", "/webhooks/{id}/deliveries", list_deliveries, (200, DeliveryList), query=DeliveryFilter),
    Operation("GET", "/jobs/{jobId}/deliveries", list_job_deliveries, (200, DeliveryList), query=Page),
    Operation("GET", "/deliveries/{id}", show_delivery, (200, DeliveryWithAttempts)),
)
