"""What crashes leave behind, and how it is given back."""

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from fixtures_lanes import SENT, add_jobs, add_lanes, add_worker, lane_worker, pulse_until, until, value

from errors import DatabaseUnavailable
from sql.database import Database
from tasks.pulse import Rescue

ROOT = Path(__file__).parent.parent


async def test_a_wake_up_in_a_dead_workers_queue_is_given_back(database: Database, database_url: str) -> None:
    await add_lanes(database, "a")
    async with database.transaction() as tx:
        await tx.connection.execute("update lanes set queue = 'account@wrk_dead'")
    await add_jobs(database, "a")
    assert await value(database, "select queue_name from procrastinate_jobs") == "account@wrk_dead"
    async with lane_worker(database_url, "wrk_a", dead=1.0) as worker:
        await pulse_until(worker.pulse, database, 1)


async def test_a_wake_up_lost_in_an_outage_is_buried_by_the_worker_that_lost_it(
    database: Database, database_url: str
) -> None:
    """The drain ended while Postgres was away: neither its end nor procrastinate's could be written."""
    await add_lanes(database, "a")
    async with lane_worker(database_url, "wrk_a") as worker:
        await worker.renew()
        async with database.transaction() as tx:
            await tx.connection.execute(
                "insert into procrastinate_jobs (queue_name, task_name, lock, queueing_lock, status) "
                "values ('account', 'drain', 'a', 'a', 'doing')"
            )
            await tx.connection.execute(
                "update lanes set drained_by = 'wrk_a', wakeup_id = j.id from procrastinate_jobs j where lock = 'a'"
            )
        await add_jobs(database, "a")
        assert await worker.lost.run_once() == []
        assert len(await worker.lost.run_once()) == 1
        await until(database, SENT, 1)


async def test_a_doing_wake_up_that_nobody_runs_is_buried(database: Database, database_url: str) -> None:
    await add_lanes(database, "a")
    async with lane_worker(database_url, "wrk_a") as worker:
        await until(database, "select count(*) from procrastinate_workers", 1)
        async with database.transaction() as tx:
            # As after a status write that was swallowed: procrastinate believes that this worker runs it.
            await tx.connection.execute(
                "insert into procrastinate_jobs (queue_name, task_name, lock, queueing_lock, status, worker_id) "
                "select 'account', 'drain', 'a', 'a', 'doing', id from procrastinate_workers"
            )
        await add_jobs(database, "a")
        await worker.renew()
        assert await worker.lost.run_once() == [], "one look is no proof"
        assert len(await worker.lost.run_once()) == 1
        await until(database, SENT, 1)


async def test_upkeep_that_takes_long_is_no_lost_wake_up(database: Database, database_url: str) -> None:
    async with lane_worker(database_url, "wrk_a") as worker:
        await until(database, "select count(*) from procrastinate_workers", 1)
        async with database.transaction() as tx:
            await tx.connection.execute(
                "insert into procrastinate_jobs (queue_name, task_name, queueing_lock, status, worker_id) "
                "select 'upkeep', 'upkeep', 'upkeep', 'doing', id from procrastinate_workers"
            )
        await worker.renew()
        assert [await worker.lost.run_once() for _ in range(2)] == [[], []]


async def test_a_doing_wake_up_of_a_vanished_procrastinate_worker_is_buried(
    database: Database, database_url: str
) -> None:
    await add_lanes(database, "a")
    await add_jobs(database, "a")
    async with database.transaction() as tx:
        await tx.connection.execute("update procrastinate_jobs set status = 'doing', worker_id = null")
    connection = await psycopg.AsyncConnection.connect(database_url, autocommit=True)
    async with connection:
        assert await Rescue(connection).run_once() == ["a"]
    assert await value(database, "select string_agg(status::text, '') from procrastinate_jobs") == "todo"


