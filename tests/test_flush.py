"""The flusher: orders that come meanwhile go together, and none is answered for another."""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from fixtures_api import KEY, client_of, new_account, rows, running, settings
from fixtures_history import run
from fixtures_lanes import value
from fixtures_webhooks import put_org

import server
from api.sending import flush
from api.sending.acceptance import Acceptance, Accepted, Order, Outcome
from api.sending.flush import FLUSHES, MOST_ORDERS, Flusher
from api.sending.send_request import SendRequest
from bench.http_load import post
from crypto import hash_key
from errors import DatabaseBusy, DatabaseSlow, DatabaseUnavailable
from sql.database import Database
from sql.roles import Role
from wiring.api import create_app, make_acceptance

pytestmark = pytest.mark.timeout(60)

ORG, PHONE = "org_default", "15551230001"


class Watched(Acceptance):
    """Acceptance that tells how many orders each statement has, and waits before each while it is held."""

    def __init__(self, acceptance: Acceptance) -> None:
        super().__init__(acceptance.database, acceptance.ttl, acceptance.dedupe, acceptance.max_queued)
        self.__dict__ |= {"sizes": [], "free": asyncio.Event(), "fault": None}
        self.free.set()

    sizes: list[int]
    free: asyncio.Event
    fault: Exception | None

    async def insert(self, orders: Sequence[Order], patience: float = 2.0) -> list[Outcome]:
        self.sizes.append(len(orders))
        await self.free.wait()
        if self.fault:
            raise self.fault
        return await super().insert(orders, patience)


@asynccontextmanager
async def flushing(database_url: str) -> AsyncIterator[tuple[Flusher, Watched, asyncio.Event]]:
    async with running(database_url) as app, client_of(app) as client:
        await new_account(client)
    async with Database(database_url, Role.API) as database:
        watched, fatal = Watched(make_acceptance(settings(), database)), asyncio.Event()
        flusher = Flusher(watched, fatal)
        async with flusher.kept():
            yield flusher, watched, fatal


async def begun(watched: Watched, flushes: int) -> None:
    """Wait until so many flushes have begun."""
    async with asyncio.timeout(10):
        while len(watched.sizes) < flushes:
            await asyncio.sleep(0)


def order(name: str, message: str = "Hello") -> Order:
    fields = {"phone": PHONE, "message": message, "idempotency_key": name}
    return Order(SendRequest.model_construct(None, **fields), hash_key(KEY), "req_1")


async def test_what_comes_during_a_flush_goes_with_the_next_one(database_url: str, database: Database) -> None:
    async with flushing(database_url) as (flusher, watched, _):
        watched.free.clear()
        asking = []
        for number in range(MOST_ORDERS + FLUSHES + 10):
            asking.append(asyncio.create_task(flusher.accept(ORG, order(f"k{number}"))))
            if number < FLUSHES:
                await begun(watched, number + 1)
        await asyncio.sleep(0)
        watched.free.set()
        answers = await asyncio.gather(*asking)
        assert watched.sizes == [*[1] * FLUSHES, MOST_ORDERS, 10]
        assert [answer.job_id for answer in answers if isinstance(answer, Accepted)] == [
            f"k{number}" for number in range(len(asking))
        ]
    assert await value(database, "select count(*) from jobs") == len(asking)


