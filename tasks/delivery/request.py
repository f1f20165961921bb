"""One request of a delivery: sign the stored bytes, post them, read the beginning of the answer.

Standard Webhooks 1.0.0.
"""

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import Any
from uuid import UUID

import httpcore2

from crypto import CryptoError, from_text, sign_all
from errors import DeliveryError, SecretUnreadable
from tasks.delivery.connections import Connections
from tasks.delivery.dialer import Dialer

log = logging.getLogger(__name__)

DEADLINE = 20.0  # seconds for a whole request; httpx's own timeouts are per read, and a slow drip never trips them
RESPONSE_CAP = 16_384  # bytes of the answer that are read
RESPONSE_KEPT = 2_000  # characters of it that are kept
HEADERS_KEPT = 50  # headers of the answer
NAME_KEPT, HEADER_KEPT = 100, 500  # characters of the name and of the value of each
TIMED_OUT = "timeout"
#: Texts of these errors for users.
ERROR_TEXTS: Mapping[type[Exception], str] = {
    httpcore2.ConnectError: "no connection",
    httpcore2.ReadError: "the connection was cut",
    httpcore2.WriteError: "the connection was cut",
    httpcore2.RemoteProtocolError: "no HTTP answer",
}
SUCCESS = range(200, 300)


@dataclass(frozen=True)
class Delivery:
    """A delivery that a worker has claimed, with its event and endpoint."""

    id: str
    endpoint_id: str
    event_id: str
    event_at: datetime
    claim: UUID
    #: requests made so far, including this one
    attempts: int
    #: those of them that were made before its last replay
    replayed: int
    type: str
    body: str
    job_id: str | None
    url: str
    #: sealed, the newest first
    secrets: list[bytes]
    headers: dict[str, str]
    retry: dict[str, Any]
    attempt_id: int
    attempt_at: datetime

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]]) -> "list[Delivery]":
        """Return those of rows of take_deliveries."""
        names = [field.name for field in fields(cls)]
        return [cls(**{name: row[name] for name in names}) for row in rows if row["id"]]


@dataclass(frozen=True)
class Answer:
    """The result of one request."""

    status: int | None
    error: str | None
    response: str | None = None
    headers: dict[str, str] | None = None
    retry_after: float = 0.0
    duration_ms: int = 0
    #: whether a failure is the receiver's; False for one of our own network
    counts: bool = True
    #: it ran into a timeout
    timed_out: bool = False

    @property
    def ok(self) -> bool:
        """Whether the request succeeded: 2xx is success, a redirect is not."""
        return self.error is None


@dataclass
class Requests:
    """Makes requests."""

    dialer: Dialer
    tls: ssl.SSLContext
    #: opens a sealed secret: (sealed bytes, what they belong to) → whsec_…
    unseal: Callable[[bytes, str], str]
    #: limit of requests in flight in one process; each needs an open file
    most: int = 4096
    _slots: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self._slots = asyncio.Semaphore(self.most)

    def connections(self) -> Connections:
        """Return connections for the requests of one drain."""
        return Connections(self.dialer, self.tls, DEADLINE)

    async def post(self, delivery: Delivery, connections: Connections) -> Answer:
        """Make one request and return its result; no failure of the receiver raises."""
        async with self._slots:
            await connections.room()
            began = time.monotonic()
            answer = await self._answer(delivery, connections)
            return replace(answer, duration_ms=int((time.monotonic() - began) * 1000))

    async def _answer(self, delivery: Delivery, connections: Connections) -> Answer:
        try:
            async with asyncio.timeout(DEADLINE):
                return await self._request(delivery, connections)
        except (TimeoutError, httpcore2.TimeoutException):
            return Answer(None, TIMED_OUT, timed_out=True)
        except DeliveryError as error:
            return Answer(None, error.detail, counts=not error.ours, timed_out=error.slow)
        except Exception as error:  # noqa: BLE001  # a delivery whose request raises would be retried at once, for ever
            return Answer(None, _error_text(error))

    def _opened(self, delivery: Delivery) -> tuple[list[str], dict[str, str]]:
        """Return the secrets and the extra headers of an endpoint, opened. Raise SecretUnreadable."""
        endpoint = delivery.endpoint_id
        try:
            secrets = [self.unseal(sealed, endpoint) for sealed in delivery.secrets]
            return secrets, {
                name: value if (sealed := from_text(value)) is None else self.unseal(sealed, f"{endpoint}/{name}")
                for name, value in delivery.headers.items()
            }
        except CryptoError as error:
            log.warning(
                "the secrets of endpoint %s do not open: %s", endpoint, error,
                extra={"event": "endpoint.unreadable", "endpoint": endpoint, "reason": str(error)},
            )  # fmt: skip
            raise SecretUnreadable from error

    async def _request(self, delivery: Delivery, connections: Connections) -> Answer:
        body = delivery.body.encode()
        # By Postgres's clock: receivers refuse a wrong timestamp, and this machine's clock may be off.
        timestamp = int(delivery.attempt_at.timestamp())
        secrets, extras = self._opened(delivery)
        headers = {
            **extras,
            "user-agent": "Postrider",
            "content-type": "application/json",
            "content-length": str(len(body)),
            "accept-encoding": "identity",
            "webhook-id": delivery.event_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": sign_all(secrets, delivery.event_id, timestamp, body),
        }
        async with connections.post(delivery.url, headers, body) as response:
            text = await _beginning(response)
            got = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
            return Answer(
                response.status,
                None if response.status in SUCCESS else f"HTTP {response.status}",
                text,
                _kept(got),
                _retry_after(got.get("retry-after"), delivery.attempt_at),
            )


def _error_text(error: Exception) -> str:
    """Return the text of an error for users."""
    what, text = ERROR_TEXTS.get(type(error), type(error).__name__), str(error)
    # h11 quotes the bytes that it could not parse. A server that does not speak HTTP may be an internal one, whose
    # answers must not reach the user who registered its address.
    if "bytearray" in text:
        text = ""
    return f"{what}: {text}".removesuffix(": ")[:RESPONSE_KEPT].replace("\0", "")


async def _beginning(response: httpcore2.Response) -> str:
    """Read the beginning of an answer without decompressing it: a bomb of 254 KiB would unpack to 256 MiB."""
    parts, size = [], 0
    async for part in response.aiter_stream():
        parts.append(part)
        size += len(part)
        if size >= RESPONSE_CAP:
            break
    return _storable(b"".join(parts)[:RESPONSE_CAP].decode("utf-8", "replace"))[:RESPONSE_KEPT]


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers, cut to what is stored."""
    some = islice(headers.items(), HEADERS_KEPT)
    return {_storable(name)[:NAME_KEPT]: _storable(value)[:HEADER_KEPT] for name, value in some}


def _storable(text: str) -> str:
    """Replace NUL, which Postgres cannot store."""
    return text.replace("\0", "\ufffd")


def _retry_after(value: str | None, now: datetime) -> float:
    """Return the seconds that a Retry-After asks for, in either form (RFC 9110, 10.2.3); 0 if missing or invalid."""
    if not value:
        return 0.0
    if value.strip().isdecimal():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
        return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds())
    except (ValueError, OverflowError):
        return 0.0
