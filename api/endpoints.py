"""Endpoints as they come in and go out: URL, events, headers, retry policy, status."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field

from api.extras import ExtraChanges, Extras, merged, opened, sealed
from api.fields import minified
from api.models import Model, Shown, Time
from api.receivers import ReceiverUrl
from api.signing import Signature
from crypto import Sealer
from sql.database import Row

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


def _events(events: list[str]) -> list[str]:
    if "*" in events and len(events) > 1:
        raise ValueError('must be ["*"] alone or a list of types')
    if len(set(events)) < len(events):
        raise ValueError("must name each type once")
    return events


Events = Annotated[list[EventType], Field(min_length=1), AfterValidator(_events)]
Description = Annotated[str, Field(max_length=500)]
Attempts = Annotated[int, Field(ge=1, le=50)]
BaseSeconds = Annotated[float, Field(gt=0, le=86_400)]
Factor = Annotated[float, Field(ge=1, le=10)]
CapSeconds = Annotated[float, Field(gt=0, le=604_800)]
PerSecond = Annotated[float, Field(ge=0.01, le=1000)]


class Retry(Model):
    """When a delivery that failed is tried again: base · factorⁿ seconds after attempt n + 1, at most cap."""

    attempts: Attempts = 12
    base_seconds: BaseSeconds = 5
    factor: Factor = 3
    cap_seconds: CapSeconds = 43_200


class RetryChanges(Model):
    """What is to be otherwise of a retry policy; null is the default again."""

    attempts: Attempts | None = None
    base_seconds: BaseSeconds | None = None
    factor: Factor | None = None
    cap_seconds: CapSeconds | None = None


class NewEndpoint(Model):
    """A URL to be registered."""

    url: ReceiverUrl
    events: Events = Field(default=["*"])
    description: Description = ""
    signature: Signature = "v1"
    headers: Extras = Field(default_factory=dict)
    retry: Retry = Retry()
    #: requests in a second at most; null is as many as it takes
    per_second: PerSecond | None = None


class EndpointChanges(Model):
    """What is to be otherwise of an endpoint, as a merge patch (RFC 7396): what is left out stays as it is.

    So do headers that are not named and parts of `retry`; null takes a header away, or all of them, and makes a retry
    policy the default again, and ends the limit of `perSecond`.
    """

    url: ReceiverUrl = ""
    events: Events = Field(default=["*"])
    description: Description = ""
    signature: Signature = "v1"
    headers: ExtraChanges | None = None
    retry: RetryChanges | None = None
    per_second: PerSecond | None = None

    def columns(self, row: Row, sealer: Sealer) -> dict[str, object]:
        """Return the parameters of change_endpoint: None for what was not given. Raises Invalid."""
        given = self.model_fields_set
        return {
            "url": self.url if "url" in given else None,
            "events": self.events if "events" in given else None,
            "description": self.description if "description" in given else None,
            "headers": minified(self._headers(row, sealer)) if "headers" in given else None,
            "retry": minified(self._retry(row["retry"])) if "retry" in given else None,
            "per_second": self.per_second if "per_second" in given else row["per_second"],
        }

    def _headers(self, row: Row, sealer: Sealer) -> dict[str, str]:
        if self.headers is None:
            return {}
        return sealed(sealer, row["id"], merged(opened(sealer, row["id"], row["headers"]), self.headers))

    def _retry(self, stored: Mapping[str, float]) -> dict[str, float]:
        if self.retry is None:
            return {}
        found = {**stored, **self.retry.model_dump(exclude_unset=True)}
        return {name: value for name, value in found.items() if value is not None}


class Endpoint(Shown):
    """A registered URL."""

    id: str
    url: str
    events: list[str]
    description: str
    status: Literal["enabled", "paused", "disabled"]
    status_reason: str | None
    signature: Signature
    #: `whpk_…`, which verifies v1a
    public_key: str | None
    #: until when older secrets sign beside the newest
    old_secrets_until: Time | None
    #: its extra headers; what they hold is not shown
    header_names: list[str]
    retry: Retry
    per_second: float | None
    created_at: Time

    @classmethod
    def of(cls, row: Row, **more: object) -> Self:
        """Make it of a row of endpoints."""
        return cls.model_validate({**row, **more})


class EndpointWithSecret(Endpoint):
    """One with a new secret: `whsec_…`, shown this once. It is null where none is new, and with v1a."""

    secret: str | None


class Endpoints(Shown):
    """A page of endpoints, oldest first."""

    items: list[Endpoint]
    next_cursor: str | None
