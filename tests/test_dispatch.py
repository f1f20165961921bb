"""An endpoint's lane against a real receiver: how much is asked of it at once, and when it is left alone."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from fixtures_deliveries import add_endpoint, begin, drain_once, make_due, served, take, working
from fixtures_history import waits_for_a_lock
from fixtures_lanes import value
from psycopg.errors import UntranslatableCharacter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sql.database import Database
from tasks.delivery import dispatch
from tasks.delivery.endpoint_health import TRIP
from tasks.delivery.lane import DeliveryWork

GATE = "select coalesce(gate_reason, 'open') || ' ' || (open_at > now()) from lanes where id = 'whe_1'"


@dataclass
class Busy:
    """A receiver that takes a while, and counts how many requests it has at once."""

    answer: Callable[[], Response]
    seconds: float = 0.05
    #: one takes so long, the next twice as long, and so on for so many
    spread: int = 1
    now: int = 0
    most: list[int] = field(default_factory=list)
    at: list[float] = field(default_factory=list)

    async def receive(self, _: Request) -> Response:
        self.at.append(time.monotonic())
        self.now += 1
        self.most.append(self.now)
        await asyncio.sleep(self.seconds * (1 + len(self.at) % self.spread))
        self.now -= 1
        return self.answer()


@asynccontextmanager
async def busy(database: Database, answer: Callable[[], Response], seconds: float = 0.05) -> AsyncIterator[Busy]:
    receiver = Busy(answer, seconds)
    app = Starlette(routes=[Route("/hook", receiver.receive, methods=["POST"])])
    async with served(app) as origin:
        await add_endpoint(database, f"{origin}/hook")
        yield receiver


async def under_way(receiver: Busy) -> None:
    """Wait until the receiver has a request."""
    async with asyncio.timeout(30):
        while not receiver.at:
            await asyncio.sleep(0.01)


async def add_events(database: Database, count: int) -> None:
    async with database.transaction() as tx:
        await tx.connection.execute(
            "select record_event('org_default', 'JobCompleted', '{}', null, null, 1) from generate_series(1, %s)",
            [count],
        )


async def run(database: Database, query: str) -> None:
    async with database.transaction() as tx:
        await tx.connection.execute(query.encode())


@pytest.fixture
async def work(database: Database) -> AsyncIterator[DeliveryWork]:
    async with working(database) as work:
        yield work


def ok() -> Response:
    return Response(status_code=204)


async def test_several_requests_are_under_way_at_once(database: Database, work: DeliveryWork) -> None:
    async with busy(database, ok) as receiver:
        await add_events(database, 40)
        await drain_once(database, work)
    assert 8 <= max(receiver.most) <= 32
    assert await value(database, "select string_agg(distinct state || attempts, ' ') from deliveries") == "delivered1"
    assert await value(database, "select in_flight from endpoints") == 32


async def test_after_an_outage_it_begins_with_one(database: Database, work: DeliveryWork) -> None:
    async with busy(database, ok, seconds=0.3) as receiver:
        await run(database, "update endpoints set in_flight = 1, failures = 20, rests = 3, failing_since = now()")
        await add_events(database, 15)
        await drain_once(database, work)
    assert receiver.most[0] == 1
    assert receiver.most[1:3] == [1, 2], "two after the first success"
    assert await value(database, "select failures + rests from endpoints") == 0
    assert await value(database, "select failing_since is null from endpoints")


async def test_one_that_fails_is_left_alone_as_a_whole(database: Database, work: DeliveryWork) -> None:
    async with busy(database, lambda: Response(status_code=500)) as receiver:
        receiver.spread = 5
        await add_events(database, 100)
        await drain_once(database, work)
        asked = len(receiver.at)
        assert TRIP <= asked <= TRIP + 16
        assert await value(database, "select sum(attempts) from deliveries") == asked, "the others' are not used up"
        assert await value(database, GATE) == "failing true"
        await make_due(database)
        await drain_once(database, work)
        assert len(receiver.at) == asked, "nothing is asked while it rests"
        await run(database, "update lanes set open_at = now()")
        await drain_once(database, work)
        assert len(receiver.at) == asked + 1, "one probe"
    assert await value(database, "select rests from endpoints") == 2, "once for all that was under way"
    assert await value(database, "select open_at > now() + interval '7 s' from lanes where id = 'whe_1'")


async def test_retry_after_holds_for_all_that_waits(database: Database, work: DeliveryWork) -> None:
    def later() -> Response:
        return Response(status_code=503, headers={"retry-after": "120"})

    async with busy(database, later, seconds=0) as receiver:
        await run(database, "update endpoints set in_flight = 1")
        await add_events(database, 3)
        await drain_once(database, work)
    assert len(receiver.at) == 1
    assert await value(database, GATE) == "retry_after true"
    assert await value(
        database,
        "select open_at between now() + interval '110 s' and now() + interval '121 s' from lanes where id = 'whe_1'",
    )


async def test_a_rate_is_kept_and_uses_up_no_attempts(database: Database, work: DeliveryWork) -> None:
    async with busy(database, ok, seconds=0) as receiver:
        await run(database, "update endpoints set per_second = 10")
        await add_events(database, 18)
        await drain_once(database, work)
    assert len(receiver.at) == 18
    assert max(sum(start <= at < start + 1 for at in receiver.at) for start in receiver.at) <= 11
    assert receiver.at[-1] - receiver.at[0] > 1.5
    assert await value(database, "select sum(attempts) from deliveries") == 18


async def test_a_slow_rate_closes_the_gate_in_place_of_a_wait(database: Database, work: DeliveryWork) -> None:
    async with busy(database, ok, seconds=0) as receiver:
        await run(database, "update endpoints set per_second = 0.1")
        await add_events(database, 3)
        await drain_once(database, work)
        assert await value(database, GATE) == "rate_limit true"
        await run(database, "update lanes set open_at = now()")
        await drain_once(database, work)
    assert len(receiver.at) == 1, "also the next drain knows"


async def test_days_of_failures_disable_it(database: Database, work: DeliveryWork) -> None:
    async with busy(database, lambda: Response(status_code=500)) as receiver:
        await run(database, "update endpoints set in_flight = 1, failures = 50, failed_at = now()")
        await run(database, "update endpoints set failing_since = now() - interval '6 days'")
        await add_events(database, 3)
        await drain_once(database, work)
    assert len(receiver.at) == 1
    assert await value(database, "select status || ': ' || status_reason from endpoints") == (
        "disabled: There was nothing but failures for five days."
    )
    await database.all("fail_waiting", endpoints=None, most=10)
    assert await value(database, "select count(*) from deliveries where state = 'failed'") == 3


async def test_gone_from_an_old_url_disables_nothing(database: Database, work: DeliveryWork) -> None:
    async with busy(database, lambda: Response(status_code=410), seconds=1) as receiver:
        await add_events(database, 1)
        draining = asyncio.create_task(drain_once(database, work))
        await under_way(receiver)
        await run(database, "update endpoints set url = 'http://127.0.0.1:9/'")
        await draining
    assert await value(database, "select status from endpoints") == "enabled"


async def test_a_worker_that_ends_takes_no_more_and_records_what_is_under_way(
    database: Database,
    work: DeliveryWork,
) -> None:
    stopping: list[bool] = []
    work.stopping = lambda: bool(stopping)
    async with busy(database, ok, seconds=0.3) as receiver:
        await run(database, "update endpoints set in_flight = 2")
        await add_events(database, 10)
        draining = asyncio.create_task(drain_once(database, work))
        await under_way(receiver)
        stopping.append(True)
        await draining
    assert await value(database, "select count(*) from deliveries where state = 'delivered'") == len(receiver.at)
    assert len(receiver.at) < 10
    assert await value(database, "select count(*) from deliveries where state = 'sending'") == 0


async def test_what_comes_in_while_a_request_hangs_does_not_wait_for_it(
    database: Database,
    work: DeliveryWork,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dispatch, "POLL_SECONDS", 0.05)
    async with busy(database, ok, seconds=1.0) as receiver:
        await add_events(database, 1)
        draining = asyncio.create_task(drain_once(database, work))
        await under_way(receiver)
        receiver.seconds = 0
        await add_events(database, 1)
        while len(receiver.at) < 2:
            await asyncio.sleep(0.01)
        assert receiver.most == [1, 2], "the first still hangs"
        await draining


async def test_the_next_request_does_not_wait_until_a_success_is_written(
    database: Database, work: DeliveryWork
) -> None:
    async with busy(database, ok, seconds=0.2) as receiver:
        await run(database, "update endpoints set in_flight = 1")
        await add_events(database, 2)
        draining = asyncio.create_task(drain_once(database, work))
        await under_way(receiver)
        async with database.transaction() as tx:
            await tx.connection.execute("select from attempts for update")
            while len(receiver.at) < 2:
                await asyncio.sleep(0.01)
            assert not draining.done()
        await draining
    assert await value(database, "select count(*) from deliveries where state = 'delivered'") == 2, "none is lost"


async def test_a_rate_of_one_a_second_is_kept_by_one_drain(database: Database, work: DeliveryWork) -> None:
    """The pulse would wake the lane for each of them, up to a second late."""
    async with busy(database, ok, seconds=0.0) as receiver:
        await run(database, "update endpoints set per_second = 1.5")
        await add_events(database, 3)
        await drain_once(database, work)
    gaps = [later - earlier for earlier, later in pairwise(receiver.at)]
    assert len(gaps) == 2
    assert min(gaps) > 0.6
    assert await value(database, GATE) == "open false"


async def test_an_old_urls_answer_that_comes_with_the_change_disables_and_rests_nothing(
    database: Database, work: DeliveryWork
) -> None:
    async with busy(database, ok):
        drain = await begin(database, "whe_1")
        await work.begin(drain)
        old = {"lane": "whe_1", "epoch": drain.epoch, "url": await value(database, "select url from endpoints")}
        health = {"in_flight": 1, "failures": 99, "rests": 9, "failing_since": None, "failed_at": None}
        async with asyncio.TaskGroup() as group, database.transaction() as tx:
            await tx.all("endpoint_to_change", org="org_default", endpoint="whe_1")
            disabling = group.create_task(database.all("disable_endpoint", reason="It is gone.", **old))
            await waits_for_a_lock(database)
            writing = group.create_task(
                database.all("write_health", rest=9.0, reason="x", not_ready_for=0.0, **health, **old)
            )
            await waits_for_a_lock(database, 2)
            await tx.connection.execute("update endpoints set url = 'http://new.test/' where id = 'whe_1'")
        assert disabling.result() == writing.result() == []
    assert await value(database, "select status || failures from endpoints") == "enabled0"
    assert await value(database, GATE) == "open false"


async def test_what_a_drain_knows_of_an_endpoint_that_was_switched_on_meanwhile_is_forgotten(
    database: Database, work: DeliveryWork
) -> None:
    async with busy(database, lambda: Response(status_code=500), seconds=1) as receiver:
        await add_events(database, 1)
        draining = asyncio.create_task(drain_once(database, work))
        await under_way(receiver)
        await database.all("reset_health", endpoint="whe_1")
        await draining
    assert await value(database, "select failures || ' ' || (failing_since is null) from endpoints") == "0 true"
    assert await value(database, "select state || ' ' || last_status from deliveries") == "pending 500"


async def test_a_result_that_postgres_refuses_costs_no_other_its_own(database: Database, work: DeliveryWork) -> None:
    await add_endpoint(database, "http://127.0.0.1:1/hook")
    await add_events(database, 3)
    drain = await begin(database, "whe_1")
    taken = await take(database, drain, 3)
    results = [
        {
            "delivery": row["id"], "claim": str(row["claim"]), "attempt": row["attempt_id"],
            "attempt_at": row["attempt_at"].isoformat(), "state": "delivered", "seconds": 0, "counts": True,
            "response": text,
        }
        for row, text in zip(taken, ("ok", "no text of Postgres: \0", "ok"), strict=True)
    ]  # fmt: skip
    written = await asyncio.gather(*map(work.results.write, results), return_exceptions=True)
    assert [error and type(error) for error in written] == [None, UntranslatableCharacter, None]
    states = "select string_agg(state, ' ' order by state) from deliveries"
    assert await value(database, states) == "delivered delivered sending"
