"""Recoveries: each event that an endpoint wants and has not received, once, whatever dies meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from fixtures_api import api, rows
from fixtures_deliveries import add_endpoint, begin, receiving, working
from fixtures_history import keep_up, run
from fixtures_lanes import pulse_while, value
from fixtures_webhooks import put_endpoint, put_events, put_org, spread, states

from sql.database import Database
from tasks.delivery import recover as recovering
from tasks.delivery.recover import DELIVERIES_PER_SLOT, recover
from tasks.lanes import Drain
from tasks.pulse import Pulse

PAST = {"since": "2020-01-01T00:00:00Z"}
WAKEUPS = "select count(*) from procrastinate_jobs where lock = 'whe_1'"
#: Of each event that it got, how often.
TWICE = "select max(count) from (select count(*) from deliveries group by event_id, endpoint_id) as counted"


@pytest.fixture
async def client(database_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with api(database_url) as client:
        yield client


async def ask(client: httpx2.AsyncClient, **span: str) -> str:
    answer = await client.post("/webhooks/whe_1/recover", json=span or PAST)
    assert answer.status_code == 202, answer.text
    assert set(answer.json()) == {"recoveryId"}
    target = f"/webhooks/whe_1/recoveries/{answer.json()['recoveryId']}"
    assert answer.headers["location"] == target
    return target


async def look(client: httpx2.AsyncClient, target: str) -> tuple[str, int, int]:
    shown = (await client.get(target)).json()
    assert set(shown) == {"recoveryId", "state", "total", "done", "since", "until", "createdAt", "endedAt"}
    assert (shown["endedAt"] is None) == (shown["state"] in {"counting", "running"})
    return shown["state"], shown["total"], shown["done"]


async def step(database: Database, drain: Drain, *, look: int = 100, most: int = 40) -> dict[str, Any] | None:
    return await database.one("recover_some", lane=drain.lane, epoch=drain.epoch, look=look, most=most)


async def finish(database: Database, drain: Drain, **sizes: int) -> int:
    """Take steps until there is nothing more to recover; return how many that were."""
    steps = 0
    while await step(database, drain, **sizes):
        steps += 1
    return steps


# --- asked for ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "since"),
        ({"until": "2026-01-01T00:00:00Z"}, "since"),
        ({"since": None}, "since"),
        ({"since": 1_800_000_000}, "since"),
        ({"since": "2026-01-01"}, "since"),
        ({"since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"}, "since"),
        ({"since": "2026-01-02T00:00:00Z", "until": "2026-01-02T00:00:00Z"}, "since"),
        ({"since": "2999-01-01T00:00:00Z"}, "since"),
        ({"since": "2999-01-01T00:00:00Z", "until": "2999-01-02T00:00:00Z"}, "since"),
        ({**PAST, "until": "soon"}, "until"),
        ({**PAST, "types": []}, "types"),
    ],
    ids=str,
)
async def test_a_bad_span_is_refused(
    client: httpx2.AsyncClient, database: Database, body: dict[str, object], field: str
) -> None:
    await put_endpoint(database)
    answer = await client.post("/webhooks/whe_1/recover", json=body)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)
    assert await rows(database, "select from recoveries") == []


async def test_only_an_endpoint_that_takes_events_is_recovered(client: httpx2.AsyncClient, database: Database) -> None:
    await put_org(database, "org_other")
    await put_endpoint(database, "whe_other", org="org_other")
    await put_endpoint(database)
    for endpoint in ("whe_other", "whe_none"):
        assert (await client.post(f"/webhooks/{endpoint}/recover", json=PAST)).status_code == 404
    target = await ask(client)
    assert (await client.get(target)).status_code == 200
    assert (await client.get(target.replace("whe_1", "whe_other"))).status_code == 404
    assert (await client.get("/webhooks/whe_1/recoveries/rec_none")).status_code == 404
    theirs = "insert into recoveries (id, org_id, endpoint_id, since, until, place_at) values "
    await run(database, theirs + "('rec_other', 'org_other', 'whe_other', now(), now(), now())")
    assert (await client.get("/webhooks/whe_other/recoveries/rec_other")).status_code == 404
    await run(database, "update endpoints set status = 'disabled' where id = 'whe_1'")
    answer = await client.post("/webhooks/whe_1/recover", json=PAST)
    assert (answer.status_code, "enable it first" in answer.json()["detail"]) == (409, True)
    await run(database, "update endpoints set deleted_at = now() where id = 'whe_1'")
    assert (await client.post("/webhooks/whe_1/recover", json=PAST)).status_code == 404


async def test_what_is_still_to_happen_is_no_part_of_it(client: httpx2.AsyncClient, database: Database) -> None:
    await put_endpoint(database)
    target = await ask(client, **PAST, until="2999-01-01T00:00:00Z")
    assert await value(database, "select until = created_at from recoveries")
    assert (await look(client, target)) == ("counting", 0, 0)
    assert await value(database, WAKEUPS) == 1


# --- what is recovered -------------------------------------------------------------------------------------------


async def everything(database: Database) -> set[str]:
    """Have thousands of events in all circumstances; return the ids of those that whe_1 wants and has not received."""
    await put_org(database, "org_other")
    await put_events(database, "JobCompleted", 400)  # it was not registered yet
    await put_endpoint(database, "whe_1", "JobCompleted", "JobFailed", "WebhookTest", "WebhookDisabled")
    await put_endpoint(database, "whe_2")
    await put_events(database, "JobCompleted", 600)  # received, or not
    await run(
        database,
        """
        update deliveries set state = states.state, attempts = 3, ended_at = now()
        from (select id, (array['delivered', 'failed', 'pending', 'sending'])[1 + row_number() over () % 4] as state
              from deliveries where endpoint_id = 'whe_1') as states
        where deliveries.id = states.id
        """,
    )
    await run(database, "update deliveries set ended_at = null where state in ('pending', 'sending')")
    await run(database, "update endpoints set status = 'disabled' where id = 'whe_1'")
    await put_events(database, "JobCompleted", 700)
    await put_events(database, "JobFailed", 500)
    wanted = await rows(
        database,
        """
        select id from outbox
        where not exists (
            select from deliveries where event_id = outbox.id and endpoint_id = 'whe_1' and state <> 'failed')
        """,
    )
    await put_events(database, "JobRead", 300)  # it does not ask for these
    await put_events(database, "JobCompleted", 100, org="org_other")
    await put_events(database, "WebhookTest", 2)  # tests of another one
    news = '{"endpoint":"whe_1","reason":""}'  # to others
    await run(database, "select record_event('org_default', 'WebhookDisabled', %s, null, null, 0)", news)
    await spread(database)
    await run(database, "update endpoints set status = 'enabled' where id = 'whe_1'")
    return {row[0] for row in wanted}


BROUGHT = "select event_id from deliveries where endpoint_id = 'whe_1' and state = 'pending'"
OTHERS = """
    select deliveries::text from deliveries
    where endpoint_id <> 'whe_1' or state in ('delivered', 'sending') order by id
