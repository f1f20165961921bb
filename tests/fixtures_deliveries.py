"""Receivers that answer by script, and the work of an endpoint's lane against them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx2
from fixtures_lanes import add_jobs, add_lanes
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import server
from addresses import LOOPBACK, Addresses
from crypto import Sealer, new_secret
from resolver import Resolver
from sql.database import Database, Row
from tasks.delivery.dialer import Dialer
from tasks.delivery.lane import DeliveryWork
from tasks.delivery.request import Requests
from tasks.delivery.result_writer import ResultWriter
from tasks.lanes import Drain
from tasks.sending.claimed_job import Job

SEALER = Sealer([bytes(32)])
SECRET = new_secret("whsec_")
TLS = httpx2.create_ssl_context(trust_env=False)


@dataclass
class Scripted:
    """A receiver that answers by script and keeps what it got."""

    answers: list[Callable[[], Response]]
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    #: what happens before it answers
    meanwhile: Callable[[], Awaitable[object]] | None = None

    async def receive(self, got: Request) -> Response:
        self.got.append((dict(got.headers), await got.body()))
        if self.meanwhile:
            await self.meanwhile()
        return self.answers.pop(0)() if self.answers else Response(status_code=204)


@asynccontextmanager
async def receiving(*answers: Callable[[], Response]) -> AsyncIterator[tuple[str, Scripted]]:
    scripted = Scripted(list(answers))
    app = Starlette(routes=[Route("/{path:path}", scripted.receive, methods=["POST", "GET"])])
    async with served(app) as origin:
        yield f"{origin}/hook", scripted


@asynccontextmanager
async def served(app: Starlette) -> AsyncIterator[str]:
    """Serve an app on the loopback and give its origin; whoever connects at once waits."""
    listener = server.listen()
    host, port = listener.getsockname()
    async with server.running(server.config(app, host, port), listener=listener):
        yield f"http://{host}:{port}"


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


async def take(database: Database, drain: Drain, most: int = 1) -> list[Row]:
    """Take deliveries, as a drain does that goes on."""
    rows = await database.all(
        "take_deliveries", lane=drain.lane, epoch=drain.epoch, worker="w", begins=False, most=most
    )
    return [row for row in rows if row["id"]]


@asynccontextmanager
async def working(
    database: Database, addresses: Addresses = LOOPBACK, resolver: Resolver | None = None, sealer: Sealer = SEALER
) -> AsyncIterator[DeliveryWork]:
    dialer = Dialer(addresses, resolver or Resolver())
    requests = Requests(dialer, TLS, lambda sealed, about: sealer.open(sealed, about.encode()).decode())
    yield DeliveryWork(database, "w", requests, ResultWriter(database), lambda: False)


async def drain_once(database: Database, work: DeliveryWork) -> bool:
    drain = await begin(database, "whe_1")
    await work.begin(drain)
    return await work.one(drain)


async def make_due(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.connection.execute("update deliveries set due_at = now()")
