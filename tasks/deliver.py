"""The work of an endpoint's lane: sign the stored bytes, post them, record the attempt.

At least once: a worker that dies between the request and its record leaves a delivery that is sent again, with the same
webhook-id. Standard Webhooks 1.0.0.
"""

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from uuid import UUID

import httpx2

from addresses import Addresses
from crypto import sign
from errors import DatabaseUnavailable, DeliveryError
from logs import bind
from resolver import Resolver
from sql.database import Database
from tasks.backoff import backoff
from tasks.dialer import CONNECT, WITNESS, Dialer
from tasks.lanes import Drain
from tasks.transport import Transport

log = logging.getLogger(__name__)

DEADLINE = 20.0  # seconds for a whole request; httpx's own timeouts are per read, and a slow drip never trips them
RESPONSE_CAP = 16_384  # bytes of the answer that are read
RESPONSE_KEPT = 2_000  # characters of it that are kept
RETRY_AFTER_CAP = 3600.0  # seconds
TIMED_OUT = "timeout"


@dataclass(frozen=True)
class Retry:
    """When a delivery is tried again: the first at once, then base · factorⁿ seconds up to the cap, so many in all."""

    attempts: int = 12
    base_seconds: float = 5.0
    factor: float = 3.0
    cap_seconds: float = 43_200.0

    @classmethod
    def of(cls, policy: Mapping[str, Any]) -> "Retry":
        """Return the default with what an endpoint wants otherwise, as in the contract's `retry`."""
        return cls(
            attempts=int(policy.get("attempts", cls.attempts)),
            base_seconds=float(policy.get("baseSeconds", cls.base_seconds)),
            factor=float(policy.get("factor", cls.factor)),
            cap_seconds=float(policy.get("capSeconds", cls.cap_seconds)),
        )


@dataclass(frozen=True)
class Delivery:
    """A delivery that a worker has claimed, with its event and endpoint."""

    id: str
    endpoint_id: str
    event_id: str
    claim: UUID
    attempts: int
    type: str
    body: str
    job_id: str | None
    url: str
    secret: bytes
    headers: dict[str, str]
    retry: dict[str, Any]
    attempt_id: int
    attempt_at: datetime


@dataclass(frozen=True)
class Answer:
    """What came of one request."""

    status: int | None
    error: str | None
    response: str | None = None
    retry_after: float = 0.0
    duration_ms: int = 0
    #: the endpoint kept the request waiting until it was given up
    slow: bool = False

    @property
    def ok(self) -> bool:
        """2xx is success; a redirect is not."""
        return self.error is None


