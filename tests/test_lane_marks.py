"""The clock of the lanes: what falls due has a mark, marks are used up, and no interleaving forgets a lane."""

import logging

import psycopg
import pytest
from fixtures_api import rows
from fixtures_history import run
from fixtures_lanes import AS, add_jobs, add_lanes, value
from fixtures_postgres import FORGOTTEN
from fixtures_webhooks import put_endpoint, put_events

from sql.database import Database, Row
from tasks.pulse import SWEPT_AT_ONCE, Pulse

WOKEN = "select coalesce(string_agg(lock, ',' order by lock), '') from procrastinate_jobs where status = 'todo'"
MARKS = "select count(*) from lane_marks"
#: the first mark of a lane, in seconds from now
FIRST = "select extract(epoch from min(due_at) - now())::float8 from lane_marks where lane_id = %s"


async def pulse(database: Database) -> Row:
    """Use the marks that are due."""
    (row,) = await database.all("use_marks", since=None, most=10_000)
    return row


async def end_wakeups(database: Database) -> None:
    await run(database, "delete from procrastinate_jobs")


async def use_up(database: Database) -> None:
    """Use marks until only those of work that is there are left."""
    await pulse(database)
    await end_wakeups(database)


async def test_work_for_later_is_woken_when_it_falls_due_and_not_before(database: Database) -> None:
    await add_lanes(database, "a", "b")
    await add_jobs(database, "a", 3, seconds=60, wake=False)
    assert await value(database, MARKS) == 1, "the earliest of a statement is enough"
    assert (await pulse(database))["lanes"] == []
    await run(database, "update jobs set due_at = now() - interval '1 second'")
    assert (await pulse(database))["lanes"] == ["a"]


async def test_a_later_row_of_the_same_statement_is_marked_once_the_first_has_gone(database: Database) -> None:
    await add_lanes(database, "a")
    first, second = await add_jobs(database, "a", 2, wake=False)
    await run(database, "update jobs set due_at = now() + interval '1 hour' where id = %s", second)
    await run(database, f"update jobs set {AS['cancelled']} where id = %s", first)
    await use_up(database)
    assert 3590 < await value(database, FIRST, "a") < 3601


async def test_a_lane_with_work_is_marked_again_as_long_as_it_has_any(database: Database) -> None:
    await add_lanes(database, "a")
    await add_jobs(database, "a", 1, wake=False)
    for state in ("queued", "sending", "submitting"):
        await run(database, f"update jobs set {AS[state]}")
        for _ in range(2):
            await run(database, "update lane_marks set due_at = now()")
            await pulse(database)
            assert await value(database, WOKEN) == "a"
            assert 0 < await value(database, FIRST, "a") < 1.1
    await run(database, f"update jobs set {AS['sent']}")
    await run(database, "update lane_marks set due_at = now()")
    await pulse(database)
    assert await value(database, MARKS) == 0


@pytest.mark.parametrize(
    "opens",
    [
        "update lanes set open_at = '-infinity' where id = 'a'",
        "update lanes set attend_at = now() where id = 'a'",
        "update orgs set paused_at = null",
    ],
)
async def test_a_gate_that_opens_while_a_message_comes_forgets_neither(
    database: Database, database_url: str, opens: str
) -> None:
    await add_lanes(database, "a")
    await run(
        database, "update orgs set paused_at = now()" if "orgs" in opens else "update lanes set open_at = 'infinity'"
    )
    await use_up(database)
    async with await psycopg.AsyncConnection.connect(database_url) as opening:
        await opening.execute(opens.encode())  # it does not see the message
        await add_jobs(database, "a", 1, wake=False)
        await use_up(database)  # it does not see the gate, and uses up the message's mark
        await opening.commit()
    assert await rows(database, FORGOTTEN) == []
    assert (await pulse(database))["lanes"] == ["a"]