async def test_orders_of_one_size_go_together_up_to_a_mebibyte(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with flushing(database_url) as (flusher, watched, _):
        monkeypatch.setattr(flush, "MOST_BYTES", 3 * len(order("k1").row) + 1)
        watched.free.clear()
        asking = [asyncio.create_task(flusher.accept(ORG, order(f"k{number}"))) for number in range(7)]
        await begun(watched, 1)
        watched.free.set()
        await asyncio.gather(*asking)
        assert watched.sizes == [3, 3, 1]
        assert flusher._all_bytes == 0


async def test_orgs_take_turns(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with flushing(database_url) as (flusher, watched, _):
        monkeypatch.setattr(flush, "MOST_ORDERS", 4)
        watched.free.clear()
        first = [asyncio.create_task(flusher.accept(ORG, order(f"first{number}"))) for number in range(8)]
        await begun(watched, 1)
        many = [asyncio.create_task(flusher.accept(ORG, order(f"k{number}"))) for number in range(8)]
        await asyncio.sleep(0)
        few = [asyncio.create_task(flusher.accept(org, order(f"{org}{number}"))) for org in "ab" for number in range(2)]
        await asyncio.sleep(0)
        taken = [[waiting.org for waiting in flusher._take()] for _ in range(3)]
        assert taken == [[ORG, "a", "b", ORG], ["a", "b", ORG, ORG], [ORG] * 4]
        watched.free.set()
        for task in (*many, *few):
            task.cancel()
        await asyncio.gather(*first)


async def test_an_order_that_postgres_cannot_store_fails_alone(database_url: str, database: Database) -> None:
    async with flushing(database_url) as (flusher, watched, fatal):
        watched.free.clear()
        orders = [order(f"k{number}", "\x00" if number == 5 else "Hello") for number in range(20)]
        asking = [asyncio.create_task(flusher.accept(ORG, each)) for each in orders]
        await begun(watched, 1)
        watched.free.set()
        answers = await asyncio.gather(*asking, return_exceptions=True)
        assert [isinstance(answer, Accepted) for answer in answers] == [number != 5 for number in range(20)]
        assert "unicode" in str(answers[5]).lower()
        assert not fatal.is_set()
    assert await value(database, "select count(*) from jobs") == 19


async def test_a_lost_connection_is_told_to_all_and_not_tried_again(database_url: str, database: Database) -> None:
    async with flushing(database_url) as (flusher, watched, _):
        watched.fault = DatabaseUnavailable()
        asking = (flusher.accept(ORG, order(f"k{number}")) for number in range(20))
        answers = await asyncio.gather(*asking, return_exceptions=True)
        assert {type(answer) for answer in answers} == {DatabaseUnavailable}
        assert sum(watched.sizes) == 20
        watched.fault = None
        assert isinstance(await flusher.accept(ORG, order("last")), Accepted)
    assert await value(database, "select count(*) from jobs") == 1


async def test_clients_that_go_away_end_no_flush(database_url: str, database: Database) -> None:
    async with flushing(database_url) as (flusher, watched, fatal):
        watched.free.clear()
        asking = [asyncio.create_task(flusher.accept(ORG, order(f"k{number}"))) for number in range(1000)]
        await begun(watched, 1)
        for task in asking[::2]:
            task.cancel()
        watched.free.set()
        answers = await asyncio.gather(*asking, return_exceptions=True)
        assert [isinstance(answer, Accepted) for answer in answers] == [number % 2 == 1 for number in range(1000)]
        assert not fatal.is_set()
        assert flusher._all_bytes == 0
    kept = {key for (key,) in await rows(database, "select key from jobs")}
    assert kept >= {f"k{number}" for number in range(1, 1000, 2)}


async def test_a_thousand_clients_that_hang_up_and_come_again_have_a_job_each(
    database_url: str, database: Database
) -> None:
    """They hang up within the request, right behind it, or when they have waited a little, with or without a reset."""
    told: list[str | None] = []
    dice, app = random.Random(17), create_app(settings(), Database(database_url, Role.API))  # noqa: S311  # no secret

    async def hang_up(body: bytes) -> None:
        _, writer = await asyncio.open_connection(host, port)
        whole = post("/send", body, x_api_key=KEY)
        writer.write(whole[: dice.choice([len(whole) // 2, len(whole) - 1, len(whole), len(whole)])])
        await asyncio.sleep(dice.choice([0, 0.001, 0.01]))
        (writer.transport.abort if dice.random() < 0.5 else writer.close)()

    with server.listen() as listener:
        host, port = listener.getsockname()
        async with server.running(server.config(app, host, port), listener=listener), client_of(app) as client:
            account = await new_account(client)
            orders = [
                {"phone": PHONE, "message": "Hello", "account": account, "idempotencyKey": f"k{number}"}
                for number in range(1000)
            ]
            for first in range(0, 1000, 100):
                some = orders[first : first + 100]
                await asyncio.gather(*(hang_up(json.dumps(order).encode()) for order in some))
                answers = await asyncio.gather(*(client.post("/send", json=order) for order in some))
                assert Counter(answer.status_code for answer in answers) == {202: 100}
                told += [answer.headers.get("idempotent-replayed") for answer in answers]
        assert (app.state.flusher._orgs, app.state.flusher._all_bytes) == ({}, 0)
    assert 100 < told.count("true") < 900
    assert await value(database, "select count(*) from jobs") == 1000
    assert await value(database, "select count(*) from job_keys") == 1000


async def test_who_waits_too_long_for_a_flush_is_told_so(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was taken is waited for, however long: it may be a job already."""
    monkeypatch.setattr(flush, "PATIENCE", 60.0)
    monkeypatch.setattr(flush, "LONGEST_LINE", 0.1)
    async with flushing(database_url) as (flusher, watched, _):
        watched.free.clear()
        stuck = []
        for number in range(FLUSHES):
            stuck.append(asyncio.create_task(flusher.accept(ORG, order(f"stuck{number}"))))
            await begun(watched, number + 1)
        flusher.admit(ORG)
        first = asyncio.create_task(flusher.accept(ORG, order("first")))
        await asyncio.sleep(0.12)
        with pytest.raises(DatabaseBusy) as busy:
            flusher.admit(ORG)
        assert busy.value.retry_after
        flusher.admit("org_other")
        monkeypatch.setattr(flush, "PATIENCE", 0.2)
        asking = [asyncio.create_task(flusher.accept(ORG, order(f"k{number}"))) for number in range(3)]
        answers = await asyncio.gather(*asking, return_exceptions=True)
        assert {type(answer) for answer in answers} == {DatabaseBusy}
        assert not any(task.done() for task in (*stuck, first))
        watched.free.set()
        assert all(isinstance(answer, Accepted) for answer in await asyncio.gather(*stuck, first))
        assert isinstance(await flusher.accept(ORG, order("last")), Accepted)
        assert flusher._all_bytes == 0
        assert watched.sizes == [1] * (FLUSHES + 2), "what was refused is in no flush"


async def test_an_org_that_fills_the_memory_is_turned_away_alone(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with flushing(database_url) as (flusher, watched, _):
        monkeypatch.setattr(flush, "MOST_OF_AN_ORG", 3 * len(order("k1").row) + 1)
        watched.free.clear()
        asking = [asyncio.create_task(flusher.accept(ORG, order(f"k{number}"))) for number in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(DatabaseBusy):
            await flusher.accept(ORG, order("k3"))
        other = asyncio.create_task(flusher.accept("org_other", order("k4")))
        watched.free.set()
        assert all(isinstance(answer, Accepted) for answer in await asyncio.gather(*asking, other))


async def test_a_name_that_somebody_holds_stops_no_other_org(database_url: str, database: Database) -> None:
    await put_org(database, "org_other")
    await database.all("create_key", id="key_o", org="org_other", name="", hash=b"other", signing_secret=None)
    lane = "insert into lanes (id, org_id, kind, queue) values ('acc_o', 'org_other', 'account', 'account')"
    await run(database, lane)
    account = "insert into accounts (id, org_id, name, transport) values ('acc_o', 'org_other', 'x', 'sandbox')"
    await run(database, account)
    async with flushing(database_url) as (flusher, watched, _), database.transaction() as tx:
        held = "insert into job_keys (org_id, key_hash, job_id, content_hash) values (%s, sha256('k'), 'x', '')"
        await tx.connection.execute(held, [ORG])
        watched.free.clear()
        ours = asyncio.create_task(flusher.accept(ORG, order("k")))
        theirs = [
            asyncio.create_task(flusher.accept("org_other", replace(order(f"k{number}"), key_hash=b"other")))
            for number in range(100)
        ]
        await begun(watched, 1)
        began = time.monotonic()
        watched.free.set()
        assert all(isinstance(answer, Accepted) for answer in await asyncio.gather(*theirs))
        took = time.monotonic() - began
        with pytest.raises(DatabaseSlow):
            await ours
        assert took < time.monotonic() - began
        assert watched.sizes == [101, 1, 100], "the statement, and then each org for itself"


async def test_a_wake_up_that_somebody_holds_delays_no_message(database_url: str, database: Database) -> None:
    async with flushing(database_url) as (flusher, _, fatal):
        await run(database, "update lanes set open_at = '-infinity'")
        async with database.transaction() as tx:
            await tx.all("wake", lanes=[await value(database, "select id from accounts")])
            for number in range(3):
                assert isinstance(await flusher.accept(ORG, order(f"k{number}")), Accepted)
            assert not fatal.is_set()
            await tx.connection.execute("rollback")


async def test_a_flusher_that_ends_ends_the_process(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with flushing(database_url) as (flusher, _, fatal):
        monkeypatch.setattr(flusher, "_take", lambda: 1 / 0)
        with pytest.raises(DatabaseBusy):
            await flusher.accept(ORG, order("k"))
        assert fatal.is_set()
