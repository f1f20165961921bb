"""What psycopg raises, and what becomes of it: away, busy, slow, full, a collision, or a fault of ours."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import psycopg
import pytest
from fixtures_api import NOWHERE, client_of, settings
from psycopg import errors as postgres

from errors import DatabaseBusy, DatabaseFull, DatabaseSlow, DatabaseUnavailable
from sql.database import COLLISIONS, Database, Transaction, bounded, translate, translated
from sql.roles import Role
from wiring.api import create_app

AWAY = {
    *("08000", "08001", "08003", "08004", "08006", "08007", "08P01"),
    *("25006", "28000", "28P01"),
    *("57000", "57P01", "57P02", "57P03", "57P04", "57P05"),
    *("58000", "58030", "58P01", "58P02", "58P03", "F0000", "F0001"),
}
BUSY = {"53000", "53200", "53300", "53400"}
SLOW = {"25P03", "25P04", "55P03", "57014"}
FULL = {"53100"}
#: All others are raised as they are, however psycopg has sorted them: many a fault of a program is an OperationalError.
MADE_OF = {
    **dict.fromkeys(AWAY, DatabaseUnavailable),
    **dict.fromkeys(BUSY, DatabaseBusy),
    **dict.fromkeys(SLOW, DatabaseSlow),
    **dict.fromkeys(FULL, DatabaseFull),
}
RAISED = [found for found in vars(postgres).values() if isinstance(found, type) and issubclass(found, psycopg.Error)]
WITH_STATE = [found for found in RAISED if found.sqlstate]


@pytest.fixture
async def one(database_url: str) -> AsyncIterator[Database]:
    """A pool of one connection."""
    async with Database(database_url, size=1, patience=0.2, most_waiting=2) as database:
        await opened(database)
        yield database


async def opened(database: Database) -> None:
    """Wait for a connection, which takes longer on a busy machine than a caller is to wait here."""
    while True:
        with suppress(DatabaseUnavailable):
            await database.all("database_time")
            return


@pytest.mark.parametrize("raised", WITH_STATE, ids=lambda raised: f"{raised.sqlstate}-{raised.__name__}")
def test_each_error_of_postgres_is_one_of_ours_or_a_fault(raised: type[psycopg.Error]) -> None:
    found = translate(raised("x"))
    assert (found and type(found)) == MADE_OF.get(raised.sqlstate or "")


def test_each_error_of_the_table_is_one_of_postgres() -> None:
    assert MADE_OF.keys() <= {raised.sqlstate for raised in WITH_STATE}


def test_an_error_without_a_state_is_one_of_the_connection() -> None:
    for raised in (postgres.ConnectionTimeout, psycopg.OperationalError, psycopg.InterfaceError):
        assert type(translate(raised("x"))) is DatabaseUnavailable
    assert translate(psycopg.ProgrammingError("x")) is None


def test_a_collision_is_raised_as_it_is() -> None:
    for collision in COLLISIONS:
        with pytest.raises(collision), translated():
            raise collision


# --- a real Postgres ---------------------------------------------------------------------------------------------


async def test_a_pool_in_use_is_busy_and_one_without_connections_is_away(one: Database) -> None:
    async with one.transaction():
        with pytest.raises(DatabaseBusy) as busy:
            await one.all("database_time")
    assert busy.value.retry_after == 1
    assert await one.all("database_time")
    async with Database(NOWHERE, size=1, patience=0.2) as nowhere:
        with pytest.raises(DatabaseUnavailable):
            await nowhere.all("database_time")


async def test_a_pool_whose_connections_pass_from_one_to_the_next_is_busy(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two callers a connection is lent to nobody, and so is one that is checked: Postgres is not away."""
    # So many callers may take longer than one may, on a machine that is busy with other things.
    monkeypatch.setattr("sql.database.LIMIT", 300.0)
    async with Database(database_url, size=2, patience=0.5) as database:
        await opened(database)
        asked = (database.all("database_time") for _ in range(5000))
        tried = await asyncio.gather(*asked, return_exceptions=True)
    refused = [error for error in tried if isinstance(error, Exception)]
    assert {type(error) for error in refused} == {DatabaseBusy}


