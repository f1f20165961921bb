"""Connections that end, go silent, lead elsewhere or run out: every part goes on by itself."""

import ast
import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import psycopg
import pytest
from fixtures_api import client_of, new_account, settings
from fixtures_lanes import SENT, add_jobs, add_lanes, lane_worker, until, value
from fixtures_server import living, own_server, wire_to

from errors import DatabaseUnavailable
from sql.database import Database
from sql.pool import Connection
from sql.roles import Role
from wiring.api import create_app

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.timeout(120)

#: Seconds of silence until a worker is dead: more than a busy machine keeps one waiting, less than Postgres is away.
DEAD = 3.0
#: Listeners by their last statement: the first, or their own look whether they are still connected.
LISTENING = (
    "select string_agg(pid::text, ',') from pg_stat_activity where datname = current_database() "
    "and application_name = 'postrider queue' and query similar to '(LISTEN|SELECT 1)%'"
)
END = (
    "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() "
    "and application_name like %s and pid <> pg_backend_pid()"
)


@pytest.fixture
async def observer(database_url: str) -> AsyncIterator[Database]:
    """A pool that no test takes for one of ours."""
    async with Database(database_url, name="observer") as database:
        yield database


async def hears_again(observer: Database, before: str) -> None:
    """Wait until there is one listener, and not the one that was."""
    async with asyncio.timeout(40):
        while (now := await value(observer, LISTENING)) in {None, before} or "," in now:
            await asyncio.sleep(0.05)


async def listening(observer: Database) -> str:
    async with asyncio.timeout(30):
        while not (pid := await value(observer, LISTENING)):
            await asyncio.sleep(0.02)
    return str(pid)


async def write(database: Database, lane: str, **values: str) -> None:
    """Add a job, as soon as Postgres takes it."""
    async with asyncio.timeout(30):
        while True:
            try:
                await add_jobs(database, lane, **values)  # type: ignore[arg-type]  # phone alone
            except DatabaseUnavailable:
                await asyncio.sleep(0.1)
            else:
                return


# --- connections that are ended -----------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("name", ["postrider worker", "postrider queue", "postrider pulse", "postrider%"])
async def test_a_worker_whose_connections_are_ended_again_and_again_goes_on(
    observer: Database, database_url: str, name: str
) -> None:
    await add_lanes(observer, "a", "b")
    async with living(database_url) as worker:
        await add_jobs(observer, "a")
        await until(observer, SENT, 1)
        before = await listening(observer)
        for round_ in range(3):
            async with observer.transaction() as tx:
                await tx.connection.execute(END, [name])
            await add_jobs(observer, "ab"[round_ % 2], phone=f"155{round_}")
            await until(observer, SENT, 2 + round_)
        if name in {"postrider queue", "postrider%"}:
            await hears_again(observer, before)
        await add_jobs(observer, "b", seconds=1, phone="1777", wake=False)
        await until(observer, SENT, 5)
        assert await value(observer, "select count(*) from jobs where sequence <> 1") == 0
        assert [consumer.procrastinate_id is not None for consumer in worker.consumers] == [True]


@pytest.mark.long
async def test_a_restart_of_postgres_ends_nobody(caplog: pytest.LogCaptureFixture) -> None:
    with own_server() as server:
        async with Database(server.url, name="observer") as observer, living(server.url, dead=DEAD) as worker:
            await add_lanes(observer, "a")
            await add_jobs(observer, "a")
            await until(observer, SENT, 1)
            # The pulse has watched for long enough to call somebody dead.
            async with asyncio.timeout(30):
                while not (since := worker.pulse._judging_from) or await value(observer, "select now()") <= since:
                    await asyncio.sleep(0.1)
            for sent, mode in enumerate(("fast", "immediate"), 2):
                before = await value(observer, LISTENING)
                await asyncio.to_thread(server.restart, mode, away=DEAD + 1)
                await write(observer, "a", phone=f"155{sent}")
                await until(observer, SENT, sent)
                await hears_again(observer, before)
            assert await value(observer, "select string_agg(id, ',') from workers") == worker.id
    assert "found dead" not in caplog.text


