"""What is over age goes, by partitions and by rows; what is open stays; and no write fails for want of a partition."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
from fixtures_api import rows
from fixtures_deliveries import take
from fixtures_history import PLACES, count, end, keep_up, run, waits_for_a_lock
from fixtures_lanes import SENT, add_jobs, add_lanes, add_worker, lane_worker, until, value
from psycopg.errors import UndefinedTable

from sql.database import Database, Row
from tasks.lanes import Drain
from tasks.upkeep import ALWAYS, BY_AGE, Upkeep

MONTHS = """
    select array_agg(inhrelid::regclass::text order by inhrelid::regclass::text) from pg_inherits
    where inhparent = %s::regclass
"""
COUNTS = """
    select (select count(*) from jobs) || '/' || (select count(*) from jobs_history) || '/'
        || (select count(*) from outbox) || '/' || (select count(*) from deliveries) || '/'
        || (select count(*) from attempts)
"""


def month(back: int) -> str:
    """Return the end of the name of a partition of so many months ago."""
    today = datetime.now(UTC)
    number = today.year * 12 + today.month - 1 - back
    return f"{number // 12}_{number % 12 + 1:02}"


async def add_month(database: Database, parent: str, back: int) -> None:
    """Make a monthly partition of so many months ago."""
    await run(
        database,
        f"""
        do $$ begin
            execute format('create table {parent}_{month(back)} partition of {parent} for values from (%L) to (%L)',
                date_trunc('month', now() at time zone 'utc') - interval '{back} months',
                date_trunc('month', now() at time zone 'utc') - interval '{back - 1} months');
            alter table {parent}_{month(back)} owner to postrider_owner;
        end $$
        """,  # numbers and names of the test's own
    )


async def add_endpoint(database: Database) -> None:
    await run(
        database, "insert into lanes (id, org_id, kind, queue) values ('w', 'org_default', 'endpoint', 'endpoint')"
    )
    await run(
        database,
        "insert into endpoints (id, org_id, url, events, secret) values ('w', 'org_default', 'http://x', '{*}', '')",
    )


async def deliver(database: Database, state: str) -> None:
    (drain,) = await database.read(Drain, "begin_drain", lane="w", worker="wrk_a", wakeup=1)
    (taken,) = await take(database, drain)
    result = {
        "attempt": taken["attempt_id"], "attempt_at": taken["attempt_at"].isoformat(), "delivery": taken["id"],
        "claim": str(taken["claim"]), "status": 500, "state": state, "seconds": 0.0, "counts": True,
        "error": None if state == "delivered" else "HTTP 500",
    }  # fmt: skip
    await database.all("end_attempts", results=json.dumps([result]))


async def age(database: Database, days: float) -> None:
    """Let everything that there is have happened so many days earlier."""
    for table, columns in {
        "outbox": ["created_at"],
        "attempts": ["created_at", "ended_at"],
        "deliveries": ["created_at", "event_at", "ended_at"],
        "jobs": ["created_at", "ended_at"],
        "jobs_history": ["created_at", "ended_at"],
    }.items():
        earlier = ", ".join(f"{column} = {column} - {days} * interval '1 day'" for column in columns)
        await run(database, f"update {table} set {earlier}")


async def cancel_one(database: Database) -> None:
    """Let a job be cancelled, and its event be written with a delivery."""
    await add_jobs(database, "a")
    await database.all("cancel_jobs", org="org_default", account="a", most=10)


# --- rows --------------------------------------------------------------------------------------------------------


async def test_what_is_over_age_goes_and_what_is_open_stays(database: Database) -> None:
    await add_lanes(database, "a")
    await add_endpoint(database)
    for state in ("delivered", "failed", "pending"):
        await cancel_one(database)
        await deliver(database, state)
    await run(database, "update deliveries set state = 'sending' where state = 'pending'")
    await cancel_one(database)
    await add_jobs(database, "a")
    await age(database, 88)
    await keep_up(database)
    assert await value(database, COUNTS) == "1/4/4/4/3"
    await age(database, 3)
    await keep_up(database, batch=1)
    # The events of the two that are still to be delivered stay; the attempts and the jobs that they were of do not.
    assert await value(database, COUNTS) == "1/0/2/2/0"
    assert await rows(database, "select state from deliveries order by state") == [("pending",), ("sending",)]
    (drain,) = await database.read(Drain, "begin_drain", lane="w", worker="wrk_a", wakeup=1)
    values = {"lane": "w", "epoch": drain.epoch, "worker": "wrk_a", "begins": True, "most": None}
    await database.all("take_deliveries", **values)
    for _ in range(2):
        await deliver(database, "delivered")
    await keep_up(database)
    assert await value(database, COUNTS) == "1/0/0/2/2"
    await age(database, 91)
    await keep_up(database)
    assert await value(database, COUNTS) == "1/0/0/0/0"


async def test_a_deleted_endpoint_and_account_go_with_their_last_row_and_the_opt_outs_stay(database: Database) -> None:
    await add_lanes(database, "a", "b")
    await add_endpoint(database)
    await cancel_one(database)
    await deliver(database, "delivered")
    for statement in (
        "insert into opt_outs (id, org_id, phone, account_id, reason) values ('o', 'org_default', '1555', 'a', 'STOP')",
        "insert into endpoint_secrets (org_id, endpoint_id, secret, expires_at) values ('org_default', 'w', '', now())",
        "insert into checkups (account_id, org_id) values ('a', 'org_default')",
        "update accounts set deleted_at = now() - interval '91 days' where id = 'a'",
        "update endpoints set deleted_at = now() - interval '91 days'",
    ):
        await run(database, statement)
    names = "select string_agg(id, ' ' order by id) from lanes"
    await keep_up(database)
    assert await value(database, names) == "a b w", "a job and a delivery tell of them"
    await age(database, 91)
    await keep_up(database)
    assert await value(database, COUNTS) == "0/0/0/0/0"
    await keep_up(database)
    assert await value(database, names) == "b"
    assert await rows(database, "select id, account_id, lifted_at from opt_outs") == [("o", None, None)]
    assert await count(database, "accounts") == 1
    for table in ("endpoints", "endpoint_secrets", "checkups"):
        assert await count(database, table) == 0


async def test_0_days_keep_everything_but_what_is_of_no_use(database: Database) -> None:
    await add_lanes(database, "a")
    await add_endpoint(database)
    await cancel_one(database)
    await deliver(database, "delivered")
    await age(database, 4000)
    await run(database, "insert into request_signatures values ('x', 'org_default', now() - interval '3 minutes')")
    await run(database, "insert into request_signatures values ('y', 'org_default', now() - interval '1 minute')")
    for hours in (25, 23):
        await run(
            database,
            "insert into qr_tokens (token_hash, org_id, account_id, created_at, expires_at) "
            "values (%s, 'org_default', 'a', now() - %s * interval '1 hour', now())",
            str(hours).encode(), hours,
        )  # fmt: skip
    await keep_up(database, days=0)
    assert await value(database, COUNTS) == "0/1/1/1/1"
    assert await rows(database, "select encode(signature, 'escape') from request_signatures") == [("y",)]
    assert await rows(database, "select encode(token_hash, 'escape') from qr_tokens") == [("23",)]


async def test_a_short_retention_reaches_the_task_table_and_never_an_open_delivery(database: Database) -> None:
    await add_lanes(database, "a")
    await add_endpoint(database)
    await cancel_one(database)
    await deliver(database, "pending")
    await age(database, 1.2)
    await cancel_one(database)
    await keep_up(database, days=1)
    assert await value(database, COUNTS) == "1/0/2/2/0"


async def test_what_an_account_sent_today_counts_for_its_pace_however_short_the_retention(database: Database) -> None:
    await add_lanes(database, "a")
    for hours in (27, 25):
        await add_jobs(database, "a")
        await end(database, days=hours / 24)
    await keep_up(database, days=0.1)
    assert await value(database, "select min(submitted_at) > now() - interval '26 hours' from jobs")
    assert await value(database, PLACES) == "1/0"


async def test_changes_and_incoming_messages_go_some_at_a_time(database: Database) -> None:
    await add_lanes(database, "a")
    await run(
        database,
        """
        insert into account_changes (org_id, account_id, from_state, to_state, created_at)
        select 'org_default', 'a', 'ready', n::text, now() - n * interval '1 day' from generate_series(86, 95) as n
        """,
    )
    await run(
        database,
        """
        insert into incoming (id, org_id, account_id, bubble, chat, text, created_at)
        select n, 'org_default', 'a', n, 'x', '', now() - n * interval '1 day' from generate_series(86, 95) as n
        """,
    )
    assert await database.one("purge_changes", days=90, most=2) == {"rows": 2}
    assert await database.one("purge_incoming", days=90, most=2) == {"rows": 0}, "reports have not counted them"
    await run(database, "update report_seal set sealed_before = now()")
    assert await database.one("purge_incoming", days=90, most=2) == {"rows": 2}
    await keep_up(database, batch=2)
    assert await value(database, "select max(to_state) from account_changes") == "89"
    assert await value(database, "select max(id) from incoming") == "89"


async def test_what_somebody_holds_stays_until_the_next_turn(database: Database) -> None:
    await add_lanes(database, "a")
    old = """
        insert into account_changes (org_id, account_id, from_state, to_state, created_at)
        select 'org_default', 'a', 'ready', n::text, now() - interval '91 days' from generate_series(1, 3) as n
    """
    await run(database, old)
    async with database.transaction() as tx:
        await tx.connection.execute("select from account_changes where to_state = '2' for update")
        assert await database.one("purge_changes", days=90, most=9) == {"rows": 2}
    assert await database.one("purge_changes", days=90, most=9) == {"rows": 1}


async def test_an_old_checkup_goes(database: Database) -> None:
    await add_lanes(database, "a", "b")
    for account in ("a", "b"):
        await database.all("want_checkup", account=account)
    await run(
        database,
        """
        update checkups
        set wanted_at = now() - case account_id when 'a' then interval '91 days' else interval '89 days' end
        """,
    )
    await keep_up(database)
    assert await value(database, "select string_agg(account_id, '') from checkups") == "b"


async def test_a_login_that_was_kept_goes_in_the_end(database: Database) -> None:
    await add_lanes(database, "a", "b", "c")
    await run(
        database,
        """
        insert into profiles (account_id, org_id, generation, whole, sealed, raw_bytes, worker, created_at, kept_since)
        select id, 'org_default', 1, false, '', 1, 'w', now() - interval '99 days',
               case id when 'a' then now() - interval '91 days' when 'b' then now() - interval '89 days' end
        from lanes where kind = 'account'
        """,
    )
    await keep_up(database)
    assert await value(database, "select string_agg(account_id, '' order by account_id) from profiles") == "bc"


async def test_links_to_evidence_go_with_it(database: Database) -> None:
    await add_lanes(database, "a")

    def evidence(days: float) -> str:
        return f"a/{datetime.now(UTC) - timedelta(days=days):%Y%m%dT%H%M%S.%fZ}-page_hung"

    for days in (91, 89):
        for ended in (4, 1):
            await add_jobs(database, "a")
            await end(database, "failed", days=ended)
            await run(database, "update jobs set evidence = %s where evidence is null", evidence(days))
    await keep_up(database, batch=1)
    assert await value(database, PLACES) == "2/2"
    links = "select evidence from all_jobs order by evidence"
    assert [link and link[:12] for (link,) in await rows(database, links)] == [evidence(89)[:12]] * 2 + [None] * 2
    assert await value(database, "select count(evidence) from jobs") == 1


# --- partitions --------------------------------------------------------------------------------------------------


async def test_whole_partitions_are_dropped_once_their_newest_row_may_be_over_age(database: Database) -> None:
    for parent in ("jobs_history", "outbox", "attempts"):
        for back in (5, 4):
            await add_month(database, parent, back)
    ended = "select extract(epoch from now() - (to_date(%s, 'YYYY_MM') + interval '1 month')) / 86400"
    days = float(await value(database, ended, month(4)))
    await keep_up(database, days=days + 0.01)
    names = [*(f"outbox_{month(back)}" for back in (4, 1, 0, -1, -2)), "outbox_default"]
    assert await value(database, MONTHS, "outbox") == names
    await keep_up(database, days=days - 0.01)
    for parent in ("jobs_history", "outbox", "attempts"):
        names = [*(f"{parent}_{month(back)}" for back in (1, 0, -1, -2)), f"{parent}_default"]
        assert await value(database, MONTHS, parent) == names
        assert await value(database, "select to_regclass(%s)", f"{parent}_{month(4)}") is None


async def test_a_partition_with_events_to_be_delivered_is_kept_and_its_other_events_are_not(
    database: Database,
) -> None:
    await add_lanes(database, "a")
    await add_endpoint(database)
    await add_month(database, "outbox", 5)
    for state in ("pending", "delivered"):
        await cancel_one(database)
        await deliver(database, state)
    for move in ("update outbox set created_at = ", "update deliveries set event_at = "):
        await run(database, move + "to_date(%s, 'YYYY_MM') + interval '3 days'", month(5))
    assert await count(database, f"outbox_{month(5)}") == 2
    await keep_up(database)
    assert await count(database, f"outbox_{month(5)}") == 1
    await deliver(database, "delivered")
    await keep_up(database)
    assert await value(database, "select to_regclass(%s)", f"outbox_{month(5)}") is None


async def test_events_that_are_kept_are_read_once_a_run(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await add_lanes(database, "a")
    await add_endpoint(database)
    for _ in range(40):  # of an endpoint that somebody paused and forgot
        await cancel_one(database)
    await run(database, "update endpoints set status = 'paused'")
    await age(database, 1)
    await run(database, "update endpoints set events = '{}'")
    for _ in range(25):
        await cancel_one(database)
    await age(database, 95)
    asked: list[Row | None] = []
    run_query = database.one

    async def one(name: str, /, **values: object) -> Row | None:
        row = await run_query(name, **values)
        if name == "purge_events":
            asked.append(row)
        return row

    monkeypatch.setattr(database, "one", one)
    upkeep = Upkeep(database, 7, 90, batch=10)
    for _ in range(2):
        await upkeep.run_once()
        assert await count(database, "outbox") == 40
    assert [row["read"] for row in asked if row] == [10] * 6 + [5] + [10] * 4 + [0]
    said = [vars(record) for record in caplog.records if vars(record).get("event") == "endpoint.paused_for_long"]
    assert [(each["endpoint"], each["days"]) for each in said] == [("w", 96)] * 2


async def test_a_run_ends_when_its_worker_stops(database: Database) -> None:
    await add_lanes(database, "a")
    await add_jobs(database, "a", 30)
    await end(database)
    upkeep = Upkeep(database, 7, 90, batch=10)
    upkeep.stopping.set()
    await upkeep.run_once()
    assert await value(database, PLACES) == "30/0"
    upkeep.stopping.clear()
    ending = asyncio.create_task(upkeep.run_once())
    async with asyncio.timeout(30):
        while await value(database, PLACES) == "30/0":
            await asyncio.sleep(0)
    upkeep.stopping.set()
    await ending
    assert await value(database, PLACES) in {"20/10", "10/20", "0/30"}


async def test_an_event_that_is_being_written_keeps_its_partition(database: Database) -> None:
    await add_lanes(database, "a")
    await add_endpoint(database)
    await add_month(database, "outbox", 5)
    await run(database, "alter function drop_old_partition set lock_timeout = '10s'")
    async with asyncio.TaskGroup() as group, database.transaction() as tx:
        await tx.connection.execute(
            """
            with event as (
                insert into outbox (id, org_id, type, body, created_at)
                values ('evt_1', 'org_default', 'X', '', to_date(%s, 'YYYY_MM') + interval '3 days')
                returning id, created_at
            )
            insert into deliveries (id, org_id, event_id, event_at, type, endpoint_id)
            select 'dlv_1', 'org_default', id, created_at, 'X', 'w' from event
            """,
            [month(5)],
        )
        dropping = group.create_task(database.all("drop_old_partition", days=90))
        await waits_for_a_lock(database)
    assert dropping.result() == [{"partition": f"outbox_{month(5)}", "dropped": False}]
    assert await count(database, f"outbox_{month(5)}") == 1


async def test_a_report_that_runs_holds_nobody_up(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "tasks.upkeep")
    await add_lanes(database, "a")
    await add_jobs(database, "a")
    await end(database)
    await add_month(database, "jobs_history", 6)
    await add_month(database, "outbox", 6)
    old = f"jobs_history_{month(6)}"
    new = f"jobs_history_{month(-2)}"
    await run(database, f"drop table {new}")
    async with database.transaction() as tx:
        await tx.connection.execute("select count(*) from report.jobs")
        await keep_up(database)
        assert f"partitions over age are in use, and dropped later: {old}" in caplog.text
        assert await value(database, PLACES) == "0/1", "writers go on"
        assert await value(database, "select to_regclass(%s)::text", f"outbox_{month(6)}") is None, "others are dropped"
        assert [await value(database, "select to_regclass(%s)::text", name) for name in (old, new)] == [old, None]
    await keep_up(database)
    assert [await value(database, "select to_regclass(%s)::text", name) for name in (old, new)] == [None, new]


async def test_a_month_without_a_partition_takes_rows_and_they_move_when_it_gets_one(database: Database) -> None:
    await add_lanes(database, "a")
    await add_endpoint(database)
    # A service that was off for four months finds jobs that ended then; a clock that jumped writes in years to come.
    for days in (-1000, 120):
        await cancel_one(database)
        await deliver(database, "delivered")
        await age(database, days)
    assert await value(database, "select count(*) from outbox_default") == 2
    await keep_up(database, days=0)
    assert await value(database, "select count(*) from jobs_history_default") == 1
    for table, column in (("outbox", "created_at"), ("attempts", "created_at"), ("jobs_history", "ended_at")):
        await run(database, f"drop table {table}_{month(-1)}, {table}_{month(-2)}")
        await run(
            database,
            f"update {table} set {column} = date_trunc('month', now() at time zone 'utc') + interval '33 days' "
            f"where {column} = (select min({column}) from {table})",
        )
    await run(database, "update deliveries set event_at = outbox.created_at from outbox where outbox.id = event_id")
    for table, waiting in (("outbox", 2), ("attempts", 2), ("jobs_history", 1)):
        assert await count(database, f"{table}_default") == waiting
    before = await value(database, "select array_agg(to_jsonb(outbox) order by id) from outbox")
    for _ in range(2):
        await database.all("ensure_partitions")
    for table, left in (("outbox", 1), ("attempts", 1), ("jobs_history", 0)):
        assert await count(database, f"{table}_default") == left
        assert await count(database, f"{table}_{month(-1)}") == 1
    assert await value(database, "select array_agg(to_jsonb(outbox) order by id) from outbox") == before
    await cancel_one(database)
    await deliver(database, "delivered")


async def test_new_partitions_are_as_the_first_ones(database: Database) -> None:
    described = r"""
        select array_agg(regexp_replace(what, '[0-9]{4}_[0-9]{2}', '', 'g') order by what)
        from (values (%s::regclass)) as made (table_id), lateral (
            select regexp_replace(pg_get_indexdef(indexrelid), 'INDEX \S+ ', 'INDEX ') as what
            from pg_index where indrelid = table_id
            union all
            select pg_get_constraintdef(oid) from pg_constraint where conrelid = table_id
            union all
            select unnest(reloptions) from pg_class where oid = table_id
            union all
            select format('%%s %%s %%s', attname, attnotnull, attidentity) from pg_attribute
            where attrelid = table_id and attnum > 0
        ) as parts
    """
    for parent in ("outbox", "attempts", "jobs_history"):
        seen = []
        for _ in range(2):
            name = f"{parent}_{month(-2)}"
            seen.append(await value(database, described, name))
            await run(database, f"drop table {name}")
            await database.all("ensure_partitions")
        assert seen[0] == seen[1]


# --- what churns -------------------------------------------------------------------------------------------------


async def test_a_sign_of_life_touches_no_index(database: Database) -> None:
    await add_worker(database)
    await add_lanes(database, "a")
    await database.all("lease_account", account="a", worker="wrk_a", lease=30)
    async with database.transaction() as tx:

        async def updates(table: str) -> tuple[int, int]:
            """All and heap-only ones, with those of earlier transactions that the server has not reported yet."""
            row = await (
                await tx.connection.execute(
                    "select pg_stat_get_xact_tuples_updated(%s::regclass), "
                    "pg_stat_get_xact_tuples_hot_updated(%s::regclass)",
                    [table, table],
                )
            ).fetchone()
            assert row is not None
            return row[0], row[1]

        before = {table: await updates(table) for table in ("accounts", "workers")}
        await tx.all("renew_worker", worker="wrk_a", ids=[1], lease=30, open=["a"])
        for table, (every, heap_only) in before.items():
            assert await updates(table) == (every + 1, heap_only + 1), table


# --- what procrastinate leaves -------------------------------------------------------------------------------------


async def test_wakeups_leave_nothing_behind(database_url: str, database: Database) -> None:
    lanes = [f"a{number}" for number in range(5)]
    await add_lanes(database, *lanes)
    async with lane_worker(database_url, "wrk_a") as worker:
        for number in range(1, 4):
            for lane in lanes:
                await add_jobs(database, lane)
            await until(database, SENT, 5 * number)
        await until(database, "select count(*) from procrastinate_jobs where task_name = 'drain'", 0)
        assert len(worker.recorder.done) == 15
    left = """
        select count(*) from procrastinate_events
        left join procrastinate_jobs on procrastinate_jobs.id = job_id
        where task_name is distinct from 'upkeep'
    """
    assert await value(database, left) == 0


async def test_turns_of_upkeep_leave_one_row_behind(database: Database) -> None:
    defer = "select procrastinate_defer_periodic_job_v2('upkeep', null, 'upkeep', 'upkeep', 0::smallint, '', %s, '{}')"
    for at in range(600, 6000, 600):
        await run(database, defer, at)
        await run(database, "select procrastinate_finish_job_v1(id, 'succeeded', true) from procrastinate_jobs")
    assert await count(database, "procrastinate_periodic_defers") == 1
    assert await count(database, "procrastinate_events") == 0


@pytest.mark.parametrize(
    "failing", ["ensure_partitions", "keep_alive", "drop_old_partition", "lanes_to_recount", "purge_events"]
)
async def test_what_fails_stops_nothing_else(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, failing: str
) -> None:
    asked: list[str] = []
    run_query = database.all

    async def all_(name: str, /, **values: object) -> list[Row]:
        asked.append(name)
        if name == failing:
            raise UndefinedTable
        return await run_query(name, **values)

    monkeypatch.setattr(database, "all", all_)
    await Upkeep(database, 10, 30).run_once()
    first = {
        "ensure_partitions", "keep_alive", "drop_old_partition", "paused_for_long", "lanes_to_recount", "database_time",
        "broken_references", "fail_waiting", "sweep_keys",
    }  # fmt: skip
    assert set(asked) == {*first, "move_ended_jobs", *BY_AGE, *ALWAYS}
    assert [vars(record)["kind"] for record in caplog.records if vars(record).get("event") == "upkeep.failed"] == [
        failing
    ]
