"""From order to row: which account sends it, whether its times are possible, and whether there is room."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar

from api.http.context import Context
from api.http.models import iso, shown
from api.http.validators import minified
from api.sending.requests import Order
from errors import FieldError, Invalid, NotFound, QueueFull, RequestError
from sql.database import Transaction
from sql.ids import new_id

PAST = timedelta(seconds=60)  # a sendAt so far in the past counts as now
FUTURE = timedelta(days=366)  # a sendAt further ahead is refused
FULL_RETRY_AFTER = 60.0  # seconds that a client is asked to wait while its account's queue is full

N = TypeVar("N")


@dataclass(frozen=True)
class Sender:
    """An account that may send, and whether its lane is open now."""

    id: str
    open: bool


@dataclass(frozen=True)
class Draft:
    """A row of jobs to be."""

    order: Order
    sender: Sender
    id: str = field(default_factory=lambda: new_id("job_"))

    @property
    def metadata(self) -> str | None:
        """As it is stored: minified."""
        return None if self.order.metadata is None else minified(self.order.metadata)


async def draft(
    context: Context, tx: Transaction, org: str, orders: Mapping[N, Order]
) -> dict[N, Draft | RequestError]:
    """Return for each order a draft, or why it is not accepted."""
    senders = await _senders(tx, org, {order.account for order in orders.values()})
    now = await _now(tx)
    found: dict[N, Draft | RequestError] = {}
    for name, order in orders.items():
        try:
            _check_times(order, now)
            found[name] = Draft(order, _sender(senders, order.account))
        except RequestError as error:
            found[name] = error
    await _within_room(context, tx, found)
    return found


# --- account -----------------------------------------------------------------------------------------------------


async def _senders(tx: Transaction, org: str, accounts: Iterable[str | None]) -> dict[str | None, Sender]:
    """Return the accounts that exist; that of orders which name none stands under None, if the org has exactly one."""
    named = [account for account in accounts if account is not None]
    senders: dict[str | None, Sender] = {}
    if named:
        senders |= {sender.id: sender for sender in await tx.read(Sender, "senders", org=org, accounts=named)}
    if None in accounts:
        some = await tx.read(Sender, "first_senders", org=org)
        if len(some) == 1:
            senders[None] = some[0]
    return senders


def _sender(senders: Mapping[str | None, Sender], account: str | None) -> Sender:
    if account in senders:
        return senders[account]
    if account is None:
        message = "is required, since there is not exactly one account"
        raise Invalid(f"account {message}.", errors=[FieldError("account", message)])
    message = f"names no account: {shown(account)}"
    raise NotFound(f"account {message}.", errors=[FieldError("account", message)])


# --- times -------------------------------------------------------------------------------------------------------


async def _now(tx: Transaction) -> datetime:
    """Return Postgres's time: what is past or far ahead is not for this machine's clock to say."""
    (row,) = await tx.all("the_time")
    now: datetime = row["now"]
    return now


def _check_times(order: Order, now: datetime) -> None:
    starts = max(order.send_at or now, now)
    if order.send_at and order.send_at < now - PAST:
        raise _invalid("sendAt", f"must not be in the past and is {iso(order.send_at)}")
    if starts > now + FUTURE:
        raise _invalid("sendAt", f"must be at most {FUTURE.days} days ahead and is {iso(starts)}")
    if order.expires_at and order.expires_at <= starts:
        raise _invalid(
            "expiresAt", f"must be later than the time of sending, {iso(starts)}, not {iso(order.expires_at)}"
        )


def _invalid(name: str, message: str) -> Invalid:
    return Invalid(f"{name} {message}.", errors=[FieldError(name, message)])


# --- room --------------------------------------------------------------------------------------------------------


async def _within_room(context: Context, tx: Transaction, found: dict[N, Draft | RequestError]) -> None:
    """Refuse what would be more than MAX_QUEUED of an account, the last ones."""
    if not context.queue_limit.most:
        return
    wanted = Counter(item.sender.id for item in found.values() if isinstance(item, Draft))
    # Sorted, so that two batches never wait for each other.
    rooms = {sender: await _room(context, tx, sender, wanted[sender]) for sender in sorted(wanted)}
    for name, item in found.items():
        if isinstance(item, Draft):
            rooms[item.sender.id] -= 1
            if rooms[item.sender.id] < 0:
                found[name] = QueueFull(
                    f"{context.queue_limit.most:,} messages of {item.sender.id} wait; no more are accepted now.",
                    retry_after=FULL_RETRY_AFTER,
                )
            else:
                context.queue_limit.accepted(item.sender.id)


async def _room(context: Context, tx: Transaction, account: str, wanted: int) -> int:
    room = context.queue_limit.room(account, wanted)
    if room is None and not context.queue_limit.near(account, wanted):
        room = await _count(context, tx, account)
    if context.queue_limit.near(account, wanted):
        await tx.all("lock_room", account=account)
        room = await _count(context, tx, account)
    return room or 0


async def _count(context: Context, tx: Transaction, account: str) -> int:
    row = await tx.one("count_queued", account=account, most=context.queue_limit.most)
    return context.queue_limit.counted(account, int(row["queued"]) if row else 0)
