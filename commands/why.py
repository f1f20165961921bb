"""`postrider why`: explain in sentences why the webhook of a job did not arrive."""

import asyncio
import json
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter

from api.http.models import iso
from commands import environment
from commands.orgs import chosen
from errors import OperatorError
from settings import Settings
from sql.database import Database, Row
from sql.roles import Role

LONGEST_ANSWER = 200  # characters of a receiver's answer that are printed


def run_why(settings: Settings, job: str, org: str | None = None) -> int:
    """Print what became of a job's events. Raises OperatorError if there is no such job."""
    url = environment.ready_database_url(settings, Role.WORKER)

    async def run() -> None:
        async with Database(url, Role.WORKER, size=1) as database:
            for sentence in await explain(database, await chosen(database, org), job, settings.retention_days):
                print(sentence)  # noqa: T201

    asyncio.run(run())
    return 0


async def explain(database: Database, org: str, job: str, retention_days: float) -> list[str]:
    """Return sentences that say what became of a job's events. Raises OperatorError if there is no such job."""
    async with database.transaction() as tx:
        found = await tx.one("why_job", org=org, job=job)
        events = await tx.one("job_of_events", org=org, job=job)
        rows = await tx.all("why_events", org=org, job=events["id"]) if events else []
        working = {row["duty"] for row in await tx.all("duties_done", most=1) if row["workers"]}
    if rows:
        return list(_events(rows, works="webhooks" in working))
    kept = f" Events are kept for {retention_days:g} days (RETENTION_DAYS)." if retention_days else ""
    if found is None:
        raise OperatorError(f"There is no job {job}: it was never accepted, or it was deleted with its events.{kept}")
    if found["ended_at"] is None:
        return [_open(found, works="sessions" in working)]
    ended = f"Job {found['job_id']} ended at {iso(found['ended_at'])} ({found['state']})"
    return [f"{ended}, and its events were deleted.{kept}"]


def _open(job: Row, *, works: bool) -> str:
    yet = (
        f"Job {job['job_id']} is {job['state']}, so there is no event yet: the first one is written when the job is "
        "sent, failed or cancelled."
    )
    if job["closed"]:
        return f"{yet} Its account {job['account_id']} sends nothing {_until(job)} ({job['gate_reason']})."
    if job["later"]:
        return f"{yet} It is due at {iso(job['due_at'])}."
    return yet if works else f"{yet} No worker with the duty sessions is running."


def _events(rows: list[Row], *, works: bool) -> Iterator[str]:
    for _, some in groupby(rows, itemgetter("event_id")):
        ways = list(some)
        first = ways[0]
        yield f"{first['type']} of {iso(first['event_at'])}, webhook-id {first['event_id']}:"
        for way in ways:
            yield f"  {_way(way, works=works)}"


def _way(way: Row, *, works: bool) -> str:
    """Return what became of one event for one endpoint."""
    if way["endpoint_id"] is None:
        return "No webhook is registered, so the event is sent to nobody: POST /webhooks registers one."
    name = f"{way['endpoint_id']} ({way['url']})"
    if way["delivery_id"] is None:
        return f"{name} {_none(way)}"
    if way["state"] == "pending":
        return f"{name} {_waits(way, works=works)}"
    return f"{name} {_sent(way)}"


def _none(way: Row) -> str:
    """Return why an event has no delivery to an endpoint."""
    if not way["wanted"]:
        return f"did not ask for {way['type']}, only for {', '.join(way['events'])}."
    if way["recovery"]:
        return f"has not received it yet, and will get it from the recovery {way['recovery']}, which is running."
    again = f'POST /webhooks/{way["endpoint_id"]}/recover {{"since": "{iso(way["event_at"])}"}} delivers it.'
    if way["status"] == "disabled":
        return f"is disabled, and gets no events: {way['status_reason']} Enable it; then {again}"
    if way["registered_later"]:
        return f"was registered after the event. {again}"
    return f"was disabled at that time, or did not ask for {way['type']}. {again}"


def _waits(way: Row, *, works: bool) -> str:
    """Return what a pending delivery waits for."""
    if way["status"] == "paused":
        return f"is paused, and its events wait until it is resumed: {way['status_reason']}"
    number = way["attempts"] + 1
    last = f" {_last(way)}" if way["number"] else ""
    if way["resting"]:
        return f"rests {_until(way)} ({way['gate_reason']}); then attempt {number} follows.{last}"
    if not way["due"]:
        return f"waits for attempt {number} at {iso(way['due_at'])}.{last}"
    others = "other events are before it" if works else "no worker with the duty webhooks is running"
    return f"has been due for attempt {number} since {iso(way['due_at'])}, but {others}.{last}"


def _sent(way: Row) -> str:
    """Return what became of a delivery that is not pending."""
    if way["state"] == "sending":
        return f"is in attempt {way['attempts']}, which began at {iso(way['attempt_at'])}."
    if way["state"] == "delivered":
        return (
            f"got it at {iso(way['ended_at'])} in attempt {way['attempts']} and answered {_answer(way)}: "
            f"look at your receiver for webhook-id {way['event_id']}."
        )
    if way["deleted"]:
        return f"was deleted, so nothing is sent to it any more. {_last(way) if way['number'] else ''}".rstrip()
    gone = f"It was given up at {iso(way['ended_at'])} after {way['attempts']} attempts."
    enable = f"It is disabled: {way['status_reason']} Enable it; then " if way["status"] == "disabled" else ""
    last = f" {_last(way)}" if way["number"] else f" {way['last_error']}"
    return f"did not take it. {gone}{last} {enable}POST /deliveries/{way['delivery_id']}/replay sends it again."


def _last(way: Row) -> str:
    """Return the result of the last attempt."""
    if way["answered_at"] is None:
        return f"Attempt {way['number']} of {iso(way['attempt_at'])} has no answer yet."
    if way["error"] == "interrupted":
        return f"The worker ended during attempt {way['number']} of {iso(way['attempt_at'])}."
    what = "got no answer" if way["answer"] is None else "was answered"
    return f"Attempt {way['number']} of {iso(way['attempt_at'])} {what}: {_answer(way)}."


def _answer(way: Row) -> str:
    # A receiver's answer must not control the reader's terminal.
    text = "".join(c if c.isprintable() else "\ufffd" for c in (way["response"] or "").strip()[:LONGEST_ANSWER])
    said = f" {json.dumps(text, ensure_ascii=False)}" if text else ""
    return f"{way['answer'] or way['error']}{said} in {way['duration_ms']} ms"


def _until(way: Row) -> str:
    return f"until {iso(way['opens_at'])}" if way["opens_at"] else "until somebody acts"
