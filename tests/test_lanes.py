import asyncio
import time
from pathlib import Path

import psycopg
import pytest
from fixtures_lanes import SENT, add_jobs, add_lanes, add_worker, lane_worker, pulse_while, until, value

from errors import DatabaseUnavailable
from sql.database import Database, Transaction
from sql.loader import queries
from tasks.lanes import Drain, Lanes, Unattended
from tasks.pulse import Pulse
from tasks.queue import make_app
from tasks.sending.claimed_job import Job

ROOT = Path(__file__).parent.parent


async def begin(database: Database, lane: str, worker: str = "wrk_a") -> Drain:
    return (await database.read(Drain, "begin_drain", lane=lane, worker=worker, wakeup=1))[0]


async def take(database: Database, drain: Drain, worker: str = "wrk_a") -> Job | None:
    jobs = await database.read(Job, "take_job", lane=drain.lane, epoch=drain.epoch, worker=worker)
    return jobs[0] if jobs else None


# --- taking ------------------------------------------------------------------------------------------------------


async def test_a_scheduled_row_does_not_block_the_next(database: Database, database_url: str) -> None:
    await add_lanes(database, "a")
    await add_jobs(database, "a", seconds=3600)
    now = await add_jobs(database, "a", phone="1556")
    async with lane_worker(database_url, "wrk_a") as worker:
        await until(database, SENT, 1)
        assert worker.recorder.done == [("a", now[0])]


async def test_order_is_priority_then_due_time_then_acceptance(database: Database) -> None:
    await add_lanes(database, "a")
    second = await add_jobs(database, "a", 2, phone="1551")
    first = await add_jobs(database, "a", seconds=-60, phone="1552")
    urgent = await add_jobs(database, "a", phone="1553", priority=1)
    drain = await begin(database, "a")
    taken = [job.id for _ in range(4) if (job := await take(database, drain))]
    assert taken == [*urgent, *first, *second]


@pytest.mark.parametrize(("phone", "form"), [("1551", "1551"), ("55118765432", "551198765432")])
async def test_a_job_that_is_tried_again_is_not_overtaken_by_one_to_the_same_recipient(
    database: Database, phone: str, form: str
) -> None:
    await add_lanes(database, "a")
    (tried,) = await add_jobs(database, "a", phone=phone)
    drain = await begin(database, "a")
    job = await take(database, drain)
    assert job
    assert job.id == tried
    await add_jobs(database, "a", phone=form)
    assert await take(database, drain) is None, "while it is under way"
    await database.all("try_again", job=job.id, claim=job.claim, seconds=60, code="page_hung", detail="")
    assert await take(database, drain) is None, "while it waits for its next attempt"
    (other,) = await add_jobs(database, "a", phone="1552")
    overtaking = await take(database, drain)
    assert overtaking
    assert overtaking.id == other


async def test_an_older_drain_takes_and_submits_nothing(database: Database) -> None:
    await add_lanes(database, "a")
    await add_jobs(database, "a", 2)
    old = await begin(database, "a")
    job = await take(database, old)
    assert job
    await add_worker(database)
    assert await database.one("lease_account", account="a", worker="wrk_a", lease=30)
    new = await begin(database, "a", "wrk_b")
    submit = {"lane": "a", "worker": "wrk_a", "job": job.id, "claim": job.claim, "anchor": None, "generation": 1}
    submit["pressed_on"] = "here"
    assert await database.one("submit_job", epoch=old.epoch, margin=10, look=5, **submit) is None
    assert await take(database, old) is None
    assert await take(database, new, "wrk_b") is not None