async def test_a_share_in_use_is_busy_and_one_without_connections_is_away(database_url: str) -> None:
    async with Database(database_url, size=2) as database:
        share = database.share(1, patience=0.01)
        async with share.transaction():
            with pytest.raises(DatabaseBusy) as busy:
                await share.all("database_time")
            assert await database.all("database_time"), "the other connection is free"
        assert busy.value.retry_after == 1
        assert await share.all("database_time")
    async with Database(NOWHERE, size=2, patience=0.2) as nowhere:
        share = nowhere.share(1, patience=0.01)
        tried = await asyncio.gather(*(share.all("database_time") for _ in range(2)), return_exceptions=True)
        assert [type(error) for error in tried] == [DatabaseUnavailable] * 2


async def test_no_further_caller_is_admitted_while_many_wait(one: Database) -> None:
    async with one.transaction():
        one.admit()
        waiting = [asyncio.create_task(one.all("database_time")) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(DatabaseBusy) as busy:
            one.admit()
        assert busy.value.retry_after == 1
    await asyncio.gather(*waiting, return_exceptions=True)
    one.admit()


async def test_fewer_callers_wait_when_the_line_does_not_end(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Database(database_url, size=1, patience=5, most_waiting=6) as one:
        await opened(one)
        async with one.transaction():
            waiting = [asyncio.create_task(one.all("database_time")) for _ in range(2)]
            await asyncio.sleep(0)
            one.admit()
            with monkeypatch.context() as patch, pytest.raises(DatabaseBusy):
                patch.setattr("sql.database.BURST", 0.0)
                one.admit()
            assert one._pool.backlog_seconds > 0
        await asyncio.gather(*waiting)
        assert one._pool.backlog_seconds == 0, "the line has ended"


async def test_a_statement_that_postgres_stops_is_slow(one: Database) -> None:
    with pytest.raises(DatabaseSlow) as slow:
        async with one.transaction() as tx:
            await tx.connection.execute("set local statement_timeout = 20")
            await tx.connection.execute("select pg_sleep(5)")
    assert slow.value.retry_after is None, "again it would take as long"
    assert await one.all("database_time")


async def test_a_lock_that_takes_too_long_and_a_transaction_that_does_are_slow(database_url: str) -> None:
    async with Database(database_url, size=2) as database, database.transaction() as holder:
        await holder.connection.execute("lock table jobs")
        with pytest.raises(DatabaseSlow):
            async with database.transaction() as tx:
                await tx.connection.execute("set local lock_timeout = 20")
                await tx.connection.execute("select from jobs")
        with pytest.raises(DatabaseSlow), translated():
            async with bounded(0.01):
                await asyncio.sleep(5)


@pytest.mark.parametrize("collision", COLLISIONS)
async def test_who_collides_twice_is_told_that_postgres_is_busy(
    one: Database, monkeypatch: pytest.MonkeyPatch, collision: type[Exception]
) -> None:
    tries = []

    async def collide(tx: Transaction, *_: object) -> None:
        tries.append(tx)
        raise collision

    with pytest.raises(DatabaseBusy) as caught:
        await one.transact(collide)
    assert (len(tries), caught.value.retry_after) == (2, 1.0)
    with monkeypatch.context() as patch:
        patch.setattr(Transaction, "all", collide)
        with pytest.raises(DatabaseBusy):
            await one.all("database_time")
    assert len(tries) == 4


async def test_a_fault_of_ours_is_no_outage(one: Database) -> None:
    with pytest.raises(postgres.UndefinedTable):
        async with one.transaction() as tx:
            await tx.connection.execute("select from nothing")


# --- the API -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raised", "code", "retry_after"),
    [
        (DatabaseBusy(retry_after=1), "database_busy", "1"),
        (DatabaseSlow(), "database_slow", None),
        (DatabaseFull(retry_after=60), "database_full", "60"),
        (postgres.DeadlockDetected(), "database_busy", "1"),
    ],
    ids=["busy", "slow", "full", "collision"],
)
async def test_a_request_is_told_what_is_wrong(
    database_url: str, monkeypatch: pytest.MonkeyPatch, raised: Exception, code: str, retry_after: str | None
) -> None:
    app = create_app(settings(), Database(database_url, Role.API))
    async with app.router.lifespan_context(app), client_of(app) as client:

        async def all_(*_: object, **__: object) -> None:
            raise raised

        with monkeypatch.context() as patch:
            patch.setattr(app.state.context.database, "all", all_)
            answer = await client.get("/org")
    assert (answer.status_code, answer.json()["code"]) == (503, code)
    assert answer.headers.get("retry-after") == retry_after