# --- connections that go silent -----------------------------------------------------------------------------------


async def test_connections_that_go_silent_are_noticed_and_made_anew(
    observer: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither side's TCP sees it: what stands between takes every packet and passes nothing on."""
    monkeypatch.setattr(Connection, "patience", 2.0)
    await add_lanes(observer, "a")
    async with wire_to(database_url) as wire, living(wire.url):
        await add_jobs(observer, "a")
        await until(observer, SENT, 1)
        before = await listening(observer)
        wire.silence()
        await add_jobs(observer, "a", phone="1666")
        await until(observer, SENT, 2, seconds=60)
        await hears_again(observer, before)


async def test_a_server_that_says_nothing_to_anybody_is_away_within_a_bound(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Connection, "patience", 1.0)
    async with wire_to(database_url) as wire, Database(wire.url) as database:
        assert await database.one("database_time")
        wire.silence(dead=True)
        for _ in range(2):
            async with asyncio.timeout(30):
                with pytest.raises(DatabaseUnavailable):
                    await database.one("database_time")
        wire.dead = False
        async with asyncio.timeout(30):
            while True:
                try:
                    assert await database.one("database_time")
                except DatabaseUnavailable:
                    continue
                break


async def test_an_answer_that_does_not_come_ends_its_statement(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is there and works on it, or waits for a lock."""
    monkeypatch.setattr(Connection, "patience", 0.5)
    async with Database(database_url) as database:
        async with asyncio.timeout(30):
            with pytest.raises(DatabaseUnavailable):
                await value(database, "select pg_sleep(120)")
        assert await database.one("database_time")


async def test_a_statement_that_was_given_up_does_not_commit_later(
    observer: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for a lock; the caller has been told by then that nothing was accepted."""
    await add_lanes(observer, "a")
    ended = "select (count(*) = 0)::text from pg_stat_activity where application_name = 'given up' and state = 'active'"
    async with Database(database_url, name="given up") as database:
        async with observer.transaction() as tx:
            await tx.connection.execute("select from lanes where id = 'a' for update")
            with monkeypatch.context() as patch, pytest.raises(DatabaseUnavailable):
                patch.setattr(Connection, "patience", 0.5)
                await database.all("begin_drain", lane="a", worker=None, wakeup=0)
        await until(observer, ended, "true")
        assert await value(observer, "select epoch from lanes") == 0


async def test_lost_packets_are_noticed_by_tcp_on_every_kind_of_connection(database_url: str) -> None:
    async with wire_to(database_url) as wire, lane_worker(wire.url, "wrk_a") as worker:
        await worker.renew()
        await worker.pulse.run_once()
        assert worker.pulse._connection
        connector = worker.app.connector
        async with (
            worker.database.transaction() as tx,
            connector.pool.connection() as queue,  # type: ignore[attr-defined]  # PsycopgConnector's
            connector._get_standalone_connection() as listener,  # type: ignore[attr-defined]
        ):
            for connection in (tx.connection, queue, listener, worker.pulse._connection):
                assert isinstance(connection, Connection)
                with socket.socket(fileno=socket.dup(connection.fileno())) as end:
                    assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 15_000
                    assert end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
                    assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 10
                row = await (await connection.execute("show statement_timeout")).fetchone()
                assert row == ("9s",)


# --- a server that takes no writes, and another one at the same address -------------------------------------------


async def test_a_server_that_takes_no_writes_for_a_while_is_waited_for(observer: Database, database_url: str) -> None:
    """Each session keeps what it found when it began: those of that time are closed, or would never write again."""
    name = psycopg.conninfo.conninfo_to_dict(database_url)["dbname"]
    await add_lanes(observer, "a")
    app = create_app(settings(), Database(database_url, Role.API, name="postrider api"))
    async with app.router.lifespan_context(app), client_of(app) as client, living(database_url):
        account = await new_account(client)
        body = {"account": account, "phone": "+4915112345678", "message": "hello"}
        await add_jobs(observer, "a")
        await until(observer, SENT, 1)
        async with observer.transaction() as tx:
            await tx.connection.execute(f"alter database {name} set default_transaction_read_only = on")
        async with observer.transaction() as tx:
            await tx.connection.execute(END, ["postrider%"])
        await add_jobs(observer, "a", phone="1666")
        for _ in range(3):
            refused = await client.post("/send", json=body)
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) > 0
        assert await value(observer, SENT) == 1
        async with observer.transaction() as tx:
            await tx.connection.execute(f"alter database {name} reset default_transaction_read_only")
        await until(observer, SENT, 2, seconds=60)
        async with asyncio.timeout(30):
            while (await client.post("/send", json=body)).status_code != 202:
                await asyncio.sleep(0.1)


@pytest.mark.long
async def test_a_failover_to_a_standby_at_the_same_address_goes_on_there() -> None:
    with own_server() as server:
        standby = await asyncio.to_thread(server.replicate)
        async with (
            Database(server.url, name="observer") as first,
            Database(standby, name="observer") as second,
            wire_to(server.url) as wire,
            living(wire.url, dead=1.0) as worker,
        ):
            await add_lanes(first, "a")
            await add_jobs(first, "a")
            await until(first, SENT, 1)
            await add_jobs(first, "a", seconds=3, phone="1666")
            lsn = await value(first, "select pg_current_wal_lsn()::text")
            await until(second, f"select (pg_last_wal_replay_lsn() >= '{lsn}')::text", "true")
            await asyncio.to_thread(server.ctl, "-m", "immediate", "stop")
            wire.target = standby
            # Its sessions take no writes yet, and what began before the promotion finds out.
            ours = "select (count(*) > 0)::text from pg_stat_activity where application_name like 'postrider%'"
            await until(second, ours, "true")
            await asyncio.to_thread(server.ctl, "promote", data=server.standby)
            await until(second, SENT, 2, seconds=60)
            await write(second, "a", phone="1777")
            await until(second, SENT, 3)
            assert await value(second, "select string_agg(id, ',') from workers") == worker.id


# --- more callers than connections --------------------------------------------------------------------------------


async def test_more_drains_than_connections_take_turns(observer: Database, database_url: str) -> None:
    """A drain that held one connection while it waits for another would stand for ever."""
    lanes = [f"lane{n}" for n in range(20)]
    await add_lanes(observer, *lanes)
    for lane in lanes:
        await add_jobs(observer, lane, 3)
    async with living(database_url, pool=1) as worker:
        await until(observer, SENT, 60, seconds=60)
        assert worker.recorder.most_at_once == 1


async def test_more_requests_than_connections_are_told_when_to_come_back(database_url: str) -> None:
    database = Database(database_url, Role.API, size=2)
    app = create_app(settings(), database)
    async with app.router.lifespan_context(app), client_of(app) as client:
        body = {"account": await new_account(client), "phone": "+4915112345678", "message": "hello"}
        batch = {"jobs": [body]}
        async with database.transaction(), database.transaction(), asyncio.timeout(30):
            answers = await asyncio.gather(*(client.post("/send/batch", json=batch) for _ in range(20)))
        assert {answer.status_code for answer in answers} == {503}
        assert all(int(answer.headers["retry-after"]) > 0 for answer in answers)
        answers = await asyncio.gather(*(client.post("/send/batch", json=batch) for _ in range(10)))
        assert {answer.status_code for answer in answers} == {httpx2.codes.OK}


def calls(node: ast.AST, names: set[str]) -> list[ast.Call]:
    """Return the calls of these methods on anything named database."""
    return [
        call
        for call in ast.walk(node)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr in names
        and ast.unparse(call.func.value).endswith("database")
    ]


def test_nothing_asks_for_a_connection_while_it_holds_one() -> None:
    inside = 0
    for path in [path for room in ("api", "tasks") for path in (ROOT / room).rglob("*.py")]:
        for block in ast.walk(ast.parse(path.read_text())):
            if isinstance(block, ast.AsyncWith) and any(calls(item, {"transaction"}) for item in block.items):
                inside += 1
                asked = [call for part in block.body for call in calls(part, {"all", "one", "read", "transact"})]
                assert not asked, f"{path.name}:{asked[0].lineno} asks for a second connection"
    assert inside > 4, "this looks at what there is"