"""


async def test_each_event_that_is_missing_is_brought_once_whoever_dies_meanwhile(
    client: httpx2.AsyncClient, database: Database
) -> None:
    wanted = await everything(database)
    waiting = {row[0] for row in await rows(database, BROUGHT)}
    others = await rows(database, OTHERS)
    target = await ask(client)
    drain = await begin(database, "whe_1")
    seen, steps = [], 0
    # Every third step a worker dies and another one begins; the one that was only frozen comes back.
    while await step(database, drain):
        seen.append(await look(client, target))
        steps += 1
        if steps % 3 == 0:
            frozen, drain = drain, await begin(database, "whe_1")
            assert await step(database, frozen) is None
            assert await look(client, target) == seen[-1]
    assert await look(client, target) == ("done", len(wanted), len(wanted))
    assert len(wanted) > 1700
    assert steps > 60
    assert {row[0] for row in await rows(database, BROUGHT)} == wanted | waiting
    assert await value(database, TWICE) == 1
    assert await rows(database, OTHERS) == others
    assert await value(
        database, "select bool_and(replayed = attempts) from deliveries where attempts = 3 and replayed > 0"
    )
    assert await value(database, "select count(*) from deliveries where replayed = 3") == 150
    assert (
        await value(database, "select count(*) from deliveries where state = 'pending' and ended_at is not null") == 0
    )
    # It says how far it is: first what is missing, then what is done of it.
    assert [done for _, _, done in seen] == sorted(done for _, _, done in seen)
    running = [(total, done) for state, total, done in seen if state == "running"]
    assert {total for total, _ in running} == {len(wanted)}
    assert len({done for _, done in running}) > 40


async def test_a_part_of_the_time_is_recovered_to_the_moment(client: httpx2.AsyncClient, database: Database) -> None:
    await put_events(database, "JobCompleted", 50)
    await put_endpoint(database)
    await spread(database)
    # Some happened at the same moment, as in one transaction, and there steps begin and end.
    await run(
        database,
        """
        update outbox set created_at = (select created_at from outbox order by id limit 1 offset 20)
        where id in (select id from outbox order by id limit 15 offset 20)
        """,
    )
    times = [row[0] for row in await rows(database, "select created_at from outbox order by created_at, id")]
    target = await ask(client, since=times[10].isoformat(), until=times[45].isoformat())
    await finish(database, await begin(database, "whe_1"), look=4, most=3)
    assert await look(client, target) == ("done", 35, 35)
    assert await value(database, "select min(event_at) from deliveries") == times[10]
    assert await value(database, "select max(event_at) from deliveries") == times[44]


async def test_two_that_overlap_bring_each_event_once(client: httpx2.AsyncClient, database: Database) -> None:
    await put_events(database, "JobCompleted", 300)
    await put_endpoint(database)
    await spread(database)
    middle = await value(database, "select created_at from outbox order by created_at limit 1 offset 200")
    first = await ask(client, **PAST, until=middle.isoformat())
    second = await ask(client)
    drain = await begin(database, "whe_1")
    await step(database, drain)
    assert (await look(client, second)) == ("counting", 0, 0), "one after the other"
    await finish(database, drain)
    assert await look(client, first) == ("done", 200, 200)
    assert await look(client, second) == ("done", 100, 100)
    third = await ask(client)
    await finish(database, drain)
    assert await look(client, third) == ("done", 0, 0)
    assert await value(database, TWICE) == 1


async def test_events_are_taken_as_they_are_wanted_now(client: httpx2.AsyncClient, database: Database) -> None:
    await put_endpoint(database, "whe_1", "JobRead")
    for kind in ("JobCompleted", "JobFailed"):
        await put_events(database, kind, 5)
    await run(database, "update endpoints set events = '{JobFailed}'")
    await ask(client)
    await finish(database, await begin(database, "whe_1"))
    assert await rows(database, "select distinct type from deliveries") == [("JobFailed",)]


async def test_what_was_being_written_when_it_was_asked_for_is_not_missed(
    client: httpx2.AsyncClient, database: Database, database_url: str
) -> None:
    """An event of a transaction that began before has its time, and becomes visible behind the place."""
    await put_endpoint(database)
    await run(database, "update endpoints set status = 'disabled'")
    pulse = Pulse(database_url, 900)
    async with database.transaction() as tx:
        await tx.connection.execute("select record_event('org_default', 'JobFailed', '{}', null, null, 1)")
        await run(database, "update endpoints set status = 'enabled'")
        target = await ask(client)
        await run(database, "delete from procrastinate_jobs")
        drain = await begin(database, "whe_1")
        assert await step(database, drain) is None
        await pulse.run_once()
        assert await value(database, WAKEUPS) == 0
    await pulse_while(pulse, database, WAKEUPS, 0)
    await pulse.close()
    assert await value(database, WAKEUPS) == 1
    await finish(database, drain)
    assert await look(client, target) == ("done", 1, 1)


async def test_a_transaction_of_somebody_else_holds_it_up_for_a_minute_at_most(
    client: httpx2.AsyncClient, database: Database
) -> None:
    await put_events(database, "JobFailed")
    await put_endpoint(database)
    async with database.transaction() as tx:
        await tx.connection.execute("select pg_current_xact_id()")
        target = await ask(client)
        drain = await begin(database, "whe_1")
        assert await step(database, drain) is None
        await run(database, "update recoveries set created_at = now() - interval '61 seconds'")
        await finish(database, drain)
    assert await look(client, target) == ("done", 1, 1)


# --- when it goes on, and when not -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "closed",
    [
        "update endpoints set status = 'paused'",
        "update lanes set open_at = 'infinity'",
        "update lanes set open_at = now() + interval '1 minute'",
    ],
)
async def test_while_the_endpoint_is_left_alone_it_waits(
    client: httpx2.AsyncClient, database: Database, closed: str
) -> None:
    await put_events(database, "JobFailed", 5)
    await put_endpoint(database)
    target = await ask(client)
    await run(database, closed)
    drain = await begin(database, "whe_1")
    assert await step(database, drain) is None
    await run(database, "update endpoints set status = 'enabled'")
    await run(database, "update lanes set open_at = '-infinity'")
    await finish(database, drain)
    assert await look(client, target) == ("done", 5, 5)


@pytest.mark.parametrize("end", ["status = 'disabled'", "deleted_at = now()"])
async def test_it_stops_when_its_endpoint_is_disabled_or_deleted(
    client: httpx2.AsyncClient, database: Database, end: str
) -> None:
    await put_events(database, "JobFailed", 100)
    await put_endpoint(database)
    await put_endpoint(database, "whe_2")
    target = await ask(client)
    await client.post("/webhooks/whe_2/recover", json=PAST)
    drain = await begin(database, "whe_1")
    for _ in range(3):
        await step(database, drain)
    assert await look(client, target) == ("running", 100, 40)
    await run(database, f"update endpoints set {end} where id = 'whe_1'")
    assert await step(database, drain) is None
    assert await look(client, target) == ("stopped", 100, 40)
    await run(database, "update endpoints set status = 'enabled', deleted_at = null")
    assert await step(database, drain) is None
    assert await value(database, "select state from recoveries where endpoint_id = 'whe_2'") == "counting"


async def test_the_pulse_wakes_the_lane_while_there_is_something_to_recover(
    client: httpx2.AsyncClient, database: Database, database_url: str
) -> None:
    await put_events(database, "JobFailed", 1)
    await put_endpoint(database)
    pulse = Pulse(database_url, 900)

    async def woken() -> int:
        await run(database, "delete from procrastinate_jobs")
        await pulse.run_once()
        return int(await value(database, WAKEUPS))

    assert await woken() == 0
    await ask(client)
    assert await woken() == 1
    await run(database, "update lanes set open_at = now() + interval '1 minute'")
    assert await woken() == 0
    await run(database, "update lanes set open_at = '-infinity'")
    await finish(database, await begin(database, "whe_1"))
    assert await woken() == 1, "what it brought is due"
    await run(database, "delete from deliveries")
    assert await woken() == 0
    await pulse.close()


async def test_one_that_ended_is_forgotten_with_what_it_was_about(
    client: httpx2.AsyncClient, database: Database
) -> None:
    await put_endpoint(database)
    for state, days in (("done", 91), ("stopped", 91), ("done", 89)):
        await run(
            database,
            "insert into recoveries (id, org_id, endpoint_id, since, until, place_at, state, ended_at) "
            "values (%s, 'org_default', 'whe_1', now(), now(), now(), %s, now() - %s * interval '1 day')",
            f"rec_{state}_{days}", state, days,
        )  # fmt: skip
    target = await ask(client)
    await run(database, "update recoveries set created_at = now() - interval '1000 days' where ended_at is null")
    await keep_up(database, batch=1)
    assert await value(database, "select count(*) from recoveries") == 2
    assert (await client.get(target)).status_code == 200


async def test_a_million_that_it_has_received_hold_up_no_request(
    client: httpx2.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking goes on for a moment; then whoever has requests under way looks after them."""
    await put_endpoint(database)
    await put_events(database, "JobFailed", 100)
    await run(database, "update deliveries set state = 'delivered', ended_at = now()")
    await ask(client)
    drain = await begin(database, "whe_1")
    monkeypatch.setattr(recovering, "EVENTS_PER_STATEMENT", 10)
    monkeypatch.setattr(recovering, "PATIENCE", 0.0)
    turns = 0
    while await recover(database, drain, 8):
        turns += 1
    assert turns > 20


