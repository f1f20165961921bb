import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from fixtures_deliveries import SECRET, add_endpoint, begin, drain_once, make_due, receiving, send_one, take, working
from fixtures_lanes import value
from starlette.responses import RedirectResponse, Response

from bench.ports import held_ports
from crypto import verify
from errors import AddressRefused, SecretUnreadable
from sql.database import Database
from tasks.delivery import request
from tasks.delivery.lane import DeliveryWork
from tasks.delivery.request import Answer
from tasks.delivery.retry import Retry

ABSURD = "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"


@pytest.fixture
async def work(database: Database) -> AsyncIterator[DeliveryWork]:
    async with working(database) as work:
        yield work


async def test_every_attempt_has_the_same_id_and_bytes_and_a_signature_of_its_own(
    database: Database, work: DeliveryWork
) -> None:
    failing = [lambda: Response(status_code=500), lambda: Response(status_code=503)]
    async with receiving(*failing) as (url, scripted):
        await add_endpoint(database, url)
        job = await send_one(database)
        for _ in range(3):
            await drain_once(database, work)
            await make_due(database)
        await drain_once(database, work)
    assert len(scripted.got) == 3
    assert len({(headers["webhook-id"], body) for headers, body in scripted.got}) == 1
    for headers, body in scripted.got:
        stamp = headers["webhook-timestamp"]
        verify([SECRET], headers["webhook-id"], stamp, headers["webhook-signature"], body, now=float(stamp))
    event = json.loads(scripted.got[0][1])
    assert event["type"] == "JobCompleted"
    assert event["data"]["jobId"] == job
    assert scripted.got[0][1] == json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode(), "minified"
    attempts = "select string_agg(number || ':' || status, ' ' order by number) from attempts"
    assert await value(database, attempts) == "1:500 2:503 3:204"


@pytest.mark.parametrize(
    ("answer", "state", "error"),
    [
        (lambda: Response(status_code=200), "delivered", None),
        (lambda: RedirectResponse("/elsewhere", 302), "pending", "HTTP 302"),
        (lambda: Response(status_code=410), "failed", "HTTP 410"),
        (lambda: Response("\0\xff" * 20_000, status_code=400), "pending", "HTTP 400"),
    ],
)
async def test_only_2xx_is_success(
    database: Database, work: DeliveryWork, answer: Callable[[], Response], state: str, error: str | None
) -> None:
    async with receiving(answer) as (url, scripted):
        await add_endpoint(database, url)
        await send_one(database)
        await drain_once(database, work)
    assert len(scripted.got) == 1
    assert await value(database, "select state from deliveries") == state
    assert await value(database, "select error from attempts") == error
    assert await value(database, "select length(response) <= 2000 and ended_at is not null from attempts")
    disabled = await value(database, "select status from endpoints") == "disabled"
    assert disabled == (state == "failed")


async def test_a_receiver_that_does_not_answer_is_cut_off_and_goes_to_the_slow_queue(
    database: Database, work: DeliveryWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request, "DEADLINE", 0.3)
    hung = asyncio.Event()

    async def hang(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await hung.wait()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        await add_endpoint(database, f"http://127.0.0.1:{port}/")
        await send_one(database)
        await drain_once(database, work)
        hung.set()
    assert await value(database, "select last_error from deliveries") == "timeout"
    assert await value(database, "select queue from lanes where id = 'whe_1'") == "endpoint-slow"


async def test_a_refused_connection_is_tried_again_until_the_attempts_are_used_up(
    database: Database, work: DeliveryWork
) -> None:
    (port,) = held_ports(1)
    await add_endpoint(database, f"http://127.0.0.1:{port}/", '{"attempts": 2, "baseSeconds": 1, "factor": 2}')
    await send_one(database)
    await drain_once(database, work)
    assert await value(database, "select due_at - now() between '0.7 s' and '1.3 s' from deliveries")
    await make_due(database)
    await drain_once(database, work)
    assert await value(database, "select state from deliveries") == "failed"
    assert await value(database, "select last_error from deliveries") == AddressRefused().detail


async def test_a_secret_that_cannot_be_opened_is_our_fault_and_no_endless_loop(
    database: Database, work: DeliveryWork
) -> None:
    async with receiving() as (url, scripted):
        await add_endpoint(database, url)
        await send_one(database)
        async with database.transaction() as tx:
            await tx.connection.execute("update endpoints set secret = 'another key sealed this'")
        await drain_once(database, work)
    assert scripted.got == []
    waits = "select state = 'pending' and attempts = 0 and last_error = %s from deliveries"
    assert await value(database, waits, SecretUnreadable().detail)
    rests = "select gate_reason || ' ' || (open_at > now() + interval '4 seconds') from lanes where id = 'whe_1'"
    assert await value(database, rests) == "own_fault true"


async def test_what_a_dead_worker_left_under_way_is_sent_again_with_the_same_id(
    database: Database, work: DeliveryWork
) -> None:
    async with receiving() as (url, scripted):
        await add_endpoint(database, url)
        await send_one(database)
        old = await begin(database, "whe_1")
        taken = await take(database, old)
        await drain_once(database, work)
        assert scripted.got[0][0]["webhook-id"] == taken[0]["event_id"]
        attempts = "select string_agg(coalesce(error, status::text), ' ' order by number) from attempts"
        assert await value(database, attempts) == "interrupted 204"
        late = {
            "delivery": taken[0]["id"], "claim": str(taken[0]["claim"]), "attempt": taken[0]["attempt_id"],
            "attempt_at": taken[0]["attempt_at"].isoformat(), "state": "pending", "seconds": 0, "counts": True,
        }  # fmt: skip
        await database.all("end_attempts", results=json.dumps([late]))
        assert await value(database, "select state from deliveries") == "delivered", "the old claim changes nothing"


@pytest.mark.parametrize(("given", "seconds"), [(None, 0), ("120", 120), ("soon", 0), ("-5", 0), (ABSURD, 0)])
def test_retry_after_in_seconds(given: str | None, seconds: float) -> None:
    assert request._retry_after(given, datetime.now(UTC)) == seconds


@pytest.mark.parametrize(("offset", "seconds"), [(300, 300), (-300, 0)])
def test_retry_after_as_a_date(offset: float, seconds: float) -> None:
    now = datetime.now(UTC)
    given = format_datetime(now + timedelta(seconds=offset), usegmt=True)
    assert request._retry_after(given, now) == pytest.approx(seconds, abs=5)


def test_the_default_policy_is_the_contracts() -> None:
    retry = Retry.of({})
    pauses = [min(retry.base_seconds * retry.factor**n, retry.cap_seconds) for n in range(retry.attempts - 1)]
    assert pauses[:4] == [5, 15, 45, 135]
    assert max(pauses) == 12 * 3600
    assert 1.2 < sum(pauses) / 86_400 < 1.8, "about a day and a half"
    assert Retry.of({"attempts": 4, "baseSeconds": 2, "factor": 2}) == Retry(4, 2, 2, 43_200)


def test_an_answer_without_error_is_a_success() -> None:
    assert Answer(204, None).ok
    assert not Answer(302, "HTTP 302").ok
