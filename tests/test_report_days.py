"""Days and hours of reports, and what upkeep does with them."""

import asyncio
import math
from collections import Counter
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from fixtures_api import api, new_account, rows
from fixtures_history import count, keep_up, run
from fixtures_lanes import add_jobs, add_lanes, value
from fixtures_reports import fill, roll_up, step
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg.sql import SQL, Identifier

from sql.database import Database
from tasks.roll_up import RollUp

#: zone, day, its hours, what clocks show first, and what they show twice
DAYS = [
    ("Europe/Berlin", date(2026, 10, 25), 25, "00:00", ["02:00"]),
    ("Europe/Berlin", date(2026, 3, 29), 23, "00:00", []),
    ("Australia/Lord_Howe", date(2026, 10, 4), 23.5, "00:00", []),
    # Put back by half an hour: from 01:00 on there is an hour, and then the half that is shown again.
    ("Australia/Lord_Howe", date(2026, 4, 5), 24.5, "00:00", []),
    ("America/Sao_Paulo", date(2018, 11, 4), 23, "01:00", []),
    ("Asia/Kathmandu", date(2026, 2, 28), 24, "00:00", []),
]


# --- days and hours ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("expected", DAYS, ids=lambda expected: f"{expected[0]} {expected[1]}")
def test_a_day_has_the_hours_that_the_clocks_of_its_zone_show(
    database_url: str, expected: tuple[str, date, float, str, list[str]]
) -> None:
    """A message every half hour, from the day before until the day after."""
    zone, day, hours, first, twice = expected
    with psycopg.connect(database_url, autocommit=True, options="-c timezone=utc") as connection:
        connection.execute(
            """
            insert into lanes (id, org_id, kind, queue) values ('acc_1', 'org_default', 'account', 'account');
            insert into accounts (id, org_id, name, transport, created_at)
            values ('acc_1', 'org_default', '', 'web', '2018-01-01');
            """
        )
        connection.execute("update accounts set time_zone = %s", [zone])
        connection.execute(
            """
            insert into jobs (id, org_id, account_id, content_hash, phone, message, due_at, send_at, expires_at,
                              created_at)
            select 'job_' || at, 'org_default', 'acc_1', '', '1555', '', at, at, 'infinity', at
            from generate_series(%(day)s::date - interval '1 day', %(day)s::date + interval '2 days', '30 minutes') at
            """,
            {"day": day},
        )
        before = told(connection, day)
        roll_up(database_url)
        assert told(connection, day) == before, "what is open is counted as what is rolled up"
        accepted, by_hour = before
        assert accepted == hours * 2
        assert sum(number for _, number in by_hour) == accepted
        shown = [at.strftime("%H:%M") for at, _ in by_hour]
        assert shown[0] == first
        assert [each for each, times in Counter(shown).items() if times > 1] == twice


def told(connection: psycopg.Connection[Any], day: date) -> tuple[int, list[tuple[datetime, int]]]:
    """Return the messages of a day, and those of each of its hours."""
    ((accepted,),) = connection.execute("select accepted from report.daily_volume where day = %s", [day]).fetchall()
    hours = connection.execute("select local_hour, accepted from report.hours where day = %s order by hour", [day])
    return accepted, hours.fetchall()


@given(st.lists(st.floats(0.001, 366 * 86400), min_size=1, max_size=30), st.sampled_from([0.5, 0.95, 0.99, 1.0]))
@example([366 * 86400.0], 0.5)
@example([0.001], 0.5)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_percentile_is_off_by_a_fifth_at_most_however_long_it_took(
    database_url: str, seconds: list[float], fraction: float
) -> None:
    with psycopg.connect(database_url) as connection:
        ((found,),) = connection.execute(
            "select percentile(histogram(seconds_bucket(s), 1), %s) from unnest(%s::float8[]) as s",
            [fraction, seconds],
        ).fetchall()
    exact = sorted(seconds)[math.ceil(len(seconds) * fraction) - 1]
    # Told in milliseconds.
    if exact < 0.0625:
        assert found <= Decimal("0.063")
    else:
        assert 0.8 <= float(found) / exact <= 1.2


