"""The flusher: orders that come meanwhile go together, and none is answered for another."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from fixtures_api import client_of, new_account, rows, running, settings
from fixtures_lanes import value

from api.sending import flush
from api.sending.enqueue import Acceptance, Accepted, Order, Outcome
from api.sending.flush import FLUSHES, MOST_ORDERS, Flusher
from api.sending.send_request import SendRequest
from errors import DatabaseBusy, DatabaseUnavailable
from sql.database import Database
from sql.roles import Role
from wiring.api import make_acceptance

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

    async def insert(self, orders: Sequence[Order]) -> list[Outcome]:
        self.sizes.append(len(orders))
        await self.free.wait()
        if self.fault:
            raise self.fault
        return await super().insert(orders)


@asynccontextmanager
async def flushing(database_url: str) -> AsyncIterator[tuple[Flusher, Watched, asyncio.Event]]:
    async with running(database_url) as app, client_of(app) as client:
        await new_account(client)
    async with Database(database_url, Role.API) as database:
        watched, fatal = Watched(make_acceptance(settings(), database)), asyncio.Event()
        flusher = Flusher(watched, fatal)
        async with flusher.kept():
            yield flusher, watched, fatal


def order(name: str, message: str = "Hello") -> Order:
    fields = {"phone": PHONE, "message": message, "idempotency_key": name}
    return Order(SendRequest.model_construct(None, **fields), "key_bootstrap", "req_1")


async def test_what_comes_during_a_flush_goes_with_the_next_one(database_url: str, database: Database) -> None:
    async with flushing(database_url) as (flusher, watched, _):
        watched.free.clear()
        asking = []
        for number in range(MOST_ORDERS + FLUSHES + 10):
            asking.append(asyncio.create_task(flusher.accept(ORG, order(f"k{number}"))))
            if number < FLUSHES:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.01)
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
        await asyncio.sleep(0.01)
        watched.free.set()
        await asyncio.gather(*asking)
        assert watched.sizes == [3, 3, 1]
        assert flusher._bytes == 0


async def test_orgs_take_turns(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with flushing(database_url) as (flusher, watched, _):
        monkeypatch.setattr(flush, "MOST_ORDERS", 4)
        watched.free.clear()
        first = [asyncio.create_task(flusher.accept(ORG, order(f"first{number}"))) for number in range(8)]
        await asyncio.sleep(0.01)
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
        await asyncio.sleep(0.01)
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
        await asyncio.sleep(0.01)
        for task in asking[::2]:
            task.cancel()
        watched.free.set()
        answers = await asyncio.gather(*asking, return_exceptions=True)
        assert [isinstance(answer, Accepted) for answer in answers] == [number % 2 == 1 for number in range(1000)]
        assert not fatal.is_set()
        assert flusher._bytes == 0
    kept = {key for (key,) in await rows(database, "select key from jobs")}
    assert kept >= {f"k{number}" for number in range(1, 1000, 2)}


async def test_who_waits_too_long_is_told_so(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flush, "PATIENCE", 0.2)
    monkeypatch.setattr(flush, "LONGEST_LINE", 0.1)
    async with flushing(database_url) as (flusher, watched, _):
        watched.free.clear()
        stuck = []
        for number in range(FLUSHES):
            stuck.append(asyncio.create_task(flusher.accept(ORG, order(f"stuck{number}"))))
            await asyncio.sleep(0.01)
        flusher.admit(ORG)
        asking = [asyncio.create_task(flusher.accept(ORG, order(f"k{number}"))) for number in range(3)]
        await asyncio.sleep(0.12)
        with pytest.raises(DatabaseBusy) as busy:
            flusher.admit(ORG)
        assert busy.value.retry_after
        flusher.admit("org_other")
        answers = await asyncio.gather(*stuck, *asking, return_exceptions=True)
        assert {type(answer) for answer in answers} == {DatabaseBusy}
        watched.free.set()
        async with asyncio.timeout(5):
            while not isinstance(await flusher.accept(ORG, order("last")), Accepted):
                pass
        assert flusher._bytes == 0
        assert watched.sizes[FLUSHES:] == [1], "nobody waits any more for what was not taken in time"


async def test_a_flusher_that_ends_ends_the_process(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with flushing(database_url) as (flusher, _, fatal):
        monkeypatch.setattr(flusher, "_take", lambda: 1 / 0)
        with pytest.raises(DatabaseBusy):
            await flusher.accept(ORG, order("k"))
        assert fatal.is_set()
