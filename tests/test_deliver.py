import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from fixtures_lanes import add_jobs, add_lanes, value
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from addresses import LOOPBACK
from commands import serve
from commands.demo import free_ports
from crypto import Sealer, new_secret, verify
from errors import AddressRefused
from sql.database import Database
from tasks import deliver
from tasks.deliver import Answer, DeliveryWork, Retry
from tasks.lanes import Drain
from tasks.send import Job

SEALER = Sealer([bytes(32)])
SECRET = new_secret("whsec_")
ABSURD = "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"


@dataclass
class Scripted:
    """A receiver that answers by script and keeps what it got."""

    answers: list[Callable[[], Response]]
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def receive(self, request: Request) -> Response:
        self.got.append((dict(request.headers), await request.body()))
        return self.answers.pop(0)() if self.answers else Response(status_code=204)


@asynccontextmanager
async def receiving(*answers: Callable[[], Response]) -> AsyncIterator[tuple[str, Scripted]]:
    (port,) = free_ports(1)
    scripted = Scripted(list(answers))
    app = Starlette(routes=[Route("/{path:path}", scripted.receive, methods=["POST", "GET"])])
    async with serve.running(serve.config(app, "127.0.0.1", port)):
        await _listening(port)
        yield f"http://127.0.0.1:{port}/hook", scripted


async def _listening(port: int) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionError:
                await asyncio.sleep(0.01)
            else:
                writer.close()
                await writer.wait_closed()
                return


async def add_endpoint(database: Database, url: str, retry: str = "{}") -> None:
    async with database.transaction() as tx:
        await tx.connection.execute(
            "insert into lanes (id, org_id, kind, queue) values ('whe_1', 'org_default', 'endpoint', 'endpoint')"
        )
        await tx.connection.execute(
            "insert into endpoints (id, org_id, url, events, secret, retry) "
            "values ('whe_1', 'org_default', %s, '{*}', %s, %s)",
            [url, SEALER.seal(SECRET.encode(), b"whe_1"), retry],
        )


async def send_one(database: Database) -> str:
    """Let a job be sent, and with it an event be written; return the job's id."""
    await add_lanes(database, "acc_1")
    (job,) = await add_jobs(database, "acc_1")
    drain = await begin(database, "acc_1")
    (taken,) = await database.read(Job, "take_job", lane="acc_1", epoch=drain.epoch, worker="w")
    rows = await database.all("job_sent", job=job, claim=taken.claim, bubble="b", detail=None)
    assert rows == [{"lanes": ["whe_1"]}]
    return job


async def begin(database: Database, lane: str) -> Drain:
    return (await database.read(Drain, "begin_drain", lane=lane, worker="w", wakeup=1))[0]


@pytest.fixture
async def work(database: Database) -> AsyncIterator[DeliveryWork]:
    async with deliver.make_client(LOOPBACK) as client:
        yield DeliveryWork(database, "w", lambda sealed, about: SEALER.open(sealed, about.encode()).decode(), client)


async def drain_once(database: Database, work: DeliveryWork) -> bool:
    drain = await begin(database, "whe_1")
    await work.begin(drain)
    return await work.one(drain)


async def make_due(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.connection.execute("update deliveries set due_at = now()")


async def test_every_attempt_has_the_same_id_and_bytes_and_a_signature_of_its_own(
    database: Database, work: DeliveryWork
) -> None:
    failing = [lambda: Response(status_code=500), lambda: Response(status_code=503)]
    async with receiving(*failing) as (url, scripted):
        await add_endpoint(database, url)
        job = await send_one(database)
        for _ in range(3):
            assert await drain_once(database, work)
            await make_due(database)
        assert not await drain_once(database, work), "it is delivered"
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
    monkeypatch.setattr(deliver, "DEADLINE", 0.3)
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
    (port,) = free_ports(1)
    await add_endpoint(database, f"http://127.0.0.1:{port}/", '{"attempts": 2, "baseSeconds": 1, "factor": 2}')
    await send_one(database)
    await drain_once(database, work)
    assert await value(database, "select due_at - now() between '0.7 s' and '1.3 s' from deliveries")
    await make_due(database)
    await drain_once(database, work)
    assert await value(database, "select state from deliveries") == "failed"
    assert await value(database, "select last_error from deliveries") == AddressRefused().detail


async def test_a_secret_that_cannot_be_opened_is_a_failed_attempt_and_no_endless_loop(
    database: Database, work: DeliveryWork
) -> None:
    async with receiving() as (url, scripted):
        await add_endpoint(database, url)
        await send_one(database)
        async with database.transaction() as tx:
            await tx.connection.execute("update endpoints set secret = 'another key sealed this'")
        await drain_once(database, work)
    assert scripted.got == []
    waits = "select state = 'pending' and due_at > now() and last_error like 'CryptoError%' from deliveries"
    assert await value(database, waits)


async def test_what_a_dead_worker_left_under_way_is_sent_again_with_the_same_id(
    database: Database, work: DeliveryWork
) -> None:
    async with receiving() as (url, scripted):
        await add_endpoint(database, url)
        await send_one(database)
        old = await begin(database, "whe_1")
        taken = await database.all("take_delivery", lane="whe_1", epoch=old.epoch, worker="w")
        assert await drain_once(database, work)
        assert scripted.got[0][0]["webhook-id"] == taken[0]["event_id"]
        attempts = "select string_agg(coalesce(error, status::text), ' ' order by number) from attempts"
        assert await value(database, attempts) == "interrupted 204"
        stale = {"status": 500, "error": "late", "duration_ms": 1, "response": "", "seconds": 0, "state": "pending"}
        await database.all(
            "end_attempt", delivery=taken[0]["id"], claim=taken[0]["claim"], attempt=taken[0]["attempt_id"],
            attempt_at=taken[0]["attempt_at"], **stale,
        )  # fmt: skip
        assert await value(database, "select state from deliveries") == "delivered", "the old claim changes nothing"


@pytest.mark.parametrize(("given", "seconds"), [(None, 0), ("120", 120), ("soon", 0), ("-5", 0), (ABSURD, 0)])
def test_retry_after_in_seconds(given: str | None, seconds: float) -> None:
    assert deliver._retry_after(given, datetime.now(UTC)) == seconds


@pytest.mark.parametrize(("offset", "seconds"), [(300, 300), (-300, 0)])
def test_retry_after_as_a_date(offset: float, seconds: float) -> None:
    now = datetime.now(UTC)
    given = format_datetime(now + timedelta(seconds=offset), usegmt=True)
    assert deliver._retry_after(given, now) == pytest.approx(seconds, abs=5)


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