def test_nothing_has_no_percentile(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        assert connection.execute("select percentile('{}', 0.5), percentile('{0,0}', 0.5)").fetchone() == (None, None)


# --- by upkeep ---------------------------------------------------------------------------------------------------

#: all that reports have
ROWS = """
    select jsonb_agg(report_day(account_id, began_at) #- '{day,created_at}' order by account_id, began_at)
    from report_days
"""


async def test_retention_deletes_the_messages_and_the_reports_stay(database: Database) -> None:
    await asyncio.to_thread(fill, database.url)
    balance = (
        "select accepted, sent, failed, cancelled, open from report.balance where accepted > 0 order by account_id, day"
    )
    activity = "select * from report.replies where received > 0 or sent > 0 order by account_id, day"
    failures = (
        "select account_id, day, error_code, jobs, first_at, last_at from report.failure_reasons order by 1, 2, 3"
    )
    before = [await rows(database, query) for query in (balance, activity, failures)]
    assert min(map(len, before)) > 10
    await keep_up(database, days=2)
    assert [await rows(database, query) for query in (balance, activity, failures)] == before
    assert await value(database, "select count(*) from jobs") == 20, "what is open"
    for table in ("jobs_history", "incoming"):
        assert await count(database, table) == 0
    # It may name a number.
    assert await value(database, "select count(last_detail) from report.failure_reasons") == 0


async def test_retention_waits_for_the_roll_up(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    await asyncio.to_thread(fill, database.url)
    await run(database, "alter function roll_up_days rename to roll_up_days_gone")
    await keep_up(database, days=2)
    assert await value(database, "select count(*) from all_jobs") == 821
    assert {getattr(record, "event", "") for record in caplog.records if record.levelname == "ERROR"} == {
        "upkeep.failed"
    }
    await run(database, "alter function roll_up_days_gone rename to roll_up_days")
    await keep_up(database, days=2)
    assert await value(database, "select count(*) from all_jobs") == 20


async def test_retention_waits_for_each_day_to_be_sealed(database: Database) -> None:
    await asyncio.to_thread(fill, database.url)
    await asyncio.to_thread(roll_up, database.url)
    first = "select min(began_at) from report_days where sealed_at is null"
    for _ in range(3):
        assert await asyncio.to_thread(step, database.url, "select seal_report_days(now(), 2)") == 2
        assert await value(database, "select sealed_before from report_seal") == await value(database, first)


async def test_a_day_that_is_wrong_is_told_and_corrected(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    await asyncio.to_thread(fill, database.url)
    await keep_up(database)
    right = await value(database, ROWS)
    await run(database, "update report_days set sent = sent + 1 where day = '2026-11-20' and account_id = 'acc_berlin'")
    await run(database, "delete from report_days where day <> '2026-11-20' or account_id <> 'acc_berlin'")
    await run(database, "delete from report_progress where account_id <> 'acc_berlin'")
    await RollUp(database).check()
    (wrong,) = [vars(record) for record in caplog.records if getattr(record, "event", "") == "report.wrong"]
    assert (wrong["account"], wrong["day"]) == ("acc_berlin", "2026-11-20")
    assert wrong["was"]["day"]["sent"] == wrong["counted"]["day"]["sent"] + 1
    assert "last_detail" not in str(wrong), "it may name a number"
    (left,) = await value(database, ROWS)
    assert left in right


async def test_a_roll_up_that_is_cut_off_goes_on_where_it_was(database: Database) -> None:
    await asyncio.to_thread(fill, database.url)
    url = database.url
    for _ in range(5):
        with (
            pytest.raises(psycopg.errors.AdminShutdown),
            psycopg.connect(url, options="-c role=postrider_worker") as cut,
        ):
            cut.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            cut.execute("select roll_up_days(9, '{}')")
            # As when its worker is killed in the transaction.
            await run(database, "select pg_terminate_backend(%s)", cut.info.backend_pid)
        await asyncio.to_thread(step, url, "select roll_up_days(3, '{}')")
    await asyncio.to_thread(roll_up, url, 4)
    in_pieces = await value(database, ROWS)
    await run(database, "truncate report_days, report_failures, report_hours, report_progress")
    await asyncio.to_thread(roll_up, url, 500)
    assert await value(database, ROWS) == in_pieces
    assert len(in_pieces) > 20


async def test_messages_of_the_last_hour_write_no_marks(database: Database) -> None:
    await add_lanes(database, "acc_1")
    await add_jobs(database, "acc_1", 2)
    await database.all("cancel_jobs", org="org_default", account="acc_1", most=1)
    assert await value(database, "select count(*) from report_marks") == 0
    await run(database, "update jobs set created_at = created_at - interval '61 minutes'")
    await database.all("cancel_jobs", org="org_default", account="acc_1", most=1)
    assert await rows(database, "select old_state, new_state from report_marks") == [("queued", "cancelled")]


async def test_the_api_marks_what_it_changes(database: Database) -> None:
    async with api(database.url) as client:
        account = await new_account(client)
        order = {"phone": "15551230001", "message": "Hi", "account": account, "idempotencyKey": "order-1"}
        assert (await client.post("/send", json=order)).status_code == 202
        await run(database, "update jobs set created_at = created_at - interval '61 minutes'")
        assert (await client.delete("/jobs/order-1")).status_code == 200
    marks = "select org_id, account_id, old_state, new_state from report_marks"
    assert await rows(database, marks) == [("org_default", account, "queued", "cancelled")]


async def test_a_message_of_a_number_that_was_written_to_in_the_last_week_is_an_answer(database: Database) -> None:
    await add_lanes(database, "acc_1", "acc_2")
    await run(database, "update accounts set created_at = now() - interval '1 day'")
    await add_jobs(database, "acc_1", 3, phone="1555123000")
    sent = (
        "update jobs set state = 'sent', sent_at = at, ended_at = at from (select now() - %s::interval as at) as times"
    )
    await run(database, f"{sent} where phone = '15551230001'", "6 days")
    await run(database, f"{sent} where phone = '15551230002'", "8 days")
    numbers = {"a": "15551230001", "b": "15551230002", "c": "15551230003", "d": None, "e": None}
    for name, phone in numbers.items():
        await database.all(
            "record_incoming", id=f"msg_{name}", account="acc_1", bubble=name, phone=phone, chat="Ann", text="Hello"
        )
    await database.all(
        "record_incoming", id="msg_f", account="acc_2", bubble="f", phone="15551230001", chat="Ann", text="Hello"
    )
    await run(database, "update incoming set created_at = now() - interval '2 hours' where id = 'msg_e'")
    for name in "de":
        await database.all("number_incoming", account="acc_1", bubbles=[name], phone="15551230001")
    assert await rows(database, "select id, is_answer from incoming order by id") == [
        ("msg_a", True), ("msg_b", False), ("msg_c", False), ("msg_d", True), ("msg_e", None), ("msg_f", False)
    ]  # fmt: skip
    replies = (
        "select account_id, sum(received), sum(answers) from report.replies group by account_id order by account_id"
    )
    assert await rows(database, replies) == [("acc_1", 5, 2), ("acc_2", 1, 0)]


async def test_days_are_rolled_up_in_one_snapshot_or_not_at_all(database: Database) -> None:
    for query in ("take_report_marks", "roll_up_days"):
        with pytest.raises(psycopg.errors.RaiseException, match="in one snapshot"):
            await database.all(query, **{"most": 1, "except": []})


# --- what may go wrong -------------------------------------------------------------------------------------------


async def test_an_account_that_cannot_be_counted_in_time_holds_up_no_other(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    await asyncio.to_thread(fill, database.url)
    await run(
        database,
        """
        create or replace function too_slow() returns trigger language plpgsql as $$
        begin
            raise exception 'canceling statement due to statement timeout' using errcode = 'query_canceled';
        end $$;
        create trigger slow before insert on report_days for each row when (new.account_id = 'acc_berlin')
        execute function too_slow()
        """,
    )
    await keep_up(database, days=2)
    assert await rows(database, "select account_id from report_progress") == [("acc_paulo",)]
    assert [record.account for record in caplog.records if getattr(record, "event", "") == "report.too_large"] == [  # type: ignore[attr-defined]
        "acc_berlin"
    ]
    assert await value(database, "select count(*) from all_jobs") == 821, "retention waits"
    await run(database, "drop trigger slow on report_days")
    await keep_up(database, days=2)
    assert await value(database, "select count(*) from all_jobs") == 20


async def test_a_day_is_counted_once_for_all_messages_of_it_that_change(database: Database) -> None:
    await asyncio.to_thread(fill, database.url)
    await asyncio.to_thread(roll_up, database.url)
    await run(database, "update jobs set state = 'read' where account_id = 'acc_berlin' and state = 'delivered'")
    changes = await count(database, "report_marks")
    assert changes > 100
    days = "select count(distinct created_at::date) + 1 from jobs where account_id = 'acc_berlin' and state = 'read'"
    done = await asyncio.to_thread(step, database.url, "select take_report_marks(1, 1000, '{}')")
    assert done <= await value(database, days)
    assert await count(database, "report_marks") == 0
    assert await value(database, "select sum(delivered - read) from report_days where account_id = 'acc_berlin'") == 0


@pytest.mark.parametrize("hour", [0, 12], ids=["an hour after midnight", "at noon"])
async def test_days_of_which_nothing_is_known_are_not_told_as_empty(database: Database, hour: int) -> None:
    """An account that is older than the roll-up, whose first messages were deleted; and one that is younger.

    In the first hour of a day the last one is not rolled up yet.
    """
    await add_lanes(database, "acc_old", "acc_new")
    await add_jobs(database, "acc_old", 1)
    age = "update accounts set created_at = case id when 'acc_old' then now() - interval '200 days' else now() end"
    await run(database, f"{age}, time_zone = '{zone_where_it_is(hour)}'")
    await run(database, "update jobs set created_at = now() - interval '60 days'")
    await asyncio.to_thread(roll_up, database.url)
    for view in ("daily_volume", "daily_activity"):
        query = SQL(
            "select account_id, count(*), (now() at time zone {})::date - min(day) from report.{} group by 1 order by 1"
        ).format(zone_where_it_is(hour), Identifier(view))
        assert await rows(database, query) == [("acc_new", 1, 0), ("acc_old", 61, 60)], view


def zone_where_it_is(hour: int) -> str:
    """Return a zone in which the hour of the day is this one now; the names of such zones have their signs reversed."""
    west = (datetime.now(UTC).hour - hour) % 24
    return f"Etc/GMT+{west}" if west <= 12 else f"Etc/GMT-{24 - west}"


async def test_the_last_day_of_a_deleted_account_is_told(database: Database) -> None:
    await add_lanes(database, "acc_1")
    await run(database, "update report_seal set created_at = now() - interval '30 days'")
    await run(
        database, "update accounts set created_at = now() - interval '10 days', deleted_at = now() - interval '5 days'"
    )
    await asyncio.to_thread(roll_up, database.url)
    for view in ("daily_volume", "daily_activity"):
        query = f"select current_date - min(day), current_date - max(day), count(*) from report.{view}"
        assert await rows(database, query) == [(10, 5, 6)], view


async def test_numbers_stay_when_messages_were_deleted_behind_their_back(database: Database) -> None:
    """By upkeep of an older version, which does not wait for seals."""
    await asyncio.to_thread(fill, database.url)
    await asyncio.to_thread(roll_up, database.url)
    totals = "select sum(accepted), sum(sent + failed + cancelled + open) from report.daily_volume"
    before = await rows(database, totals)
    await run(database, "delete from jobs where account_id = 'acc_berlin' and created_at < '2026-11-20 12:00+00'")
    await run(database, "update jobs set state = 'read' where account_id = 'acc_berlin' and state = 'delivered'")
    for _ in range(5):
        await RollUp(database).check()
    await asyncio.to_thread(roll_up, database.url)
    assert await rows(database, totals) == before
    sealed = "join report_days using (account_id, began_at) where sealed_at is not null"
    assert await value(database, f"select count(*) > 0 from report_failures {sealed}")
    assert await value(database, f"select count(last_detail) from report_failures {sealed}") == 0, (
        "they may name a number"
    )


async def test_an_account_that_is_deleted_without_it_takes_its_progress_along(database: Database) -> None:
    """As upkeep of an older version deletes it."""
    await add_lanes(database, "acc_1")
    await asyncio.to_thread(roll_up, database.url)
    assert await count(database, "report_progress") == 1
    await run(database, "delete from accounts")
    assert await count(database, "report_progress") == 0


async def test_a_zone_that_postgres_does_not_know_holds_up_no_other_account(database: Database) -> None:
    await asyncio.to_thread(fill, database.url)
    await run(database, "update accounts set time_zone = 'Mars/Olympus' where id = 'acc_berlin'")
    await asyncio.to_thread(roll_up, database.url)
    assert await rows(database, "select account_id from report_progress") == [("acc_paulo",)]
