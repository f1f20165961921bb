"""How many messages of an account wait: counted as they come and go, read without counting, counted anew in turn."""

import asyncio
import logging
import random

import psycopg
import pytest
from fixtures_api import api, new_account, rows
from fixtures_lanes import AS, add_jobs
from fixtures_postgres import WRONG_DEPTHS

from sql.database import Database
from tasks.upkeep import RECOUNTS, Upkeep

PHONE = "15551230001"
DEPTH = "select lane_queued(id) from accounts order by created_at, id"
#: what may happen to an account's jobs
MOVES = (
    f"update jobs set {AS['sending']} where id in (select id from mine where state = 'queued' limit 7)",
    f"update jobs set {AS['queued']} where id in (select id from mine where state = 'sending' limit 3)",
    f"update jobs set {AS['sent']} where id in (select id from mine where state = 'sending' limit 2)",
    "update jobs set due_at = due_at + interval '1 s' where id in (select id from mine where state = 'queued')",
    "delete from jobs where id in (select id from mine limit 2)",
    f"update jobs set {AS['queued']} where id in (select id from mine where state in ('sent', 'queued'))",
)
MINE = "with mine as (select * from jobs where account_id = %s) "


def upkeep(database: Database) -> Upkeep:
    return Upkeep(database, keepalive_days=0, retention_days=0)


async def test_jobs_are_counted_as_they_come_and_go(database_url: str, database: Database) -> None:
    async with api(database_url) as client:
        accounts = [await new_account(client, name) for name in ("a", "b")]
        for account in accounts:
            await add_jobs(database, account, 100, wake=False)

    async def move(seed: int) -> None:
        rng = random.Random(seed)  # noqa: S311  # no secret
        async with await psycopg.AsyncConnection.connect(database_url) as connection:
            for _ in range(30):
                try:
                    async with connection.transaction():
                        await connection.execute(MINE + rng.choice(MOVES), [rng.choice(accounts)])
                        if not rng.randrange(4):
                            raise psycopg.Rollback
                except psycopg.errors.DeadlockDetected:
                    continue  # these statements lock jobs in any order; nothing of them remains

    await asyncio.gather(*(move(seed) for seed in range(4)))
    assert await rows(database, WRONG_DEPTHS) == []
    assert sum(queued for (queued,) in await rows(database, DEPTH)) > 0
    parts = await rows(database, "select count(*), count(distinct lane_id) from lane_depth")
    assert parts[0][0] > parts[0][1] == 2, "connections add to parts of their own"


async def test_a_connection_does_not_wait_for_one_that_adds_to_another_part(
    database_url: str, database: Database
) -> None:
    async with api(database_url) as client:
        account = await new_account(client)
        await add_jobs(database, account, 2, wake=False)
    take = f"""
        update jobs set {AS["sending"]}
        where id = (select id from jobs where state = 'queued' limit 1 for update skip locked)
    """
    connect = psycopg.AsyncConnection.connect
    async with await connect(database_url) as one, await connect(database_url) as two:
        assert (one.info.backend_pid - two.info.backend_pid) % 16, "two that follow each other have parts of their own"
        await two.execute("set lock_timeout = 2000")
        await one.execute(take)
        await two.execute(take)
        await two.commit()
        assert await rows(database, DEPTH) == [(1,)]
        await one.commit()
    assert await rows(database, DEPTH) == [(0,)]


async def test_the_bound_is_read_and_not_counted_and_a_wrong_count_is_corrected(
    database_url: str, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    async with api(database_url, max_queued=3) as client:
        account = await new_account(client)
        order = {"phone": PHONE, "message": "Hello"}
        await rows(
            database,
            "insert into lane_depth (lane_id, stripe, org_id, queued) "
            "select id, 0, org_id, 3 from accounts returning 1",
        )
        full = await client.post("/send", json=order)
        with caplog.at_level(logging.INFO, "tasks.upkeep"):
            await upkeep(database).run_once()
        said = [(record.account, record.missed) for record in caplog.records if record.event == "depth.wrong"]  # type: ignore[attr-defined]
        accepted = await client.post("/send", json=order)
        assert (await client.get(f"/accounts/{account}")).json()["queued"] == 1
        caplog.clear()
        await upkeep(database).run_once()
    assert (full.status_code, full.json()["code"]) == (429, "queue_full")
    assert said == [(account, -3)]
    assert accepted.status_code == 202
    assert caplog.records == []


async def test_every_lane_is_counted_anew_in_turn(database_url: str, database: Database) -> None:
    async with api(database_url) as client:
        for number in range(RECOUNTS + 3):
            await new_account(client, str(number))
    for _ in range(2):
        await upkeep(database).run_once()
    assert await rows(database, "select count(*) from lane_depth where stripe = 16") == [(RECOUNTS + 3,)]
    ((before,),) = await rows(database, "select max(counted_at) from lane_depth")
    for _ in range(2):
        await upkeep(database).run_once()
    ((after,),) = await rows(database, "select min(counted_at) from lane_depth")
    assert after > before


async def test_what_was_queued_before_there_was_a_count_is_counted_once(database: Database, database_url: str) -> None:
    async with api(database_url) as client:
        account = await new_account(client)
        await add_jobs(database, account, 25, wake=False)
        await rows(database, "delete from lane_depth returning 1")
        await add_jobs(database, account, 5, wake=False)
        found = await asyncio.gather(*(rows(database, "select recount_depth(id) from accounts") for _ in range(4)))
    assert sorted(found) == [[(0,)], [(0,)], [(0,)], [(25,)]]
    assert await rows(database, DEPTH) == [(30,)]
