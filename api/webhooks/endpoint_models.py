"""Endpoints as they come in and go out: URL, events, headers, retry policy, status."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field

from api.http.models import Model, Shown, Time, without_defaults
from api.http.pagination import Cursor
from api.http.validators import WHOLE, minified
from api.webhooks.custom_headers import ExtraChanges, Extras, merged, opened, sealed
from api.webhooks.webhook_secrets import Signature
from api.webhooks.webhook_urls import ReceiverUrl
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


Events = Annotated[
    list[EventType],
    Field(
        min_length=1,
        description='The event types that it receives, each once; `["*"]` is all, also those of later versions.',
        json_schema_extra={"uniqueItems": True, "not": {"minItems": 2, "contains": {"const": "*"}}},
    ),
    AfterValidator(_events),
]
Description = Annotated[str, Field(max_length=500, description="For people.")]
Attempts = Annotated[int, Field(ge=1, le=50), WHOLE]
BaseSeconds = Annotated[float, Field(gt=0, le=86_400)]
Factor = Annotated[float, Field(ge=1, le=10)]
CapSeconds = Annotated[float, Field(gt=0, le=604_800)]
PerSecond = Annotated[float, Field(ge=0.01, le=1000)]


class RetryPolicy(Model):
    """When a failed delivery is tried again: baseSeconds · factorⁿ seconds after attempt n + 1, ±20 %."""

    attempts: Attempts = Field(default=12, description="Requests in all.")
    base_seconds: BaseSeconds = Field(default=5, description="Seconds until the second request.")
    factor: Factor = Field(default=3, description="By how much each wait is longer than the one before.")
    cap_seconds: CapSeconds = Field(default=43_200, description="The longest wait, in seconds.")


class RetryPolicyChanges(Model):
    """Changes of a retry policy."""

    model_config = ConfigDict(json_schema_extra=without_defaults)

    attempts: Attempts | None = Field(default=None, description="Requests in all; null restores the default.")
    base_seconds: BaseSeconds | None = Field(
        default=None, description="Seconds until the second request; null restores the default."
    )
    factor: Factor | None = Field(
        default=None,
        description="By how much each wait is longer than the one before; null restores the default.",
    )
    cap_seconds: CapSeconds | None = Field(
        default=None, description="The longest wait, in seconds; null restores the default."
    )


class NewEndpoint(Model):
    """A new endpoint."""

    url: ReceiverUrl
    events: Events = Field(default=["*"])
    description: Description = ""
    signature: Signature = Field(
        default="v1",
        description="`v1` signs with a shared secret (HMAC-SHA256), `v1a` with a key pair (Ed25519).",
    )
    headers: Extras = Field(
        default_factory=dict,
        description="Headers of your own on every request: at most 20, 8 KiB in all, with names that differ in "
        "more than case, and none that belongs to the delivery, the connection or a proxy. Their values are sealed and "
        "not shown again.",
    )
    retry: RetryPolicy = Field(default=RetryPolicy(), description="When a failed delivery is tried again.")
    per_second: PerSecond | None = Field(
        default=None,
        description="Requests per second at most; null is no limit.",
    )


class EndpointChanges(Model):
    """Changes of an endpoint, as a merge patch (RFC 7396): a field that is left out stays as it is.

    So do headers that are not named, and fields of `retry`. Null removes a header or all of them, restores the default
    of `retry`, and ends the limit of `perSecond`.
    """

    model_config = ConfigDict(json_schema_extra=without_defaults)

    url: ReceiverUrl = ""
    events: Events = Field(default=["*"])
    description: Description = ""
    signature: Signature = Field(
        default="v1",
        description="A change makes a new secret; the old one also signs for a day.",
    )
    headers: ExtraChanges | None = Field(
        default=None,
        description="The headers that are named are set, or removed by null; null in place of the object removes all.",
    )
    retry: RetryPolicyChanges | None = Field(
        default=None, description="The fields that are given are changed; null restores the default."
    )
    per_second: PerSecond | None = Field(default=None, description="Null ends the limit.")

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
    """A URL that receives events."""

    id: str = Field(description="`whe_…`; `whe_bootstrap` is the one of the setting `WEBHOOK_URL`.")
    url: str = Field(description="Where events are posted.")
    events: list[str] = Field(description="The event types that it receives.")
    description: str = Field(description="For people.")
    status: Literal["enabled", "paused", "disabled"] = Field(
        description="`paused`: events wait. `disabled`: no events are kept.",
    )
    status_reason: str | None = Field(description="Why it is not enabled.")
    signature: Signature = Field(description="How its events are signed.")
    public_key: str | None = Field(description="`whpk_…`, the public key that verifies `v1a`.")
    old_secrets_until: Time | None = Field(description="Until when older secrets sign besides the newest.")
    header_names: list[str] = Field(description="Names of its custom headers; their values are not shown.")
    retry: RetryPolicy = Field(description="When a failed delivery is tried again.")
    per_second: float | None = Field(description="Requests per second at most; null is no limit.")
    created_at: Time = Field(description="When it was registered.")

    @classmethod
    def of(cls, row: Row, **more: object) -> Self:
        """Make it of a row of endpoints."""
        return cls.model_validate({**row, **more})


class EndpointWithSecret(Endpoint):
    """An endpoint, with its secret if that is new."""

    secret: str | None = Field(description="`whsec_…`, shown only this once; null if it is not new, and with `v1a`.")


class EndpointList(Shown):
    """A page of endpoints, oldest first."""

    items: list[Endpoint] = Field(description="The endpoints.")
    next_cursor: Cursor | None = Field(description="`cursor` of the next page; null on the last.")
