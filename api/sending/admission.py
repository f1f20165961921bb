"""Admission of requests: which account sends, whether the times are valid, whether the queue has room."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar

from api.http.context import Context
from api.http.models import iso, shown
from api.http.validators import minified
from api.sending.send_request import SendRequest
from errors import FieldError, Invalid, NotFound, QueueFull, RequestError
from sql.database import Transaction
from sql.ids import new_id

PAST = timedelta(seconds=60)  # a sendAt so far in the past counts as now
FUTURE = timedelta(days=366)  # a sendAt further ahead is refused
FULL_RETRY_AFTER = 60.0  # seconds that a client is asked to wait while its account's queue is full

N = TypeVar("N")


@dataclass(frozen=True)
class SendingAccount:
    """An account that may send, whether its lane is open now, and how many of its messages wait."""

    id: str
    open: bool
    queued: int


@dataclass(frozen=True)
class NewJob:
    """A job that will be inserted: a request that is accepted, and the account that sends it."""

    request: SendRequest
    sender: SendingAccount
    id: str = field(default_factory=lambda: new_id("job_"))

    @property
    def metadata(self) -> str | None:
        """The metadata as stored: minified JSON."""
        return None if self.request.metadata is None else minified(self.request.metadata)


async def admit(context: Context, tx: Transaction, requests: Mapping[N, SendRequest]) -> dict[N, NewJob | RequestError]:
    """Return for each request its new job, or the error that refuses it."""
    senders = await _senders(tx, {request.account for request in requests.values()})
    now = await _now(tx)
    found: dict[N, NewJob | RequestError] = {}
    for name, request in requests.items():
        try:
            _check_times(request, now)
            found[name] = NewJob(request, _sender(senders, request.account))
        except RequestError as error:
            found[name] = error
    if context.max_queued:
        _within_room(context.max_queued, found)
    return found


# --- account -----------------------------------------------------------------------------------------------------


async def _senders(tx: Transaction, accounts: Iterable[str | None]) -> dict[str | None, SendingAccount]:
    """Return the accounts that exist, by id; under None the org's only account, for requests that name none."""
    named = [account for account in accounts if account is not None]
    senders: dict[str | None, SendingAccount] = {}
    if named:
        senders |= {sender.id: sender for sender in await tx.read(SendingAccount, "senders", accounts=named)}
    if None in accounts:
        some = await tx.read(SendingAccount, "first_senders")
        if len(some) == 1:
            senders[None] = some[0]
    return senders


def _sender(senders: Mapping[str | None, SendingAccount], account: str | None) -> SendingAccount:
    if account in senders:
        return senders[account]
    if account is None:
        message = "is required, since there is not exactly one account"
        raise Invalid(f"account {message}.", errors=[FieldError("account", message)])
    message = f"names no account: {shown(account)}"
    raise NotFound(f"account {message}.", errors=[FieldError("account", message)])


# --- times -------------------------------------------------------------------------------------------------------


async def _now(tx: Transaction) -> datetime:
    """Return Postgres's time, since this machine's clock may be off."""
    (row,) = await tx.all("database_time")
    now: datetime = row["now"]
    return now


def _check_times(request: SendRequest, now: datetime) -> None:
    starts = max(request.send_at or now, now)
    if request.send_at and request.send_at < now - PAST:
        raise _invalid("sendAt", f"must not be in the past and is {iso(request.send_at)}")
    if starts > now + FUTURE:
        raise _invalid("sendAt", f"must be at most {FUTURE.days} days ahead and is {iso(starts)}")
    if request.expires_at and request.expires_at <= starts:
        raise _invalid(
            "expiresAt", f"must be later than the time of sending, {iso(starts)}, not {iso(request.expires_at)}"
        )


def _invalid(name: str, message: str) -> Invalid:
    return Invalid(f"{name} {message}.", errors=[FieldError(name, message)])


# --- room --------------------------------------------------------------------------------------------------------


def _within_room(most: int, found: dict[N, NewJob | RequestError]) -> None:
    """Refuse the last requests of each account that exceed MAX_QUEUED.

    Requests of one account are not serialized: what other transactions accept at the same time is not seen, and may
    exceed the bound.
    """
    queued: dict[str, int] = {}
    for name, item in found.items():
        if isinstance(item, NewJob):
            sender = item.sender
            queued[sender.id] = queued.get(sender.id, sender.queued) + 1
            if queued[sender.id] > most:
                found[name] = QueueFull(
                    f"{most:,} messages of {sender.id} wait; no more are accepted now.", retry_after=FULL_RETRY_AFTER
                )
