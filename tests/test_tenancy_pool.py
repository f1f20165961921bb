"""Many requests of many orgs on few connections: each sees its own org, and leaves nothing behind."""

import asyncio
import random
from collections.abc import AsyncIterator

import psycopg
import pytest
from fixtures_lanes import until
from psycopg import errors as postgres
from psycopg.sql import SQL

from errors import DatabaseBusy, DatabaseError, DatabaseSlow, OutOfScope
from sql.database import Database
from sql.roles import Role

ORGS = [f"org_{number:02}" for number in range(20)]
CONNECTIONS = 3
DICE = random.Random(16)  # noqa: S311  # no secret


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Database]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        for org in ORGS:
            name = org.removeprefix("org_")
            connection.execute("insert into orgs (org_id, name) values (%s, %s)", [org, org])
            connection.execute(
                "insert into lanes (id, org_id, kind, queue) values (%s, %s, 'account', 'account')",
                [f"acc_{name}", org],
            )
            connection.execute(
                "insert into accounts (id, org_id, name, transport) values (%s, %s, %s, 'sandbox')",
                [f"acc_{name}", org, name],
            )
    async with Database(database_url, Role.API, size=CONNECTIONS, patience=30) as made:
        yield made


async def left_behind(pool: Database) -> list[str]:
    """Return what each connection of the pool has as its org."""
    found = []
    async with asyncio.timeout(30):
        connections = [await pool._pool.getconn() for _ in range(CONNECTIONS)]
        for connection in connections:
            cursor = await connection.execute("select current_setting('app.org', true), current_user")
            org, role = await cursor.fetchone() or ("", "")
            assert role == Role.API
            found.append(org or "")
        for connection in connections:
            await pool._pool.putconn(connection)
    return found


async def asked(pool: Database, org: str, kind: str) -> None:
    """One request: alone or in a transaction, that ends well, or with an error, or is cancelled, or takes too long."""
    scoped = pool.of(org, actor=f"key:{org}")
    limits = {"limits": "{}", "account": None, "after_at": "-infinity", "after_id": "", "limit": 10}
    if kind == "alone":
        rows = await scoped.all("list_accounts", **limits)
        assert [row["name"] for row in rows] == [org.removeprefix("org_")]
        return
    async with scoped.transaction() as tx:
        (row,) = await tx.all("show_org")
        assert row["id"] == org
        if kind == "error":
            await tx.connection.execute("select 1 / 0")
        if kind == "refused":
            await tx.connection.execute("select * from workers")
        if kind == "slow":
            await tx.connection.execute("set local statement_timeout = 20")
            await tx.connection.execute("select pg_sleep(10)")
        if kind == "cancelled":
            await tx.connection.execute("select pg_sleep(10)")
        if kind == "savepoint":
            with pytest.raises(postgres.DivisionByZero):
                async with tx.connection.transaction():
                    await tx.connection.execute("set local app.org = 'org_none'")
                    await tx.connection.execute("select 1 / 0")
        (row,) = await tx.all("show_org")
        assert row["id"] == org


async def one(pool: Database, org: str, kind: str) -> str:
    task = asyncio.create_task(asked(pool, org, kind))
    if kind == "cancelled":
        # At any moment: before it has a connection, while it begins, within a statement.
        await asyncio.sleep(DICE.uniform(0, 0.2))
        task.cancel()
    try:
        await task
    except (asyncio.CancelledError, postgres.DivisionByZero, DatabaseError, OutOfScope) as error:
        return type(error).__name__
    return "well"


async def test_each_request_sees_its_own_org_and_leaves_none_behind(pool: Database) -> None:
    kinds = ["alone", "alone", "transaction", "error", "refused", "slow", "cancelled", "savepoint"]
    wanted = [(DICE.choice(ORGS), kinds[number % len(kinds)]) for number in range(200)]
    ended = await asyncio.gather(*(one(pool, org, kind) for org, kind in wanted))
    outcomes = {kind: {end for (_, each), end in zip(wanted, ended, strict=True) if each == kind} for kind in kinds}
    # Postgres may say first that it has ended the statement; either way nobody waits for the answer.
    outcomes["cancelled"].discard(DatabaseSlow.__name__)
    assert outcomes == {
        "alone": {"well"},
        "transaction": {"well"},
        "savepoint": {"well"},
        "error": {"DivisionByZero"},
        "refused": {"OutOfScope"},
        "slow": {DatabaseSlow.__name__},
        "cancelled": {"CancelledError"},
    }
    assert await left_behind(pool) == [""] * CONNECTIONS


async def test_without_a_scope_nothing_is_seen(pool: Database) -> None:
    assert await pool.all("show_org", org=ORGS[0]) == []
    async with pool.transaction() as tx:
        for table in ("orgs", "accounts", "lanes", "jobs", "endpoints", "deliveries", "api_keys"):
            cursor = await tx.connection.execute(SQL("select count(*) from {}").format(SQL(table)))
            assert await cursor.fetchone() == (0,), table


async def test_a_caller_that_is_bound_to_accounts_sees_no_others(pool: Database, database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "insert into lanes (id, org_id, kind, queue) values ('acc_more', 'org_00', 'account', 'account');"
            "insert into accounts (id, org_id, name, transport) values ('acc_more', 'org_00', 'more', 'sandbox')"
        )
    limits = {"limits": "{}", "account": None, "after_at": "-infinity", "after_id": "", "limit": 10}
    for accounts, seen in ((None, ["00", "more"]), (["acc_more"], ["more"]), (["acc_01"], []), ([], [])):
        rows = await pool.of("org_00", accounts).all("list_accounts", **limits)
        assert sorted(row["name"] for row in rows) == seen, accounts
    bound = pool.of("org_00", ["acc_more"])
    assert await bound.one("pause_account", account="acc_00") is None
    assert await bound.one("pause_account", account="acc_more") is not None


async def test_what_postgres_refuses_is_not_there_and_the_operator_is_told(
    pool: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(OutOfScope) as raised:
        async with pool.of(ORGS[0]).transaction() as tx:
            await tx.connection.execute(
                "insert into opt_outs (id, org_id, phone, reason) values ('opt_1', %s, '1', 'x')", [ORGS[1]]
            )
    assert (raised.value.status, raised.value.code, raised.value.detail) == (
        404,
        "not_found",
        "There is no such thing.",
    )
    [line] = [record for record in caplog.records if vars(record).get("event") == "database.out_of_scope"]
    assert line.levelname == "ERROR"
    assert "opt_outs" in line.getMessage()


async def test_a_transaction_that_failed_is_not_taken_for_committed(pool: Database) -> None:
    with pytest.raises(postgres.InFailedSqlTransaction):
        async with pool.of(ORGS[0]).transaction() as tx:
            with pytest.raises(postgres.DivisionByZero):
                await tx.connection.execute("select 1 / 0")


async def test_a_wake_up_is_of_one_s_own_lanes(pool: Database, database: Database) -> None:
    await pool.of(ORGS[0]).all("wake_own", lanes=["acc_00", "acc_01"])
    await until(database, "select array_agg(lock) from procrastinate_jobs", ["acc_00"])
    await pool.all("wake_own", lanes=["acc_00", "acc_01"])
    await until(database, "select array_agg(lock) from procrastinate_jobs", ["acc_00"])


async def test_a_full_pool_is_busy_also_within_a_scope(pool: Database) -> None:
    scoped = Database(pool.url, Role.API, size=1, patience=0.1).of(ORGS[0])
    async with scoped, scoped.transaction():
        with pytest.raises(DatabaseBusy):
            await scoped.all("show_org")