@pytest.mark.parametrize(
    "change", ["update lanes set open_at = 'infinity'", "update accounts set lease_until = now() + interval '9 s'"]
)
async def test_submitting_needs_an_open_gate_and_ten_seconds_of_lease(database: Database, change: str) -> None:
    await add_lanes(database, "a")
    await add_jobs(database, "a")
    drain = await begin(database, "a")
    job = await take(database, drain)
    assert job
    await add_worker(database)
    assert await database.one("lease_account", account="a", worker="wrk_a", lease=30)
    submit = {"lane": "a", "epoch": drain.epoch, "worker": "wrk_a", "job": job.id, "claim": job.claim, "anchor": "x"}
    submit["pressed_on"] = "here"
    async with database.transaction() as tx:
        await tx.connection.execute(change)
    assert await database.one("submit_job", generation=1, margin=10, look=5, **submit) is None
    async with database.transaction() as tx:
        await tx.connection.execute("update lanes set open_at = '-infinity'")
        await tx.connection.execute("update accounts set lease_until = now() + interval '11 s'")
    assert await database.one("submit_job", generation=1, margin=10, look=5, **submit)


async def test_closing_a_gate_never_opens_it_earlier(database: Database) -> None:
    await add_lanes(database, "a")
    await database.all("close_gate", lane="a", seconds=None, reason="paused")
    await database.all("close_gate", lane="a", seconds=5, reason="offline")
    assert await value(database, "select open_at = 'infinity' and gate_reason = 'paused' from lanes")
    await database.all("open_gate", lane="a")
    assert await value(database, "select open_at <= now() from lanes")


@pytest.mark.parametrize("asked", ["no", "before", "later", "resumed"])
async def test_a_look_that_fails_closes_no_gate_that_was_opened_since_it_began(database: Database, asked: str) -> None:
    await add_lanes(database, "a")
    await add_worker(database)
    assert await database.one("lease_account", account="a", worker="wrk_a", lease=30)
    if asked == "before":
        await database.all("attend", lane="a", seconds=0.2)
    drain = await begin(database, "a")
    if asked == "before":
        await until(database, "select attend_at <= now() from lanes", wanted=True)
    if asked == "resumed":
        await database.all("resume_account", account="a", org="org_default")
        await database.all("open_gate", lane="a")
    if asked in {"later", "resumed"}:
        await database.all("attend", lane="a", seconds=0 if asked == "resumed" else 60)
    held = {"account": "a", "worker": "wrk_a", "began": drain.began, "attend_at": drain.attend_at}
    stopped = await database.one("stop_until_known", selectors="1", pauses=[600.0], **held)
    await database.all("close_held_gate", seconds=None, reason="ui_changed", attend=600, look=60, **held)
    assert (stopped is None) is (asked == "resumed")
    assert await value(database, "select probes from accounts") == (0 if asked == "resumed" else 1)
    closed = None if asked == "resumed" else "ui_changed"
    assert await value(database, "select gate_reason from lanes") == closed
    assert await value(database, "select attend_at <= now() from lanes") is (asked == "resumed")


async def test_held_rows_wait_untouched_and_in_order(database: Database, database_url: str) -> None:
    await add_lanes(database, "a")
    await database.all("close_gate", lane="a", seconds=None, reason="paused")
    ids = await add_jobs(database, "a", 20)
    pulse = Pulse(database_url, 900)
    async with lane_worker(database_url, "wrk_a") as worker:
        await until(database, "select count(*) from procrastinate_jobs where task_name = 'drain'", 0)
        assert worker.recorder.done == []
        await database.all("open_gate", lane="a")
        await pulse.run_once()
        await until(database, SENT, 20)
        assert [job for _, job in worker.recorder.done] == ids
    await pulse.close()


# --- speed, as ratios to what would be wrong by orders of magnitude ------------------------------------------------


async def test_a_lane_does_not_crawl_with_many_slots(database: Database, database_url: str) -> None:
    """One procrastinate job per message takes 45 s for ten here, since a released lock wakes nobody."""
    await add_lanes(database, "a")
    async with lane_worker(database_url, "wrk_a", slots=10, work_seconds=0.05) as worker:
        for _ in range(10):
            await add_jobs(database, "a", phone=str(time.monotonic_ns()))
        await until(database, SENT, 10)
        assert worker.recorder.most_at_once == 1


