"""Acceptance of requests to send: repeats are one job, a batch is one transaction, and lanes are woken last."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from api.http.auth import Caller
from api.http.context import Context
from api.http.middleware import request_id
from api.sending.admission import NewJob, admit
from api.sending.send_request import SendRequest
from errors import IdempotencyKeyReused, RequestError
from sql.database import Transaction

BUCKETS = 128  # advisory locks for all contents: few, since Postgres's lock table is small

#: Identity of a request: its key, else its content's hash, else (DEDUPE_SECONDS is 0) its place in the batch.
Name = str | bytes | int


@dataclass(frozen=True)
class KnownJob:
    """The job that a request became."""

    id: str
    key: str | None
    content_hash: bytes
    state: str


@dataclass(frozen=True)
class Accepted:
    """The answer to a request that is a job now, or was one already."""

    job_id: str
    status: str
    replayed: bool


Answer = Accepted | RequestError


async def accept(context: Context, caller: Caller, requests: Sequence[SendRequest]) -> list[Answer]:
    """Return an answer for each request, in order, once all accepted ones are committed."""
    return await caller.database.transact(lambda tx: _accept(context, tx, caller.org, requests))


async def _accept(context: Context, tx: Transaction, org: str, requests: Sequence[SendRequest]) -> list[Answer]:
    names = [_name(request, place, by_content=bool(context.dedupe)) for place, request in enumerate(requests)]
    await _lock(tx, org, names)
    known = await _look_up(context, tx, names)
    # Keys come first, before account, times and limits: a repeated request is answered as the first one was.
    fresh: dict[Name, SendRequest] = {}
    for name, request in zip(names, requests, strict=True):
        if name not in known:
            fresh.setdefault(name, request)
    decided = await admit(context, tx, fresh)
    admitted = {name: found for name, found in decided.items() if isinstance(found, NewJob)}
    ours = await _insert(context, tx, admitted)
    known |= await _look_up(context, tx, admitted.keys() - ours.keys())
    await _wake(tx, admitted, ours)

    def answer(name: Name, request: SendRequest) -> Answer:
        if name in known:
            return _repeated(request, known[name])
        if fresh[name].content != request.content:
            return IdempotencyKeyReused()
        found = decided[name]
        if isinstance(found, RequestError):
            return found
        # The one answer that must never be wrong: 202 for a job that no row holds.
        if name not in ours:
            raise RuntimeError("An accepted job was neither inserted nor found.")
        return Accepted(found.request.idempotency_key or found.id, "queued", replayed=fresh[name] is not request)

    return [answer(name, request) for name, request in zip(names, requests, strict=True)]


def _name(request: SendRequest, place: int, *, by_content: bool) -> Name:
    return request.idempotency_key or (request.content if by_content else place)


def _repeated(request: SendRequest, job: KnownJob) -> Answer:
    if request.content != job.content_hash:
        return IdempotencyKeyReused()
    return Accepted(job.key or job.id, job.state, replayed=True)


async def _lock(tx: Transaction, org: str, names: Iterable[Name]) -> None:
    """Serialise equal requests without a key; sorted, so that two batches never deadlock."""
    contents = (name for name in names if isinstance(name, bytes))
    buckets = {hashlib.sha256(org.encode() + content).digest()[0] % BUCKETS for content in contents}
    if buckets:
        await tx.all("lock_contents", buckets=sorted(buckets))


async def _look_up(context: Context, tx: Transaction, names: Iterable[Name]) -> dict[Name, KnownJob]:
    keys = [name for name in names if isinstance(name, str)]
    contents = [name for name in names if isinstance(name, bytes)]
    found: dict[Name, KnownJob] = {}
    if keys:
        found |= {job.key or job.id: job for job in await tx.read(KnownJob, "jobs_of_keys", keys=keys)}
    if contents:
        jobs = await tx.read(KnownJob, "jobs_of_contents", contents=contents, within=context.dedupe)
        found |= {job.content_hash: job for job in jobs}
    return found


async def _insert(context: Context, tx: Transaction, jobs: Mapping[Name, NewJob]) -> dict[Name, bool]:
    """Insert the jobs; return the names of those that did not exist yet, and whether each is due now."""
    if not jobs:
        return {}
    rows = list(jobs.values())
    inserted = await tx.all(
        "insert_jobs",
        ids=[row.id for row in rows],
        accounts=[row.sender.id for row in rows],
        keys=[row.request.idempotency_key for row in rows],
        contents=[row.request.content for row in rows],
        phones=[row.request.phone for row in rows],
        messages=[row.request.message for row in rows],
        priorities=[int(row.request.priority == "high") for row in rows],
        metadata=[row.metadata for row in rows],
        send_at=[row.request.send_at for row in rows],
        expires_at=[row.request.expires_at for row in rows],
        ttl=context.job_ttl,
        request=request_id.get(),
    )
    due = {row["id"]: bool(row["due"]) for row in inserted}
    return {name: due[found.id] for name, found in jobs.items() if found.id in due}


async def _wake(tx: Transaction, jobs: Mapping[Name, NewJob], ours: Mapping[Name, bool]) -> None:
    """Wake the open lanes with due jobs. Must be the last statement: a conflicting one waits for our commit."""
    lanes = {jobs[name].sender.id for name, due in ours.items() if due and jobs[name].sender.open}
    if lanes:
        await tx.all("wake_own", lanes=sorted(lanes))
