"""The crowd of endpoints that are new, fail or hang: no org's share of it delays another's."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from fixtures_history import run
from fixtures_lanes import until, value
from fixtures_webhooks import put_org

from bench.outbox import Outbox, delivering, receiving
from sql.database import Database
from tasks import queue
from tasks.queue import SLOW, Wakeups, make_app

CROWD = 200
ASKED = "select count(*) from attempts where org_id = 'org_default'"


async def test_hundreds_of_endpoints_of_one_org_that_hang_leave_anothers_first_delivery_alone(
    database: Database, database_url: str
) -> None:
    await put_org(database, "org_other")
    outbox = Outbox(database)
    async with delivering(database, database_url):
        async with receiving() as hook, receiving(hangs=True) as hung:
            crowd = await outbox.add_endpoints(hung, CROWD)
            new = await outbox.add_endpoints(hook, 1, "org_other")
            await outbox.add_events(crowd, 1)
            await outbox.add_events(new, 1, "org_other")
            await until(database, "select count(*) from attempts where status = 204", 1)
            asked = await value(database, ASKED)
            await until(database, ASKED, CROWD)
            await run(database, "update lanes set open_at = 'infinity'")
        await until(database, "select count(*) from attempts where ended_at is null", 0)
    assert asked < CROWD // 5, "the other org's endpoint did not wait for all of these"


@asynccontextmanager
async def fetching(database_url: str) -> AsyncIterator[tuple[Wakeups, int]]:
    """Give a manager of wake-ups, and the id of a worker that fetches with it."""
    app = make_app(database_url, nothing, nothing, size=2)
    async with app.open_async():
        manager = app.job_manager
        assert isinstance(manager, Wakeups)
        yield manager, await manager.register_worker()


async def nothing(*_: object) -> None:
    """Drain nothing."""


async def fetched(manager: Wakeups, worker: int) -> list[str | None]:
    """Fetch all that there is; return the lanes."""
    jobs = []
    while job := await manager.fetch_job([SLOW], worker):
        jobs.append(job)
    assert all(job.status == "doing" and job.worker_id == worker and "org" in job.task_kwargs for job in jobs)
    return [job.lock for job in jobs]


async def test_the_first_wake_up_of_each_org_is_fetched_before_the_second_of_any(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "FETCHED", 3)
    await put_org(database, "org_other")
    outbox = Outbox(database)
    ours = sorted(await outbox.add_endpoints("http://127.0.0.1:9/", 5))
    theirs = sorted(await outbox.add_endpoints("http://127.0.0.1:9/", 2, "org_other"))
    for lane in (*ours, *theirs):
        await database.all("wake", lanes=[lane])
    async with fetching(database_url) as (manager, worker):
        assert await fetched(manager, worker) == [ours[0], theirs[0], ours[1], ours[2], theirs[1], ours[3], ours[4]]
        await database.all("wake", lanes=ours)
        assert await fetched(manager, worker) == [], "the earlier ones still run"


async def test_what_a_worker_fetched_and_did_not_begin_waits_again_when_it_ends(
    database: Database, database_url: str
) -> None:
    lanes = sorted(await Outbox(database).add_endpoints("http://127.0.0.1:9/", 3))
    async with fetching(database_url) as (manager, worker):
        for lane in lanes:
            await database.all("wake", lanes=[lane])
        begun = await manager.fetch_job([SLOW], worker)
        assert begun
        assert await value(database, "select count(*) from procrastinate_jobs where status = 'doing'") == 3
        await database.all("wake", lanes=lanes[2:])
        await manager.put_back(worker)
        states = "select string_agg(lock || status, ' ' order by lock) from procrastinate_jobs"
        assert await value(database, states) == f"{lanes[0]}doing {lanes[1]}todo {lanes[2]}todo"
        assert sorted(map(str, await fetched(manager, await manager.register_worker()))) == lanes[1:]