async def test_a_drain_that_ends_while_a_message_comes_does_not_forget_it(
    database: Database, database_url: str
) -> None:
    await add_lanes(database, "a")
    await add_jobs(database, "a", 1)
    await run(database, f"update jobs set {AS['sent']}")
    await run(database, "update procrastinate_jobs set status = 'doing'")
    async with await psycopg.AsyncConnection.connect(database_url) as ending:
        await ending.execute("delete from procrastinate_jobs")
        await add_jobs(database, "a", 1, phone="1666", wake=False)
        await pulse(database)  # the wake-up still seems to run
        await ending.commit()
    assert await value(database, WOKEN) == ""
    await run(database, "update lane_marks set due_at = now()")
    assert (await pulse(database))["lanes"] == ["a"]


async def test_deliveries_and_recoveries_are_marked(database: Database) -> None:
    await put_endpoint(database, "whe_a")
    await put_events(database, "JobCompleted", 2)
    assert (await pulse(database))["lanes"] == ["whe_a"]
    await end_wakeups(database)
    await run(database, "update deliveries set due_at = now() + interval '1 hour'")
    await run(database, "update lane_marks set due_at = now()")
    assert (await pulse(database))["lanes"] == []
    assert 3590 < await value(database, FIRST, "whe_a") < 3601
    await run(database, "update deliveries set state = 'delivered', ended_at = now()")
    await run(database, "update lane_marks set due_at = now()")
    await use_up(database)
    assert await value(database, MARKS) == 0
    await run(
        database,
        "insert into recoveries (id, org_id, endpoint_id, since, until, place_at)"
        " values ('rec_a', 'org_default', 'whe_a', now(), now(), now())",
    )
    assert (await pulse(database))["lanes"] == ["whe_a"]


async def test_what_has_been_due_for_long_is_marked_for_now(database: Database, database_url: str) -> None:
    """The pulse does not read marks of long ago again: an old sendAt must make none."""
    await add_lanes(database, "a")
    leading = Pulse(database_url, 900)
    await leading.run_once()
    await add_jobs(database, "a", 1, seconds=-3600, wake=False)
    await run(database, f"update jobs set {AS['sent']}")
    await run(database, f"update jobs set {AS['queued']}")
    assert await value(database, "select bool_and(due_at > now() - interval '10 seconds') from lane_marks")
    await leading.run_once()
    await leading.close()
    assert await value(database, WOKEN) == "a"


