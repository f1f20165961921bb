"""Most updates of jobs and deliveries touch no index (heap-only tuples, HOT), since no index has their state."""

import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, LiteralString

import psycopg
import pytest
from fixtures_deliveries import add_endpoint, begin, drain_once, make_due, receiving, send_one, take, working
from fixtures_history import run
from fixtures_lanes import AS, add_jobs, add_lanes, add_worker, value
from fixtures_postgres import WRONG_STATES
from starlette.responses import Response

from errors import DatabaseUnavailable
from sql import concurrent_indexes, schema
from sql.database import Database, Transaction
from tasks.lanes import Drain, Lanes
from tasks.sending.claimed_job import Job

SUBMIT = {
    "lane": "a",
    "worker": "wrk_a",
    "anchor": None,
    "generation": 1,
    "pressed_on": "here",
    "margin": 10,
    "look": 5,
}
#: updates of a table in this transaction, and how many of these were HOT
UPDATES = "select pg_stat_get_xact_tuples_updated(%s::regclass), pg_stat_get_xact_tuples_hot_updated(%s::regclass)"


class Counting:
    """Runs named queries in one transaction, and tells what each wrote."""

    def __init__(self, tx: Transaction, table: str) -> None:
        self.tx, self.table = tx, table
        self.before = (0, 0)

    async def __call__(self, name: str, /, **values: object) -> tuple[int, int]:
        """Return how many rows a query updated, and how many of these updates touched no index."""
        await self.tx.all(name, **values)
        counts = await (await self.tx.connection.execute(UPDATES, [self.table] * 2)).fetchone()
        assert counts
        before, self.before = self.before, counts
        return counts[0] - before[0], counts[1] - before[1]


@asynccontextmanager
async def counting(database: Database, table: str) -> AsyncIterator[Counting]:
    async with database.transaction() as tx:
        yield Counting(tx, table)


# --- updates -----------------------------------------------------------------------------------------------------


async def test_a_job_that_is_submitted_delivered_and_read_is_written_to_no_index(database: Database) -> None:
    await add_lanes(database, "a")
    await add_worker(database)
    assert await database.one("lease_account", account="a", worker="wrk_a", lease=30)
    (job,) = await add_jobs(database, "a")
    drain = await begin(database, "a")
    ours: dict[str, Any] = {"lane": "a", "epoch": drain.epoch}
    async with counting(database, "jobs") as count:
        assert await count("take_job", worker="wrk_a", **ours) == (1, 0), "it leaves the index of what waits"
        claim = await (await count.tx.connection.execute("select claim from jobs")).fetchone()
        assert claim
        held = {"job": job, "claim": claim[0]}
        assert await count("submit_job", **SUBMIT, epoch=drain.epoch, **held) == (1, 1)
        assert await count("note_reason", reason="at_the_clock", **held) == (1, 1)
        assert await count("put_off_settling", look=5, **held) == (1, 1)
        assert await count("settle_soon", reason=None, **held) == (1, 1)
        assert await count("settle_later", seconds=9, **ours) == (1, 1)
        assert await count("job_sent", bubble="b", detail=None, **held) == (1, 0), (
            "it enters the index of what has ended"
        )
        assert await count("job_delivered", job=job) == (1, 1)
        assert await count("job_read", job=job) == (1, 1)


async def test_a_delivery_that_is_taken_is_written_to_no_index_and_neither_is_its_attempt(database: Database) -> None:
    await add_endpoint(database, "http://receiver.test/")
    await send_one(database)
    drain = await begin(database, "whe_1")
    taking = {"lane": "whe_1", "epoch": drain.epoch, "worker": "w", "most": 9, "begins": False}
    async with counting(database, "deliveries") as count:
        assert await count("take_deliveries", **taking) == (1, 1)
        cursor = await count.tx.connection.execute(
            "select json_build_object('delivery', deliveries.id, 'claim', claim, 'attempt', attempts.id, 'status', 204,"
            " 'attempt_at', attempts.created_at, 'state', 'delivered', 'seconds', 0, 'counts', true)"
            " from deliveries join attempts on delivery_id = deliveries.id"
        )
        results = json.dumps([result for (result,) in await cursor.fetchall()])
        assert await count("end_attempts", results=results) == (1, 0)
        partition = "select tableoid::regclass::text from attempts"
        found = await (await count.tx.connection.execute(partition)).fetchone()
        assert found
        counts = await (await count.tx.connection.execute(UPDATES, [found[0]] * 2)).fetchone()
        assert counts == (1, 1)