# --- with a receiver ---------------------------------------------------------------------------------------------


@pytest.mark.long
async def test_it_arrives_each_once_and_what_happens_meanwhile_does_not_wait_for_it(
    client: httpx2.AsyncClient, database: Database
) -> None:
    await put_events(database, "JobCompleted", 2000)

    async def happen() -> None:
        if len(scripted.got) == 700:
            await put_events(database, "JobFailed")

    async with receiving() as (url, scripted), working(database) as work:
        scripted.meanwhile = happen
        await add_endpoint(database, url)
        target = await ask(client)
        async with asyncio.timeout(60):
            while (await look(client, target))[0] != "done" or (await states(database)).keys() != {"delivered"}:
                drain = await begin(database, "whe_1")
                await work.begin(drain)
                await work.one(drain)
    assert await look(client, target) == ("done", 2000, 2000)
    got = [headers["webhook-id"] for headers, _ in scripted.got]
    assert len(got) == len(set(got)) == 2001
    live = await value(database, "select event_id from deliveries where type = 'JobFailed'")
    assert got.index(live) <= 700 + DELIVERIES_PER_SLOT * 32 + 2 * 32


async def test_no_more_are_open_than_an_endpoint_may_have(client: httpx2.AsyncClient, database: Database) -> None:
    endpoint = await put_endpoint(database)
    await put_events(database, "JobCompleted")
    span = {"since": "2026-01-01T00:00:00Z"}
    answers = [await client.post(f"/webhooks/{endpoint}/recover", json=span) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [202] * 5 + [409]
    assert answers[-1].json()["detail"] == f"5 recoveries of {endpoint} are not done yet: wait for them."
    await run(database, "update recoveries set state = 'done' where id = (select min(id) from recoveries)")
    assert (await client.post(f"/webhooks/{endpoint}/recover", json=span)).status_code == 202