@pytest.mark.parametrize(
    "goes",
    [
        "update endpoints set status = 'disabled'",
        "update endpoints set deleted_at = now()",
    ],
)
async def test_what_waits_for_an_endpoint_that_is_gone_is_failed_by_its_mark(
    database: Database, database_url: str, goes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what waits behind a gate that nothing opens, what comes while it goes, and what one turn cannot do."""
    monkeypatch.setattr("tasks.pulse.FAILED_AT_ONCE", 2)
    await put_endpoint(database, "whe_a")
    await put_endpoint(database, "whe_b")
    await run(database, "update lanes set open_at = 'infinity'")
    await put_events(database, "JobCompleted", 3)
    await use_up(database)
    assert await value(database, MARKS) == 0
    leading = Pulse(database_url, 900)
    failed = "select count(*) from deliveries where endpoint_id = 'whe_a' and state = 'failed'"
    async with await psycopg.AsyncConnection.connect(database_url) as going:
        await going.execute(f"{goes} where id = 'whe_a'".encode())
        await put_events(database, "JobCompleted", 1)  # it does not see that the endpoint goes
        await leading.run_once()
        assert await value(database, failed) == 0
        await going.commit()
    for done in (2, 4):
        await run(database, "update lane_marks set due_at = now()")
        await leading.run_once()
        assert await value(database, failed) == done
    await run(database, "update lane_marks set due_at = now()")
    await leading.run_once()
    await leading.close()
    assert await value(database, MARKS) == 0
    assert await value(database, "select count(*) from deliveries where state = 'pending'") == 4, "of whe_b"


async def test_lanes_with_work_are_found_by_each_kind_of_it_in_their_order(database: Database) -> None:
    await add_lanes(database, "a", "b", "c", "d", "e")
    for lane, state in (("a", "queued"), ("b", "sending"), ("c", "submitting"), ("d", "sent")):
        await add_jobs(database, lane, 2, wake=False)
        await run(database, f"update jobs set {AS[state]} where account_id = %s", lane)
    await run(database, "update lanes set attend_at = now() + interval '1 hour' where id = 'e'")
    for endpoint in ("whe_a", "whe_b", "whe_c", "whe_d"):
        await put_endpoint(database, endpoint)
    await put_events(database, "JobCompleted", 1)
    for state, endpoint in (("sending", "whe_b"), ("delivered", "whe_c"), ("delivered", "whe_d")):
        ended = "ended_at = case when state = 'delivered' then now() end"
        await run(database, "update deliveries set state = %s where endpoint_id = %s", state, endpoint)
        await run(database, f"update deliveries set {ended}")
    await run(
        database,
        "insert into recoveries (id, org_id, endpoint_id, since, until, place_at)"
        " values ('rec_a', 'org_default', 'whe_d', now(), now(), now())",
    )
    found, after = [], ""
    while part := [lane for (lane,) in await rows(database, f"select lanes_with_work('{after}', 2)")]:
        found += part
        after = part[-1]
    assert found == ["a", "b", "c", "e", "whe_a", "whe_b", "whe_d"]
    await run(database, "truncate lane_marks")
    await run(database, "truncate jobs, deliveries, recoveries, lane_depth")
    await run(database, "update lanes set attend_at = null")


async def test_the_sweep_finds_what_was_forgotten_and_says_so(
    database: Database, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    lanes = [f"a{number:03}" for number in range(3 * SWEPT_AT_ONCE)]
    await add_lanes(database, *lanes)
    for lane in (lanes[0], lanes[-1]):
        await add_jobs(database, lane, 1, seconds=-60, wake=False)
    await run(database, "delete from lane_marks where lane_id = %s", lanes[-1])
    leading = Pulse(database_url, 900)
    with caplog.at_level(logging.ERROR, "tasks.pulse"):
        for _ in range(5):
            await leading.run_once()
    await leading.close()
    assert [vars(record)["lane"] for record in caplog.records] == [lanes[-1]]
    assert await value(database, WOKEN) == f"{lanes[0]},{lanes[-1]}"


async def test_a_backlog_of_marks_holds_up_neither_the_clock_nor_the_rest(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.pulse.MARKS_AT_ONCE", 10)
    await add_lanes(database, "a", "b", "expired")
    marks = (
        "insert into lane_marks (due_at, lane_id) select now() - %s * interval '1 s', 'b' from generate_series(1, %s)"
    )
    await run(database, marks, 3600, 95)
    await add_jobs(database, "a", 1, wake=False)
    await add_jobs(database, "expired", 1, wake=False)
    await run(database, "update jobs set expires_at = now() where account_id = 'expired'")
    leading = Pulse(database_url, 900)
    await leading.run_once()
    assert await value(database, WOKEN) == "a,expired"
    assert await value(database, "select state from jobs where account_id = 'expired'") == "failed"
    assert await value(database, "select count(*) from lane_marks where lane_id = 'b'") == 0
    # What one turn cannot use waits for the next one, and nothing is swept before.
    monkeypatch.setattr("tasks.pulse.MARKS_SECONDS", -1)
    await run(database, marks, 0, 25)
    for left in (15, 5, 0):
        await leading.run_once()
        assert await value(database, "select count(*) from lane_marks where lane_id = 'b'") == left
    await leading.close()


async def test_marks_that_cannot_be_removed_are_not_read_again(database: Database, database_url: str) -> None:
    await add_lanes(database, "a")
    await add_jobs(database, "a", 1, wake=False)
    leading = Pulse(database_url, 900)
    assert leading._marks_from is None
    await leading.run_once()
    assert leading._marks_from
    assert await value(database, "select now() - %s > interval '60 seconds'", leading._marks_from)
    add = "insert into lane_marks (due_at, lane_id) values (now() - %s * interval '1 second', 'a')"
    for age in (59, 3600):
        await run(database, add, age)
    await leading.run_once()
    old = "select count(*) from lane_marks where due_at < now() - interval '10 seconds'"
    assert await value(database, old) == 1, "that of an hour ago is not read, and stands for one that was deleted"
    await leading.close()
