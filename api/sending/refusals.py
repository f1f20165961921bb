"""Why an order is refused: Postgres decides, by its own clock and rows, and here is what the client reads."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from api.http.auth import SPENT
from api.http.models import iso, shown
from api.sending.send_request import SendRequest
from errors import FieldError, Invalid, NotFound, QueueFull, RequestError, Unauthorized

PAST = timedelta(seconds=60)  # a sendAt so far in the past counts as now
FUTURE = timedelta(days=366)  # a sendAt further ahead is refused
FULL_RETRY_AFTER = 60.0  # seconds that a client is asked to wait while its account's queue is full


@dataclass(frozen=True)
class Refused:
    """An order that was refused: of which account, when by Postgres's clock, and how many messages of it may wait."""

    request: SendRequest
    account: str | None
    now: datetime
    most: int


def _no_key(_: Refused) -> RequestError:
    return Unauthorized()


def _signature_spent(_: Refused) -> RequestError:
    return Unauthorized(SPENT)


def _no_account(refused: Refused) -> RequestError:
    account = refused.request.account
    if account is None:
        message = "is required, since there is not exactly one account"
        return Invalid(f"account {message}.", errors=[FieldError("account", message)])
    message = f"names no account: {shown(account)}"
    return NotFound(f"account {message}.", errors=[FieldError("account", message)])


def _wrong_time(refused: Refused) -> RequestError:
    request, now = refused.request, refused.now
    starts = max(request.send_at or now, now)
    if request.send_at and request.send_at < now - PAST:
        return _invalid("sendAt", f"must not be in the past and is {iso(request.send_at)}")
    if starts > now + FUTURE:
        return _invalid("sendAt", f"must be at most {FUTURE.days} days ahead and is {iso(starts)}")
    if request.expires_at and request.expires_at <= starts:
        return _invalid(
            "expiresAt", f"must be later than the time of sending, {iso(starts)}, not {iso(request.expires_at)}"
        )
    raise RuntimeError("A time was refused that is right.")


def _invalid(name: str, message: str) -> Invalid:
    return Invalid(f"{name} {message}.", errors=[FieldError(name, message)])


def _no_room(refused: Refused) -> RequestError:
    return QueueFull(
        f"{refused.most:,} messages of {refused.account} wait; no more are accepted now.", retry_after=FULL_RETRY_AFTER
    )


#: outcome of door.accept → the error that tells it
REFUSALS: Mapping[str, Callable[[Refused], RequestError]] = {
    "key": _no_key,
    "signature": _signature_spent,
    "account": _no_account,
    "time": _wrong_time,
    "room": _no_room,
}