@pytest.mark.parametrize("way", ["not_pressed", "try_again"])
async def test_a_submitted_job_that_waits_again_is_marked_for_the_time_at_which_it_is_due(
    database: Database, way: str
) -> None:
    """And not for that of its next look, which may be much later."""
    job = await _submitted(database)
    drain = await begin(database, "a")
    await database.all("settle_later", lane="a", epoch=drain.epoch, seconds=600)
    await database.all("use_marks", since=None, most=100)
    await database.all(way, job=job.id, claim=job.claim, seconds=1, code="page_hung", detail="")
    due = "select lane_due(lanes) between now() and now() + interval '2 s' from lanes"
    assert await value(database, due)
    assert await value(database, "select min(due_at) < now() + interval '2 s' from lane_marks")


# --- pace --------------------------------------------------------------------------------------------------------


async def _submitted(database: Database) -> Job:
    await add_lanes(database, "a")
    await add_worker(database)
    assert await database.one("lease_account", account="a", worker="wrk_a", lease=30)
    await add_jobs(database, "a")
    drain = await begin(database, "a")
    (job,) = await database.read(Job, "take_job", lane="a", epoch=drain.epoch, worker="wrk_a")
    assert await database.one("submit_job", **SUBMIT, epoch=drain.epoch, job=job.id, claim=job.claim)
    return job


async def _in_flight(_: Database, __: Job) -> None:
    pass


async def _sent(database: Database, job: Job) -> None:
    await database.all("job_sent", job=job.id, claim=job.claim, bubble="b", detail=None)


async def _queued_again(database: Database, job: Job) -> None:
    await database.all("try_again", job=job.id, claim=job.claim, seconds=60, code="page_hung", detail="")


async def _asked_for_again(database: Database, job: Job) -> None:
    await database.all("job_failed", job=job.id, claim=job.claim, code="x", detail="", reason=None, bubble=None)
    assert await database.all("retry_job", org="org_default", job=job.id, ttl="1 day", force=True)


async def _cancelled(database: Database, job: Job) -> None:
    await _queued_again(database, job)
    assert await database.all("cancel_job", org="org_default", job=job.id)


async def _taken_again(database: Database, job: Job) -> None:
    await _asked_for_again(database, job)
    drain = await begin(database, "a")
    assert await database.read(Job, "take_job", lane="a", epoch=drain.epoch, worker="wrk_a")


@pytest.mark.parametrize("later", [_in_flight, _sent, _queued_again, _asked_for_again, _cancelled, _taken_again])
async def test_what_was_submitted_counts_whatever_becomes_of_it(
    database: Database, later: Callable[[Database, Job], Awaitable[None]]
) -> None:
    await later(database, await _submitted(database))
    counted = "select count(*) from submitted_since('a', now() - %s::interval)"
    assert await value(database, counted, "1 minute") == 1
    assert await value(database, "select minute_used from pace_of('a', '{}', now())") == 1
    await run(database, "update jobs set submitted_at = submitted_at - interval '2 minutes'")
    assert await value(database, counted, "1 minute") == 0
    assert await value(database, counted, "1 hour") == 1


# --- half-done deliveries ----------------------------------------------------------------------------------------


@asynccontextmanager
async def taken(database: Database, *answers: Callable[[], Response]) -> AsyncIterator[Any]:
    """A delivery that was taken by a drain that has not ended, and work that goes on."""
    async with receiving(*answers) as (url, scripted), working(database) as work:
        await add_endpoint(database, url)
        await send_one(database)
        drain = await begin(database, "whe_1")
        assert await take(database, drain, 9)
        yield work, drain, scripted


async def test_a_drain_looks_for_half_done_deliveries_only_after_one_that_did_not_end_in_order(
    database: Database,
) -> None:
    state = "select state from deliveries"
    async with taken(database) as (work, drain, scripted):
        await end(database, drain, settled=True)
        await work.begin(await begin(database, "whe_1"))
        assert await value(database, state) == "sending", "nobody says that it does, but it ended in order"
        await run(database, "update lanes set settled_epoch = null")
        assert await value(database, "select lane_due(lanes) <= now() from lanes where id = 'whe_1'")
        await drain_once(database, work)
        assert await value(database, state) == "delivered"
        assert len(scripted.got) == 1


