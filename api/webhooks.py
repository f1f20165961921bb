"""Webhooks: the URLs that an org registered for events."""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field
from starlette.requests import Request
from starlette.responses import Response

from api.auth import permit
from api.bodies import read
from api.context import of
from api.fields import minified
from api.models import Model, Nothing, Shown, Time, shown
from api.pages import Page
from api.parameters import parameters
from api.receivers import ReceiverUrl, admit
from crypto import WEBHOOK_PREFIX, new_secret
from errors import NotFound
from sql.database import Row
from sql.ids import new_id

MOST_HEADERS = 20

EventType = Literal[
    "*",
    "JobCompleted",
    "JobFailed",
    "JobDelivered",
    "JobRead",
    "JobCancelled",
    "AccountStateChanged",
    "QrIssued",
    "MessageReceived",
    "WebhookDisabled",
    "WebhookTest",
]
#: Headers that the delivery writes itself, or that belong to the connection (RFC 9110, 7.6.1).
OURS = re.compile(
    r"webhook-.*|content-.*|host|user-agent|accept-encoding|connection|keep-alive|proxy-.*|te|trailer|transfer-encoding|upgrade",
    re.IGNORECASE,
)
TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
PRINTABLE = re.compile(r"[\x20-\x7e]{0,1000}")


def _events(events: list[str]) -> list[str]:
    if "*" in events and len(events) > 1:
        raise ValueError('must be ["*"] alone or a list of types')
    if len(set(events)) < len(events):
        raise ValueError("must name each type once")
    return events


def _headers(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not TOKEN.fullmatch(name) or OURS.fullmatch(name):
            raise ValueError(f"must not have the header {shown(name)}")
        if not PRINTABLE.fullmatch(value):
            raise ValueError(f"must have at most 1,000 printable ASCII characters in {name}")
    return headers


class Retry(Model):
    """When a delivery that failed is tried again: base · factorⁿ seconds after attempt n + 1, at most cap."""

    attempts: Annotated[int, Field(ge=1, le=50)] = 12
    base_seconds: Annotated[float, Field(gt=0, le=86_400)] = 5
    factor: Annotated[float, Field(ge=1, le=10)] = 3
    cap_seconds: Annotated[float, Field(gt=0, le=604_800)] = 43_200


class NewEndpoint(Model):
    """A URL to be registered."""

    url: ReceiverUrl
    events: Annotated[list[EventType], Field(min_length=1), AfterValidator(_events)] = Field(default=["*"])
    description: Annotated[str, Field(max_length=500)] = ""
    headers: Annotated[dict[str, str], Field(max_length=MOST_HEADERS), AfterValidator(_headers)] = Field(
        default_factory=dict
    )
    retry: Retry = Retry()


class Endpoint(Shown):
    """A registered URL."""

    id: str
    url: str
    events: list[str]
    description: str
    status: Literal["enabled", "paused", "disabled"]
    status_reason: str | None
    retry: Retry
    created_at: Time

    @classmethod
    def of(cls, row: Row, **more: object) -> Self:
        """Make it of a row of endpoints."""
        return cls.model_validate({**row, **more})


class EndpointWithSecret(Endpoint):
    """A new one, with the secret that verifies its events. It is shown this once."""

    secret: str


class Endpoints(Shown):
    """A page of endpoints, oldest first."""

    items: list[Endpoint]
    next_cursor: str | None


async def create_endpoint(request: Request) -> Response:
    """Register a URL for events."""
    caller = await permit(request)
    given = await read(request, NewEndpoint)
    context = of(request)
    await admit(context, given.url)
    endpoint, secret = new_id("whe_"), new_secret(WEBHOOK_PREFIX)
    [row] = await context.database.all(
        "create_endpoint",
        id=endpoint,
        org=caller.org,
        url=given.url,
        events=given.events,
        description=given.description,
        secret=context.sealer.seal(secret.encode(), endpoint.encode()),
        headers=minified(given.headers),
        retry=given.retry.model_dump_json(exclude_unset=True),
    )
    return EndpointWithSecret.of(row, secret=secret).answer(201, location=f"/webhooks/{endpoint}")


async def list_endpoints(request: Request) -> Response:
    """Return a page of the org's endpoints."""
    caller = await permit(request)
    page = parameters(request, Page)
    rows = await of(request).database.all("list_endpoints", org=caller.org, endpoint=None, **page.values())
    items = [Endpoint.of(row) for row in rows[: page.limit]]
    return Endpoints(items=items, next_cursor=page.next_cursor(rows)).answer()


async def show_endpoint(request: Request) -> Response:
    """Return one endpoint."""
    caller = await permit(request)
    endpoint = request.path_params["id"]
    values = Page(limit=1).values()
    row = await of(request).database.one("list_endpoints", org=caller.org, endpoint=endpoint, **values)
    if row is None:
        raise NotFound(f"There is no webhook {endpoint}.")
    return Endpoint.of(row).answer()


async def delete_endpoint(request: Request) -> Response:
    """Send it no more events, not even those that wait."""
    caller = await permit(request)
    await read(request, Nothing)
    endpoint = request.path_params["id"]
    if await of(request).database.one("delete_endpoint", org=caller.org, endpoint=endpoint) is None:
        raise NotFound(f"There is no webhook {endpoint}.")
    return Response(status_code=204)
