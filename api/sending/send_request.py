"""The body of POST /send: one message."""

import hashlib
import json
from functools import cached_property
from typing import Literal

from pydantic import Field

from api.http.models import Model
from api.http.validators import Key, Message, Metadata, Moment, Phone
from phones import subscriber

_encode = json.JSONEncoder(sort_keys=True).encode


class SendRequest(Model):
    """One message to be sent."""

    phone: Phone = Field(description="The recipient, with country code. A plus sign and separators are removed.")
    message: Message = Field(description="The text. It may not be blank; its length is counted in UTF-16 units.")
    idempotency_key: Key | None = Field(
        default=None,
        description="Makes the request safe to repeat, and is the `jobId` then. It is kept as long as its job, and may "
        "not begin with `job_`.",
    )
    account: str | None = Field(
        default=None,
        description="The account that sends it. It may be left out while there is exactly one.",
    )
    send_at: Moment | None = Field(
        default=None,
        description="When it is to be sent: now unless given, at most 366 days ahead. Up to 60 s in the past "
        "counts as now.",
    )
    expires_at: Moment | None = Field(
        default=None,
        description="When it expires: from then on it is not sent. Later than `sendAt` and than now; `JOB_TTL_SECONDS` "
        "(a day) after `sendAt` unless given.",
    )
    priority: Literal["high", "normal"] = Field(
        default="normal",
        description="`high` is sent before all other messages of its account.",
    )
    metadata: Metadata | None = Field(
        default=None,
        description="An object of your own that every event of the job contains: at most 4 KiB, five levels deep.",
    )

    @cached_property
    def content(self) -> bytes:
        """SHA-256 of all given fields except the key, normalised: equal requests have equal content."""
        fields = self.model_dump(mode="json", exclude={"idempotency_key"})
        fields["phone"] = subscriber(self.phone)
        return hashlib.sha256(_encode(fields).encode()).digest()