async def test_what_is_half_done_for_an_endpoint_that_is_disabled_fails_once_no_drain_runs(database: Database) -> None:
    failing = "select count(*) from deliveries where state = 'failed' and last_error like 'The endpoint is disabled.%%'"
    async with taken(database):
        await run(database, "update endpoints set status = 'disabled'")
        wakeup = (
            "insert into procrastinate_jobs (queue_name, task_name, lock, status) values ('q', 'drain', 'whe_1', %s)"
        )
        await run(database, wakeup, "doing")
        await database.all("fail_waiting", endpoints=["whe_1"], most=9)
        assert await value(database, failing) == 0, "its request may yet be answered"
        await run(database, "update procrastinate_jobs set status = 'failed'")
        await database.all("fail_waiting", endpoints=["whe_1"], most=9)
        assert await value(database, failing) == 1


MANY = 3000
EVENTS = "select record_event('org_default', 'JobCompleted', '{}', null, null, 1) from generate_series(1, %s)"
READ = "select seq_scan, seq_tup_read + idx_tup_fetch from pg_stat_xact_user_tables where relname = 'deliveries'"


async def add_many(database: Database) -> None:
    """Add an endpoint and many events for it, which fall due at once."""
    await add_endpoint(database, "http://receiver.test/")
    await run(database, EVENTS, MANY)


async def rows_read(tx: Transaction, name: str, returned: int, **values: object) -> int:
    """Return how many deliveries a query reads, none of them by going through the table."""
    before = await (await tx.connection.execute(READ)).fetchone()
    assert len(await tx.all(name, **values)) == returned
    after = await (await tx.connection.execute(READ)).fetchone()
    assert before
    assert after
    assert after[0] == before[0]
    return int(after[1] - before[1])


@pytest.mark.parametrize("begins", [True, False])
@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
async def test_taking_reads_no_more_than_it_takes_however_many_wait(
    database: Database, mode: str, *, begins: bool
) -> None:
    await add_many(database)
    await run(database, "analyze deliveries, outbox")
    (drain,) = await database.read(Drain, "begin_drain", lane="whe_1", worker="w", wakeup=1)
    async with database.transaction() as tx:
        await tx.connection.execute(f"set local plan_cache_mode = {mode}")
        values = {"lane": "whe_1", "epoch": drain.epoch, "worker": "w", "begins": begins, "most": 2}
        assert await rows_read(tx, "take_deliveries", 2, **values) < 10


@pytest.mark.parametrize("status", [None, "pending", "delivered", "failed"])
async def test_a_list_of_deliveries_reads_about_a_page_however_many_there_are(
    database: Database, status: str | None
) -> None:
    await add_many(database)
    for state, error in (("delivered", None), ("failed", "x")):
        ended = "update deliveries set state = %s, last_error = %s, ended_at = now() where ended_at is null"
        await run(database, ended, state, error)
        await run(database, EVENTS, MANY)
    await run(database, "analyze deliveries, outbox")
    values = {
        "endpoint": "whe_1",
        "type": None,
        "since": "-infinity",
        "after_at": "infinity",
        "after_id": "",
        "limit": 50,
    }
    async with database.transaction() as tx:
        assert await rows_read(tx, "list_deliveries", 50, status=status, **values) < 400


@pytest.mark.parametrize("way", ["cut", "fenced"])
async def test_what_a_drain_left_half_done_is_sent_again(database: Database, way: str) -> None:
    async with taken(database) as (work, drain, scripted):
        if way == "cut":
            await end(database, drain, settled=False)
        else:
            await database.all("reset_health", endpoint="whe_1")
            await end(database, drain, settled=True)
        lanes = Lanes(database, "w", {"endpoint": work})
        await lanes.drain("whe_1", 1)
        assert await value(database, "select state from deliveries") == "delivered"
        assert len(scripted.got) == 1
        assert await value(database, "select settled_epoch = epoch from lanes where id = 'whe_1'")


async def test_what_was_taken_as_the_worker_was_told_to_stop_is_sent(database: Database) -> None:
    """Otherwise it would be half done after a drain that ended in order, and nobody would look for it."""
    async with receiving() as (url, scripted), working(database) as work:
        await add_endpoint(database, url)
        await send_one(database)
        lanes = Lanes(database, "w", {"endpoint": work})

        class Stopped:
            async def begin(self, drain: Drain) -> bool:
                begun = await work.begin(drain)
                lanes.stopping.set()
                return begun

            one = staticmethod(work.one)

        lanes.works = {"endpoint": Stopped()}
        await lanes.drain("whe_1", 1)
        assert await value(database, "select state from deliveries") == "delivered"
        assert len(scripted.got) == 1