@dataclass
class DeliveryWork:
    """What is done with the rows of endpoint lanes."""

    database: Database
    worker: str
    #: opens a sealed secret: (sealed, endpoint id) → whsec_…
    unseal: Callable[[bytes, str], str]
    client: httpx2.AsyncClient
    #: the queue that each lane is woken in now
    _queues: dict[str, str] = field(default_factory=dict)

    async def begin(self, drain: Drain) -> bool:
        """Return what an earlier drain left under way to the line."""
        self._queues[drain.lane] = drain.queue
        await self.database.all("release_deliveries", lane=drain.lane, epoch=drain.epoch)
        return True

    async def one(self, drain: Drain) -> bool:
        """Make the next due request of the endpoint."""
        taken = await self.database.read(
            Delivery, "take_delivery", lane=drain.lane, epoch=drain.epoch, worker=self.worker
        )
        for delivery in taken:
            with bind(endpoint=delivery.endpoint_id, delivery=delivery.id, job=delivery.job_id or ""):
                answer = await self.post(delivery)
                await self._record(delivery, answer)
                await self._choose_queue(drain, answer)
        return bool(taken)

    async def post(self, delivery: Delivery) -> Answer:
        """Make one request and return what came of it; nothing is raised for what a receiver does."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(DEADLINE):
                answer = await self._request(delivery)
        except (TimeoutError, httpx2.TimeoutException):
            answer = Answer(None, TIMED_OUT, slow=True)
        except DeliveryError as error:
            answer = Answer(None, error.detail, slow=error.slow)
        except Exception as error:  # noqa: BLE001  # a delivery that raises would come back at once, for ever
            answer = Answer(None, f"{type(error).__name__}: {error}"[:RESPONSE_KEPT].replace("\0", ""))
        return replace(answer, duration_ms=int((time.monotonic() - began) * 1000))

    async def _request(self, delivery: Delivery) -> Answer:
        body = delivery.body.encode()
        # Postgres's clock: receivers refuse what this machine's would date wrongly.
        timestamp = int(delivery.attempt_at.timestamp())
        secret = self.unseal(delivery.secret, delivery.endpoint_id)
        headers = {
            **delivery.headers,
            "content-type": "application/json",
            "accept-encoding": "identity",
            "webhook-id": delivery.event_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": sign(secret, delivery.event_id, timestamp, body),
        }
        async with self.client.stream("POST", delivery.url, content=body, headers=headers) as response:
            text = await _beginning(response)
            error = None if response.is_success else f"HTTP {response.status_code}"
            wait = _retry_after(response.headers.get("retry-after"), delivery.attempt_at)
            return Answer(response.status_code, error, text, wait)

    async def _record(self, delivery: Delivery, answer: Answer) -> None:
        state, seconds = _next(delivery, answer)
        log.info("%s %s: %s", delivery.type, delivery.event_id, answer.error or answer.status)
        if answer.status == httpx2.codes.GONE:
            await self.database.all(
                "disable_endpoint", endpoint=delivery.endpoint_id, delivery=delivery.id, claim=delivery.claim,
                reason="It answered 410 Gone.",
            )  # fmt: skip
        while True:
            try:
                await self.database.all(
                    "end_attempt",
                    delivery=delivery.id,
                    claim=delivery.claim,
                    attempt=delivery.attempt_id,
                    attempt_at=delivery.attempt_at,
                    state=state,
                    seconds=seconds,
                    status=answer.status,
                    error=answer.error,
                    duration_ms=answer.duration_ms,
                    response=answer.response,
                )
                return
            except DatabaseUnavailable:
                await asyncio.sleep(0.5)

    async def _choose_queue(self, drain: Drain, answer: Answer) -> None:
        # An endpoint that hung is woken in a queue with slots of its own, so that many of them hold up nobody.
        queue = "endpoint-slow" if answer.slow else "endpoint"
        if queue != self._queues.get(drain.lane):
            await self.database.all("move_lane", lane=drain.lane, queue=queue)
            self._queues[drain.lane] = queue


def make_client(
    addresses: Addresses, resolver: Resolver | None = None, witness: str = WITNESS, tls: ssl.SSLContext | None = None
) -> httpx2.AsyncClient:
    """Return the client of all deliveries: to open addresses only, no redirects, no proxies from the environment.

    `witness` is a name that DNS has an answer for unless it is away; `tls` is None for the system's certificates.
    """
    limits = httpx2.Limits(max_connections=200, max_keepalive_connections=50, keepalive_expiry=30.0)
    return httpx2.AsyncClient(
        transport=Transport(Dialer(addresses, resolver or Resolver(), witness), limits, tls),
        trust_env=False,
        follow_redirects=False,
        timeout=httpx2.Timeout(DEADLINE, connect=CONNECT),
        headers={"user-agent": "Postrider"},
    )


def _next(delivery: Delivery, answer: Answer) -> tuple[str, float]:
    """Return the delivery's next state and the seconds until it is due."""
    retry = Retry.of(delivery.retry)
    if answer.ok:
        return "delivered", 0.0
    if answer.status == httpx2.codes.GONE or delivery.attempts >= retry.attempts:
        return "failed", 0.0
    pause = backoff(delivery.attempts, base=retry.base_seconds, factor=retry.factor, cap=retry.cap_seconds)
    return "pending", max(pause, min(answer.retry_after, RETRY_AFTER_CAP))


async def _beginning(response: httpx2.Response) -> str:
    """Read the beginning of an answer, raw: a bomb of 254 KiB would unpack to 256 MiB."""
    parts, size = [], 0
    async for part in response.aiter_raw():
        parts.append(part)
        size += len(part)
        if size >= RESPONSE_CAP:
            break
    # Postgres stores no NUL.
    return b"".join(parts)[:RESPONSE_CAP].decode("utf-8", "replace").replace("\0", "\ufffd")[:RESPONSE_KEPT]


def _retry_after(value: str | None, now: datetime) -> float:
    """Return the seconds that a Retry-After asks for, in either form (RFC 9110, 10.2.3); 0 for none or nonsense."""
    if not value:
        return 0.0
    if value.strip().isdecimal():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
        return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds())
    except (ValueError, OverflowError):
        return 0.0