async def test_the_backlog_of_closed_and_busy_lanes_stands_in_no_queue(database: Database) -> None:
    """The queue's size is the number of busy lanes, not of messages, so the fetch has nothing to read past."""
    lanes = [f"lane{n}" for n in range(50)]
    await add_lanes(database, *lanes)
    for lane in lanes:
        await add_jobs(database, lane, 200)
        await add_jobs(database, lane, 10)
    assert await value(database, "select count(*) from jobs") == 50 * 210
    assert await value(database, "select count(*) from procrastinate_jobs") == 50
    async with database.transaction() as tx:
        await tx.connection.execute("analyze jobs, lanes, procrastinate_jobs")
        cursor = await tx.connection.execute(
            "explain (analyze, format json) select * from procrastinate_fetch_job_v2(array['account'], null)"
        )
        assert await cursor.fetchone()
    drain = await begin(database, "lane7")
    plan = await _plan(database, drain)
    assert "jobs_waiting_idx" in plan
    assert "Seq Scan on jobs" not in plan


async def _quiet(url: str) -> None:
    """Let Postgres know that there is no wake-up."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("vacuum analyze procrastinate_jobs")


async def test_a_burst_after_a_quiet_time_is_not_read_whole_for_each_wake_up(
    database: Database, database_url: str
) -> None:
    """The plan of a fetch is made, and kept, while the queue is empty."""

    async def nothing(*_: object) -> None:
        """Drain nothing."""

    lanes = [f"lane{number:03}" for number in range(200)]
    await add_lanes(database, *lanes)
    app = make_app(database_url, nothing, nothing, size=1)
    async with app.open_async():
        connector, worker = app.connector, await app.job_manager.register_worker()
        await _quiet(database_url)
        for _ in range(12):
            assert await app.job_manager.fetch_job(["account"], worker) is None
        await database.all("wake", lanes=lanes)
        await connector.execute_query_async(FLUSH)
        before = await value(database, QUEUE_SCANS)
        fetched = [await app.job_manager.fetch_job(["account"], worker) for _ in range(3)]
        assert [job and job.lock for job in fetched] == lanes[:3]
        await connector.execute_query_async(FLUSH)
        assert await value(database, QUEUE_SCANS) == before


async def test_a_burst_after_a_quiet_time_does_not_stop_the_pulse(database: Database, database_url: str) -> None:
    lanes, pulse = [f"lane{number:03}" for number in range(200)], Pulse(database_url, 900)
    await add_lanes(database, *lanes)
    await _quiet(database_url)
    for _ in range(12):
        await pulse.run_once()
    assert pulse._connection
    async with Database(database_url, size=1) as sender:
        for lane in lanes:
            await add_jobs(sender, lane)
        # Else its own scans would be counted below, when it tells of them a second later.
        async with sender.transaction() as tx:
            await tx.connection.execute(FLUSH)
    await pulse._connection.execute(FLUSH)
    before = await value(database, QUEUE_SCANS)
    await pulse.run_once()
    await pulse._connection.execute(FLUSH)
    assert await value(database, QUEUE_SCANS) == before
    assert await value(database, "select count(*) from lane_marks where due_at > now()") == len(lanes)
    await pulse.close()


FLUSH = "select pg_stat_force_next_flush()"
QUEUE_SCANS = "select seq_scan from pg_stat_user_tables where relname = 'procrastinate_jobs'"


async def _plan(database: Database, drain: Drain) -> str:
    async with database.transaction() as tx:
        await tx.connection.execute("set local enable_seqscan = on")
        cursor = await tx.connection.execute(
            b"explain " + queries()["take_job"], {"lane": drain.lane, "epoch": drain.epoch, "worker": "wrk_a"}
        )
        return "\n".join(row[0] for row in await cursor.fetchall())


# --- waking ------------------------------------------------------------------------------------------------------


async def test_two_senders_that_wake_the_same_lanes_in_opposite_orders_do_not_deadlock(database: Database) -> None:
    lanes = [f"lane{n:02}" for n in range(30)]
    await add_lanes(database, *lanes)

    async def sender(order: list[str]) -> None:
        for _ in range(20):
            async with database.transaction() as tx:
                await tx.all("wake", lanes=order)
            async with database.transaction() as tx:
                await tx.connection.execute("delete from procrastinate_jobs where queueing_lock = %s", [order[0]])

    await asyncio.gather(sender(lanes), sender(lanes[::-1]), sender(lanes[::2]))
    assert await value(database, "select deadlocks from pg_stat_database where datname = current_database()") == 0


async def test_at_most_one_wake_up_waits(database: Database) -> None:
    await add_lanes(database, "a")
    await asyncio.gather(*(add_jobs(database, "a", phone=str(n)) for n in range(8)))
    assert await value(database, "select count(*) from procrastinate_jobs") == 1


async def test_the_pulse_wakes_what_has_come_due_and_leads_alone(database: Database, database_url: str) -> None:
    await add_lanes(database, "due", "later", "closed", "attended")
    await add_jobs(database, "due", wake=False)
    await add_jobs(database, "later", seconds=60, wake=False)
    await add_jobs(database, "closed", wake=False)
    await database.all("close_gate", lane="closed", seconds=None, reason="paused")
    await database.all("close_gate", lane="attended", seconds=None, reason="not_linked")
    await database.all("attend", lane="attended", seconds=0)
    first, second = Pulse(database_url, 900), Pulse(database_url, 900)
    assert await first.run_once()
    assert not await second.run_once()
    woken = "select string_agg(lock, ',' order by lock) from procrastinate_jobs"
    assert await value(database, woken) == "attended,due"
    await first.close()
    await until(database, "select count(*) from pg_locks where locktype = 'advisory'", 0)
    assert await second.run_once(), "the lock is free when its holder has gone"
    await second.close()


async def test_a_drain_that_has_used_up_its_slice_goes_to_the_back_of_the_line(
    database: Database, database_url: str
) -> None:
    await add_lanes(database, "a", "b")
    async with lane_worker(database_url, "wrk_a", slots=1, work_seconds=0.02, turn=0.05) as worker:
        await add_jobs(database, "a", 12)
        await worker.recorder.begun.wait()
        await add_jobs(database, "b", 1)
        await until(database, SENT, 13)
        assert [lane for lane, _ in worker.recorder.done].index("b") < 12


async def test_a_wish_made_within_the_drain_that_attends_to_another_is_kept(database: Database) -> None:
    await add_lanes(database, "a")
    await database.all("attend", lane="a", seconds=0)
    drain = await begin(database, "a")
    await database.all("attend", lane="a", seconds=30)
    await database.all("end_drain", lane="a", epoch=drain.epoch, began=drain.began, attended=True, settled=True)
    assert await value(database, "select attend_at between now() + '29 s' and now() + '31 s' from lanes")


@pytest.mark.parametrize(("failing", "kept"), [(Unattended, True), (DatabaseUnavailable, True), (None, False)])
async def test_a_wish_stands_until_it_was_attended_to(
    database: Database, failing: type[Exception] | None, *, kept: bool
) -> None:
    class Work:
        async def begin(self, _: Drain) -> bool:
            if failing:
                raise failing
            return False

        async def one(self, _: Drain) -> bool:
            return False

    await add_lanes(database, "a")
    await database.all("attend", lane="a", seconds=0)
    lanes = Lanes(database, "wrk_a", {"account": Work()})
    await lanes.drain("a", 1)
    assert (await value(database, "select attend_at from lanes") is not None) == kept
    lanes.stopping.set()
    await database.all("attend", lane="a", seconds=0)
    await lanes.drain("a", 2)
    assert await value(database, "select attend_at from lanes") is not None, "a worker that stops attends to nothing"


async def test_what_is_returned_keeps_its_place_in_the_line(database: Database) -> None:
    await add_lanes(database, "a")
    first, second = await add_jobs(database, "a", 2)
    drain = await begin(database, "a")
    job = await take(database, drain)
    assert job
    assert job.id == first
    await database.all("return_job", job=job.id, claim=job.claim, code="offline", detail="")
    again, after = await take(database, drain), await take(database, drain)
    assert again
    assert after
    assert (again.id, again.attempts, after.id) == (first, 1, second)


@pytest.mark.parametrize(
    ("change", "opens"),
    [
        ("update accounts set paused = true", False),
        ("update accounts set wanted = 'disconnected'", False),
        ("update lanes set gate_reason = 'not_connected'", False),
        ("update lanes set gate_reason = 'banned'", False),
        ("select 1", True),
    ],
)
async def test_linking_opens_only_what_waited_for_it(database: Database, change: str, *, opens: bool) -> None:
    await add_lanes(database, "a")
    await add_worker(database)
    assert await database.one("lease_account", account="a", worker="wrk_a", lease=30)
    await database.all("close_gate", lane="a", seconds=None, reason="not_linked")
    async with database.transaction() as tx:
        await tx.connection.execute(change)
    await database.all("open_linked_gate", account="a", worker="wrk_a")
    assert await value(database, "select open_at <= now() from lanes") == opens


async def test_a_leader_that_says_nothing_loses_the_lead(database: Database, database_url: str) -> None:
    leader = Pulse(database_url, 900)
    assert await leader.run_once()
    async with database.transaction() as tx:
        cursor = await tx.connection.execute(
            "select count(*) from pg_stat_activity where application_name = 'postrider pulse'"
        )
        assert await cursor.fetchone() == (1,)
    assert leader._connection
    cursor = await leader._connection.execute("show idle_session_timeout")
    assert await cursor.fetchone() == ("10s",)
    await leader.close()


async def test_after_a_sleep_of_everybody_nobody_is_called_dead(database: Database, database_url: str) -> None:
    await add_worker(database, "wrk_a")
    async with database.transaction() as tx:
        await tx.connection.execute("update workers set renewed_at = now() - interval '1 hour'")
    pulse = Pulse(database_url, 900, dead=0.2)
    await pulse.run_once()
    assert await value(database, "select count(*) from workers") == 1, "the first look judges nobody"
    await pulse_while(pulse, database, "select count(*) from workers", 1)
    await pulse.close()


SCANS = "select sum(seq_scan) from pg_stat_xact_user_tables where relname in ('jobs', 'deliveries')"


async def value_in(tx: Transaction, query: str) -> object:
    (row,) = await (await tx.connection.execute(query)).fetchall()
    return row[0]


async def test_a_few_lanes_with_all_that_waits_do_not_stop_the_pulse(database: Database) -> None:
    """The planner must not read whole tables for each lane that has nothing to do."""
    async with database.transaction() as tx:
        await tx.connection.execute(
            """
            insert into lanes (id, org_id, kind, queue)
            select kind || n, 'org_default', kind, kind
            from generate_series(1, 200) as n, unnest('{account,endpoint}'::text[]) as kind;
            insert into accounts (id, org_id, name, transport)
            select id, org_id, 'x', 'sandbox' from lanes where kind = 'account';
            insert into endpoints (id, org_id, url, events, secret)
            select id, org_id, 'x', '{}', '' from lanes where kind = 'endpoint';
            insert into jobs (id, org_id, account_id, content_hash, phone, message, due_at, send_at, expires_at)
            select 'job_' || n, 'org_default', 'account' || 1 + n % 2, '', n, 'x', now(), now(), 'infinity'
            from generate_series(1, 5000) as n;
            insert into outbox (id, org_id, type, body)
            select 'evt_' || n, 'org_default', 'x', '' from generate_series(1, 5000) as n;
            insert into deliveries (id, org_id, event_id, event_at, type, endpoint_id)
            select 'dlv_' || n, 'org_default', 'evt_' || n, now(), 'x', 'endpoint' || 1 + n % 2
            from generate_series(1, 5000) as n;
            analyze;
            """
        )
        await tx.connection.execute("insert into lane_marks (due_at, lane_id) select now(), id from lanes")
        before = await value_in(tx, SCANS)
        (row,) = await tx.all("use_marks", since=None, most=10_000)
        assert await value_in(tx, SCANS) == before
    assert len(row["lanes"]) == 4
    assert row["marks"] == 404