async def test_a_drain_that_is_cut_by_the_database_did_not_end_in_order(database: Database) -> None:
    class Work:
        async def begin(self, _: Drain) -> bool:
            raise DatabaseUnavailable

        async def one(self, _: Drain) -> bool:
            return False

    await add_lanes(database, "a")
    await Lanes(database, "w", {"account": Work()}).drain("a", 1)
    assert await value(database, "select settled_epoch from lanes") == 0
    assert await value(database, "select epoch from lanes") == 1


async def end(database: Database, drain: Drain, *, settled: bool) -> None:
    await database.all(
        "end_drain", lane=drain.lane, epoch=drain.epoch, began=drain.began, attended=True, settled=settled
    )


async def test_a_retry_that_is_due_later_makes_no_lane_look_half_done(database: Database) -> None:
    async with receiving(lambda: Response(status_code=500)) as (url, _), working(database) as work:
        await add_endpoint(database, url)
        await send_one(database)
        await drain_once(database, work)
        due = "select lane_due(lanes) > now() from lanes where id = 'whe_1'"
        assert await value(database, "select settled_epoch = 0 and epoch = 1 from lanes where id = 'whe_1'")
        assert await value(database, due)
        await make_due(database)
        assert not await value(database, due)


# --- indexes of older versions -----------------------------------------------------------------------------------

OLD = "jobs_due_idx"
MADE = "select to_regclass('jobs_due_idx') is not null"
ADD_OLD: LiteralString = "create index jobs_due_idx on jobs (account_id, priority, due_at, seq) where state = 'queued'"
ADD_TIME: LiteralString = "create index attempts_created_at_idx on attempts (created_at)"


def test_a_new_database_has_none_of_them(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        for name in concurrent_indexes.unwanted():
            assert connection.execute("select to_regclass(%s)", [name]).fetchone() == (None,), name


def test_they_are_dropped_once_no_process_of_an_older_version_runs(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sql.concurrent_indexes")
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(ADD_OLD)
        connection.execute(ADD_TIME)
        connection.execute(
            "insert into workers (id, host, version, home, seats)"
            " values ('old', 'h', '0.5.0', 'x', 1), ('new', 'h', '0.6.0', 'y', 1)"
        )
        schema.migrate(database_url)
        assert connection.execute(MADE).fetchone() == (True,)
        connection.execute("delete from workers where id = 'old'")
        connection.execute(
            "insert into api_processes (id, host, version, fingerprints) values ('api', 'h', '0.5.1', '{}')"
        )
        schema.migrate(database_url)
        assert connection.execute(MADE).fetchone() == (True,)
        connection.execute("delete from api_processes")
        with psycopg.connect(database_url, application_name="postrider api"):
            schema.migrate(database_url)
            assert connection.execute(MADE).fetchone() == (True,), "an API process of the older version"
        told = [(vars(record)["event"], vars(record)["versions"]) for record in caplog.records]
        assert told == [("index.kept", [version]) for version in ("0.5.0", "0.5.1", "0.4")]
        schema.migrate(database_url)
        for name in (OLD, "attempts_created_at_idx"):
            assert connection.execute("select to_regclass(%s)", [name]).fetchone() == (None,)


# --- states ------------------------------------------------------------------------------------------------------

WAITS, IN_FLIGHT, ENDED = (
    "claim = null, ended_at = null", "claim = gen_random_uuid(), ended_at = null", "claim = null, ended_at = now()"
)  # fmt: skip


@pytest.mark.parametrize(
    ("state", "right"),
    [("queued", WAITS), ("sending", IN_FLIGHT), ("submitting", IN_FLIGHT), *((state, ENDED) for state in list(AS)[3:])],
)
async def test_the_check_at_the_end_of_each_test_finds_a_state_that_contradicts_a_claim_or_an_end(
    database: Database, state: str, right: str
) -> None:
    await add_lanes(database, "a")
    await add_jobs(database, "a", wake=False)
    wrong = "select count(*) from (" + WRONG_STATES + ") as wrong"
    for columns in (WAITS, IN_FLIGHT, ENDED):
        sent = "now()" if state in {"sent", "delivered", "read"} else "null"
        await run(database, f"update jobs set state = '{state}', sent_at = {sent}, {columns}")
        assert await value(database, wrong) == (0 if columns == right else 1), columns
    await run(database, f"update jobs set {AS[state]}")
