"""Acceptance of orders: many of any org in one statement, each with its own outcome; then their lanes are woken."""

from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property

from pydantic_core import to_json
from starlette.requests import Request

from api.http.validators import minified
from api.sending.refusals import REFUSALS, Refused
from api.sending.send_request import SendRequest
from errors import DatabaseBusy, DatabaseError, IdempotencyKeyReused, RequestError
from sql.database import RETRY_AFTER, Database
from sql.ids import new_id

ROUNDS = 3  # times that an order is tried whose name went to one that was refused, or whose job is gone
AGAIN = "again"  # the outcome of such an order
PATIENCE = 2.0  # seconds that a statement waits for a name that another transaction holds


@dataclass(frozen=True)
class Order:
    """A request to send, and the key that it was made with."""

    request: SendRequest
    #: SHA-256 of the API key, from which Postgres takes the org
    key_hash: bytes
    #: of the HTTP request
    request_id: str
    #: to be spent, for a key whose requests are signed
    signature: bytes | None = None
    id: str = field(default_factory=lambda: new_id("job_"))

    def once_more(self) -> "Order":
        """Return it to be tried again: its signature has been spent."""
        return replace(self, signature=None)

    @cached_property
    def row(self) -> bytes:
        """The order as door.accept takes it, in JSON: for so many columns far faster than arrays."""
        request = self.request
        columns = {
            "api_key": f"\\x{self.key_hash.hex()}",
            "id": self.id,
            "account": request.account,
            "key": request.idempotency_key,
            "content": f"\\x{request.content.hex()}",
            "phone": request.phone,
            "message": request.message,
            "priority": int(request.priority == "high"),
            "metadata": None if request.metadata is None else minified(request.metadata),
            "send_at": request.send_at and request.send_at.isoformat(),
            "expires_at": request.expires_at and request.expires_at.isoformat(),
            "request": self.request_id,
            "signature": self.signature and f"\\x{self.signature.hex()}",
        }
        return to_json(columns)


@dataclass(frozen=True)
class Accepted:
    """The answer to an order that is a job now, or was one already."""

    job_id: str
    status: str
    replayed: bool


Answer = Accepted | RequestError


@dataclass(frozen=True)
class Outcome:
    """What became of an order: the columns that door.accept returns."""

    outcome: str
    job: str
    state: str
    content: bytes
    account: str | None
    #: whether its lane is open, and it is due
    wake: bool | None
    now: datetime


def to_wake(outcomes: Iterable[Outcome]) -> set[str]:
    """Return the lanes with something that is due now."""
    return {outcome.account for outcome in outcomes if outcome.account and outcome.wake}


@dataclass(frozen=True)
class Acceptance:
    """Accepts orders."""

    #: without a scope: each order has the org of its key
    database: Database
    #: a job without expiresAt expires so long after sendAt
    ttl: timedelta
    #: equal orders without idempotency key within this time are one job
    dedupe: timedelta
    #: messages of one account that may wait; 0 is no bound
    max_queued: int

    async def accept(self, orders: Sequence[Order]) -> list[Answer]:
        """Return an answer for each order, in order, once all accepted ones are committed. Raises DatabaseError."""
        answers: dict[int, Answer] = {}
        left = list(range(len(orders)))
        for _ in range(ROUNDS):
            outcomes = await self.insert([orders[place] for place in left])
            await self.wake(to_wake(outcomes))
            for place, outcome in zip(left, outcomes, strict=True):
                if outcome.outcome != AGAIN:
                    answers[place] = self.answer(orders[place], outcome)
            left = [place for place in left if place not in answers]
            if not left:
                break
            orders = [order.once_more() for order in orders]
        busy = DatabaseBusy(retry_after=RETRY_AFTER[DatabaseBusy])
        return [answers.get(place, busy) for place in range(len(orders))]

    async def insert(self, orders: Sequence[Order], patience: float = PATIENCE) -> list[Outcome]:
        """Return what has become of each order, once that is committed. Raises DatabaseError, psycopg.Error.

        It waits for `patience` seconds for a name that another transaction holds.
        """
        given = (b"[%b]" % b",".join([order.row for order in orders])).decode()
        terms = {
            "ttl": self.ttl,
            "within": self.dedupe,
            "most": self.max_queued,
            "patience": f"{patience * 1000:.0f}ms",
        }
        return await self.database.read(Outcome, "accept", orders=given, **terms)

    async def wake(self, lanes: Collection[str]) -> None:
        """Wake lanes. If that fails, the marks that were committed with the messages wake them a second later."""
        if lanes:
            with suppress(DatabaseError):
                await self.database.all("wake_accepted", lanes=sorted(lanes))

    def answer(self, order: Order, outcome: Outcome) -> Answer:
        """Return the answer that tells the outcome of an order."""
        name = order.request.idempotency_key
        match outcome.outcome:
            case "queued":
                return Accepted(name or outcome.job, outcome.state, replayed=False)
            case "known" if outcome.content == order.request.content:
                return Accepted(name or outcome.job, outcome.state, replayed=True)
            case "known":
                return IdempotencyKeyReused()
            # The one answer that must never be wrong: 202 for a job that no row holds. Anything else raises KeyError.
            case refusal:
                return REFUSALS[refusal](Refused(order.request, outcome.account, outcome.now, self.max_queued))


def acceptance_of(request: Request) -> Acceptance:
    """Return the acceptance of the app that serves this request."""
    acceptance: Acceptance = request.app.state.acceptance
    return acceptance
