"""What a client orders with POST /send: one message."""

import hashlib
import json
from functools import cached_property
from typing import Literal

from api.fields import Key, Message, Metadata, Moment, Phone
from api.models import Model


class Order(Model):
    """One message to be sent."""

    phone: Phone
    message: Message
    idempotency_key: Key | None = None
    account: str | None = None
    send_at: Moment | None = None
    expires_at: Moment | None = None
    priority: Literal["high", "normal"] = "normal"
    metadata: Metadata | None = None

    @cached_property
    def content(self) -> bytes:
        """SHA-256 of everything but the key, as given and normalised: equal orders have equal content."""
        fields = self.model_dump(mode="json", exclude={"idempotency_key"})
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).digest()
