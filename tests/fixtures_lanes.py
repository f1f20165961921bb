"""A worker with nothing but lanes: its work marks jobs as sent. Also a program, to be killed and frozen."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, LiteralString

import procrastinate

from commands.client import looks
from errors import DatabaseUnavailable
from sql.database import Database
from tasks.lanes import Drain, Lanes, LostWakeups
from tasks.pulse import Pulse
from tasks.queue import Consumer, make_app
from tasks.sending.claimed_job import Job

_TAKEN = "claim = coalesce(claim, gen_random_uuid()), ended_at = null, sent_at = null"
_ENDED = "claim = null, ended_at = coalesce(ended_at, now())"
#: What a job has in each state; in a test it stands after `update jobs set`.
AS: dict[str, LiteralString] = {
    "queued": "state = 'queued', claim = null, ended_at = null, sent_at = null",
    "sending": f"state = 'sending', {_TAKEN}",
    "submitting": f"state = 'submitting', {_TAKEN}",
    "sent": f"state = 'sent', {_ENDED}, sent_at = coalesce(sent_at, now())",
    "delivered": f"state = 'delivered', {_ENDED}, sent_at = coalesce(sent_at, now())",
    "read": f"state = 'read', {_ENDED}, sent_at = coalesce(sent_at, now())",
    "failed": f"state = 'failed', {_ENDED}, sent_at = null",
    "cancelled": f"state = 'cancelled', {_ENDED}, sent_at = null",
}


@dataclass
class Recorder:
    """Takes jobs and marks them sent; `work_seconds` is how long each takes."""

    database: Database
    worker: str
    work_seconds: float = 0.0
    #: (lane, job id) in the order of their ends
    done: list[tuple[str, str]] = field(default_factory=list)
    at_once: dict[str, int] = field(default_factory=dict)
    most_at_once: int = 0
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    async def begin(self, drain: Drain) -> bool:
        await self.database.all("release_typed", lane=drain.lane, epoch=drain.epoch)
        return True

    async def one(self, drain: Drain) -> bool:
        jobs = await self.database.read(Job, "take_job", lane=drain.lane, epoch=drain.epoch, worker=self.worker)
        for job in jobs:
            self.at_once[drain.lane] = self.at_once.get(drain.lane, 0) + 1
            self.most_at_once = max(self.most_at_once, *self.at_once.values())
            self.begun.set()
            await asyncio.sleep(self.work_seconds)
            self.at_once[drain.lane] -= 1
            await self.database.all("job_sent", job=job.id, claim=job.claim, bubble=None, detail=None)
            self.done.append((drain.lane, job.id))
        return bool(jobs)


@dataclass
class LaneWorker:
    """A running worker of lanes."""

    id: str
    database: Database
    lanes: Lanes
    recorder: Recorder
    pulse: Pulse
    lost: LostWakeups
    consumers: list[Consumer]
    app: procrastinate.App

    async def renew(self) -> None:
        ids = [one.procrastinate_id for one in self.consumers if one.procrastinate_id]
        await self.database.one("renew_worker", worker=self.id, ids=ids, lease=30, open=[])


@asynccontextmanager
async def lane_worker(
    url: str,
    name: str,
    *,
    slots: int = 10,
    work_seconds: float = 0.0,
    dead: float = 30.0,
    turn: float = 20.0,
    pool: int = 10,
) -> AsyncIterator[LaneWorker]:
    async with Database(url, size=pool, name="postrider worker") as database:
        await add_worker(database, name, seats=slots)
        recorder = Recorder(database, name, work_seconds)
        lanes = Lanes(database, name, {"account": recorder, "endpoint": recorder}, slice=turn)

        async def upkeep() -> None:
            await database.all("ensure_partitions")

        app = make_app(url, lanes.drain, upkeep, size=slots + 2)
        pulse = Pulse(url, settle_seconds=900, dead=dead)
        async with app.open_async():
            consumer = Consumer(app, [f"account@{name}", "account"], slots, patience=5)
            task = asyncio.create_task(consumer.run())
            try:
                yield LaneWorker(name, database, lanes, recorder, pulse, LostWakeups(database, lanes), [consumer], app)
            finally:
                lanes.stopping.set()
                consumer.stop()
                await task
                await pulse.close()
                with suppress(DatabaseUnavailable):
                    await database.all("unregister_worker", worker=name)


async def add_worker(
    database: Database,
    name: str = "wrk_a",
    *,
    home: str | None = None,
    seats: int = 1,
    duties: Sequence[str] = ("sessions", "webhooks"),
) -> None:
    """Have a worker that lives, which may lease accounts."""
    await database.all(
        "register_worker", worker=name, host="here", version="0.2.0", home=home or name, seats=seats,
        duties=list(duties), limits=None,
    )  # fmt: skip


async def add_lanes(database: Database, *lanes: str) -> None:
    async with database.transaction() as tx:
        for lane in lanes:
            await tx.connection.execute(
                "insert into lanes (id, org_id, kind, queue) values (%s, 'org_default', 'account', 'account')", [lane]
            )
            await tx.connection.execute(
                "insert into accounts (id, org_id, name, transport, wanted) "
                "values (%s, 'org_default', 'x', 'sandbox', 'connected')",
                [lane],
            )


async def add_jobs(
    database: Database,
    lane: str,
    count: int = 1,
    *,
    seconds: float = 0,
    phone: str = "1555",
    priority: int = 0,
    wake: bool = True,
) -> list[str]:
    """Add jobs due in so many seconds and wake the lane; each goes to a number of its own, beginning with `phone`."""
    async with database.transaction() as tx:
        cursor = await tx.connection.execute(
            """
            insert into jobs
                (id, org_id, account_id, content_hash, phone, message, priority, due_at, send_at, expires_at)
            select 'job_' || gen_random_uuid(), 'org_default', %(lane)s, '', %(phone)s || n, 'hello', %(priority)s,
                   now() + %(seconds)s * interval '1 second', now(), now() + interval '1 day'
            from generate_series(1, %(count)s) as n
            returning id
            """,
            {"lane": lane, "count": count, "phone": phone, "seconds": seconds, "priority": priority},
        )
        ids = [row[0] for row in await cursor.fetchall()]
        if wake:
            await tx.all("wake", lanes=[lane])
    return ids


async def value(database: Database, query: str, *values: object) -> Any:
    """Return the first column of a query's first row."""
    async with database.transaction() as tx:
        cursor = await tx.connection.execute(query, values or None)
        row = await cursor.fetchone()
        return row[0] if row else None


async def until(
    database: Database, query: str, wanted: object, *, values: Sequence[object] = (), seconds: float = 60.0
) -> None:
    """Wait until a query's first column has the wanted value."""
    seen: object = None
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            async for _ in looks(seconds, 0.02):
                if (seen := await value(database, query, *values)) == wanted:
                    return
    raise AssertionError(f"{query} gave {seen!r}, not {wanted!r}, after {seconds:.0f} s")


SENT = "select count(*) from jobs where state = 'sent'"


async def pulse_while(pulse: Pulse, database: Database, query: str, seen: object) -> None:
    async with asyncio.timeout(30):
        while await value(database, query) == seen:
            await pulse.run_once()
            await asyncio.sleep(0.05)


async def pulse_until(pulse: Pulse, database: Database, sent: int) -> None:
    async with asyncio.timeout(30):
        while await value(database, SENT) < sent:
            await pulse.run_once()
            await asyncio.sleep(0.1)


async def _main(url: str, name: str, work_seconds: float) -> None:
    async with lane_worker(url, name, work_seconds=work_seconds, slots=2) as worker:
        await worker.renew()
        print("ready", flush=True)  # noqa: T201  # what the test waits for
        while True:
            await worker.renew()
            await asyncio.sleep(0.3)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
