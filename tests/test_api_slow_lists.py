"""Slow lists: they use some of the connections to Postgres, and leave the others to messages."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import httpx2
import psycopg
import pytest
from fixtures_api import ADMIN_KEY, client_of, new_account, settings
from fixtures_lanes import until
from starlette.applications import Starlette

from api.http.pagination import Page
from app import OPERATIONS
from errors import DatabaseBusy
from sql.database import Database
from sql.roles import Role
from wiring import api

LISTS = {
    operation.path
    for operation in OPERATIONS
    if operation.method == "GET" and (issubclass(operation.query, Page) or operation.path == "/metrics")
}
#: Lists that wait for a lock of `incoming`.
WAITING = "select count(*) from pg_locks where relation = 'incoming'::regclass and not granted"


@pytest.fixture
async def app(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Starlette]:
    monkeypatch.setattr(api, "READING_PATIENCE", 0.1)
    made = api.create_app(settings(), Database(database_url, Role.API))
    async with made.router.lifespan_context(made):
        yield made


@pytest.fixture
async def client(app: Starlette) -> AsyncIterator[httpx2.AsyncClient]:
    async with client_of(app) as client:
        yield client


def check_busy(answer: httpx2.Response) -> None:
    assert (answer.status_code, answer.json()["code"]) == (503, "database_busy"), answer.text
    assert answer.headers["retry-after"] == "1"


async def test_messages_are_accepted_while_lists_have_all_that_they_may_have(
    database_url: str, database: Database, client: httpx2.AsyncClient
) -> None:
    account = await new_account(client)
    async with await psycopg.AsyncConnection.connect(database_url) as holder:
        await holder.execute("lock table incoming in access exclusive mode")
        lists = [asyncio.create_task(client.get("/incoming")) for _ in range(12)]
        await until(database, WAITING, 4)
        sent = await client.post("/send", json={"account": account, "phone": "15556660001", "message": "Hi"})
        assert sent.status_code == 202, sent.text
        check_busy(await client.get("/jobs"))
        await holder.rollback()
    answers = await asyncio.gather(*lists)
    assert sorted(answer.status_code for answer in answers) == [200] * 4 + [503] * 8
    for answer in answers:
        if answer.status_code != 200:
            check_busy(answer)
    assert (await client.get("/jobs")).json()["items"], "it is free again"


async def test_a_request_is_turned_away_at_its_beginning_or_answered(database_url: str) -> None:
    made = api.create_app(settings(), Database(database_url, Role.API, size=1, patience=30, most_waiting=3))
    async with made.router.lifespan_context(made), client_of(made) as client:
        account = await new_account(client)
        batch = {"jobs": [{"account": account, "phone": "15556660001", "message": "Hi"}]}
        async with made.state.context.database.transaction():
            sent = [asyncio.create_task(client.post("/send/batch", json=batch)) for _ in range(20)]
            done, waiting = await asyncio.wait(sent, timeout=10, return_when=asyncio.FIRST_COMPLETED)
            while len(done) < 17:
                done, waiting = await asyncio.wait(sent, timeout=0.05)
        answers = await asyncio.gather(*waiting)
    for each in done:
        check_busy(each.result())
    assert [answer.status_code for answer in answers] == [200] * 3


async def test_every_list_goes_by_the_share_and_nothing_else_does(app: Starlette, client: httpx2.AsyncClient) -> None:
    assert {
        "/jobs",
        "/incoming",
        "/accounts",
        "/opt-outs",
        "/webhooks",
        "/webhooks/{id}/deliveries",
        "/metrics",
    } <= LISTS
    reading = app.state.context.reading
    async with AsyncExitStack() as stack:
        for _ in range(4):
            await stack.enter_async_context(reading.transaction())
        client.headers["x-admin-key"] = ADMIN_KEY
        for operation in OPERATIONS:
            if operation.method == "GET":
                answer = await client.get(re.sub(r"{\w+}", "none", operation.path))
                assert (answer.status_code == 503) == (operation.path in LISTS), (operation.path, answer.text)


@pytest.mark.parametrize(("size", "share"), [(1, 1), (2, 1), (5, 2), (10, 4)])
async def test_lists_have_at_least_one_connection_and_never_all_of_several(
    database_url: str, monkeypatch: pytest.MonkeyPatch, size: int, share: int
) -> None:
    monkeypatch.setattr(api, "READING_PATIENCE", 0.01)
    async with Database(database_url, Role.API, size=size) as database, AsyncExitStack() as stack:
        reading = api.make_context(settings(), database).reading
        for _ in range(share):
            await stack.enter_async_context(reading.transaction())
        with pytest.raises(DatabaseBusy):
            await reading.all("database_time")
