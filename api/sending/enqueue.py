"""Accepting orders: the same one once, all of a batch in one transaction, and the lanes woken last."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from api.http.context import Context
from api.http.middleware import request_id
from api.sending.admission import Draft, draft
from api.sending.requests import Order
from errors import IdempotencyKeyReused, RequestError
from sql.database import Transaction

BUCKETS = 128  # locks that all contents share: few, since Postgres holds every lock in one small table

#: What makes two orders the same: the key, else the content, else (DEDUPE_SECONDS is 0) only its place in the batch.
Name = str | bytes | int


@dataclass(frozen=True)
class Job:
    """The job that an order became."""

    id: str
    key: str | None
    content_hash: bytes
    state: str


@dataclass(frozen=True)
class Accepted:
    """An order that is a job now, or was one already."""

    job_id: str
    status: str
    replayed: bool


Answer = Accepted | RequestError


async def accept(context: Context, org: str, orders: Sequence[Order]) -> list[Answer]:
    """Return an answer for each order, in their order, once all that were accepted are committed."""
    return await context.database.transact(lambda tx: _accept(context, tx, org, orders))


async def _accept(context: Context, tx: Transaction, org: str, orders: Sequence[Order]) -> list[Answer]:
    names = [_name(order, place, by_content=bool(context.dedupe)) for place, order in enumerate(orders)]
    await _lock(tx, org, names)
    known = await _look_up(context, tx, org, names)
    # Keys come first, before account, times and limits: a repeated request is answered as the first one was.
    fresh: dict[Name, Order] = {}
    for name, order in zip(names, orders, strict=True):
        if name not in known:
            fresh.setdefault(name, order)
    drafts = await draft(context, tx, org, fresh)
    admitted = {name: found for name, found in drafts.items() if isinstance(found, Draft)}
    ours = await _insert(context, tx, org, admitted)
    known |= await _look_up(context, tx, org, admitted.keys() - ours.keys())
    await _wake(tx, admitted, ours)

    def answer(name: Name, order: Order) -> Answer:
        if name in known:
            return _repeated(order, known[name])
        if fresh[name].content != order.content:
            return IdempotencyKeyReused()
        return _decided(drafts[name], first=fresh[name] is order)

    return [answer(name, order) for name, order in zip(names, orders, strict=True)]


def _name(order: Order, place: int, *, by_content: bool) -> Name:
    return order.idempotency_key or (order.content if by_content else place)


def _repeated(order: Order, job: Job) -> Answer:
    if order.content != job.content_hash:
        return IdempotencyKeyReused()
    return Accepted(job.key or job.id, job.state, replayed=True)


def _decided(found: Draft | RequestError, *, first: bool) -> Answer:
    if isinstance(found, RequestError):
        return found
    return Accepted(found.order.idempotency_key or found.id, "queued", replayed=not first)


async def _lock(tx: Transaction, org: str, names: Iterable[Name]) -> None:
    """Let equal orders without a key in one after the other; sorted, so that two batches never wait for each other."""
    contents = (name for name in names if isinstance(name, bytes))
    buckets = {hashlib.sha256(org.encode() + content).digest()[0] % BUCKETS for content in contents}
    if buckets:
        await tx.all("lock_contents", buckets=sorted(buckets))


async def _look_up(context: Context, tx: Transaction, org: str, names: Iterable[Name]) -> dict[Name, Job]:
    keys = [name for name in names if isinstance(name, str)]
    contents = [name for name in names if isinstance(name, bytes)]
    found: dict[Name, Job] = {}
    if keys:
        found |= {job.key or job.id: job for job in await tx.read(Job, "jobs_of_keys", org=org, keys=keys)}
    if contents:
        jobs = await tx.read(Job, "jobs_of_contents", org=org, contents=contents, within=context.dedupe)
        found |= {job.content_hash: job for job in jobs}
    return found


async def _insert(context: Context, tx: Transaction, org: str, drafts: Mapping[Name, Draft]) -> dict[Name, bool]:
    """Insert the drafts and return the names of those that nobody else had inserted meanwhile, and whether due now."""
    if not drafts:
        return {}
    rows = list(drafts.values())
    inserted = await tx.all(
        "insert_jobs",
        org=org,
        ids=[row.id for row in rows],
        accounts=[row.sender.id for row in rows],
        keys=[row.order.idempotency_key for row in rows],
        contents=[row.order.content for row in rows],
        phones=[row.order.phone for row in rows],
        messages=[row.order.message for row in rows],
        priorities=[int(row.order.priority == "high") for row in rows],
        metadata=[row.metadata for row in rows],
        send_at=[row.order.send_at for row in rows],
        expires_at=[row.order.expires_at for row in rows],
        ttl=context.job_ttl,
        request=request_id.get(),
    )
    due = {row["id"]: bool(row["due"]) for row in inserted}
    return {name: due[found.id] for name, found in drafts.items() if found.id in due}


async def _wake(tx: Transaction, drafts: Mapping[Name, Draft], ours: Mapping[Name, bool]) -> None:
    """Wake the open lanes that have something due. The last statement: whom it collides with waits for our commit."""
    lanes = {drafts[name].sender.id for name, due in ours.items() if due and drafts[name].sender.open}
    if lanes:
        await tx.all("wake", lanes=sorted(lanes))