async def test_a_wake_up_that_is_ending_is_left_alone_and_the_rest_is_rescued(
    database: Database, database_url: str
) -> None:
    await add_lanes(database, "a", "b")
    for lane in "ab":
        await add_jobs(database, lane)
    async with database.transaction() as tx:
        await tx.connection.execute("update procrastinate_jobs set status = 'doing', worker_id = null")
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        async with database.transaction() as tx:
            await tx.connection.execute(
                "select procrastinate_finish_job_v1(id, 'succeeded', true) from procrastinate_jobs where lock = 'a'"
            )
            rescued = asyncio.create_task(Rescue(connection).run_once())
            await asyncio.wait([rescued], timeout=1)
        assert await rescued == ["b"]


async def test_a_drain_that_outlives_procrastinates_heartbeat_is_not_buried(
    database: Database, database_url: str
) -> None:
    """procrastinate stops its heartbeat before a graceful stop has ended; our own row goes on."""
    await add_lanes(database, "a")
    await add_jobs(database, "a")
    await add_worker(database, "wrk_a")
    async with database.transaction() as tx:
        await tx.connection.execute("update procrastinate_jobs set status = 'doing', worker_id = null")
        await tx.connection.execute(
            "update lanes set drained_by = 'wrk_a', wakeup_id = (select id from procrastinate_jobs)"
        )
    connection = await psycopg.AsyncConnection.connect(database_url, autocommit=True)
    async with connection:
        assert await Rescue(connection).run_once() == []


@asynccontextmanager
async def program(url: str, name: str, work_seconds: float) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(ROOT / "tests/fixtures_lanes.py"), url, name, str(work_seconds), stdout=PIPE, cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
    )  # fmt: skip
    assert process.stdout
    assert await process.stdout.readline() == b"ready\n"
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        await process.communicate()


@pytest.mark.long
async def test_a_killed_worker_is_rescued(database: Database, database_url: str) -> None:
    await add_lanes(database, "a")
    async with program(database_url, "wrk_killed", 60) as process:
        await add_jobs(database, "a", 3)
        await until(database, "select count(*) from jobs where state = 'sending'", 1)
        process.kill()
        await process.wait()
        async with lane_worker(database_url, "wrk_a", dead=2.0) as worker:
            await pulse_until(worker.pulse, database, 3)
            assert len({job for _, job in worker.recorder.done}) == 3
            assert await value(database, "select count(*) from workers where id = 'wrk_killed'") == 0


async def test_a_frozen_worker_is_rescued_and_finds_itself_fenced_off(database: Database, database_url: str) -> None:
    await add_lanes(database, "a")
    async with program(database_url, "wrk_frozen", 0.5) as process:
        await add_jobs(database, "a", 3)
        await until(database, "select count(*) from jobs where state = 'sending'", 1)
        process.send_signal(signal.SIGSTOP)
        async with lane_worker(database_url, "wrk_a", dead=2.0) as worker:
            await pulse_until(worker.pulse, database, 3)
            ends = "select string_agg(id || sent_at || claimed_by, ',' order by id) from jobs where phone like '1555%'"
            before = await value(database, ends)
            process.send_signal(signal.SIGCONT)
            await until(database, "select count(*) from workers where id = 'wrk_frozen'", 0)
            await add_jobs(database, "a", 1, phone="1777")
            await pulse_until(worker.pulse, database, 4)
            assert await value(database, ends) == before
            sent_twice = "select count(*) from jobs where sequence <> 1"
            assert await value(database, sent_twice) == 0


async def test_a_terminated_backend_does_not_stop_a_worker(database: Database, database_url: str) -> None:
    """A restart of Postgres, as a worker sees it: each of its connections ends, its listener's too."""
    await add_lanes(database, "a")
    async with lane_worker(database_url, "wrk_a") as worker:
        await add_jobs(database, "a")
        await until(database, SENT, 1)
        async with database.transaction() as tx:
            await tx.connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where datname = current_database() and application_name like 'postrider %'"  # not this test's own
            )
        await add_jobs(database, "a", 5, phone="1666")
        async with asyncio.timeout(30):
            # The write of a wake-up's end may have been lost with its connection.
            while len(worker.recorder.done) < 6:
                with suppress(DatabaseUnavailable):
                    await worker.renew()
                    await worker.lost.run_once()
                    await worker.pulse.run_once()
                await asyncio.sleep(0.2)
        assert len({job for _, job in worker.recorder.done}) == 6
