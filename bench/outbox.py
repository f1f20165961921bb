"""An outbox to measure: an embedded Postgres, endpoints, and the part of a worker that delivers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2
import psycopg

from addresses import LOOPBACK
from bench.ports import held_ports
from bench.processes import serving
from crypto import Sealer, new_secret
from resolver import Resolver
from server import make_garbage_collection_rare
from sql import embedded, schema
from sql.database import Database
from sql.ids import new_id
from tasks.delivery.dialer import Dialer
from tasks.delivery.lane import DeliveryWork
from tasks.delivery.request import Requests
from tasks.delivery.result_writer import ResultWriter
from tasks.lanes import Lanes
from tasks.periodic import run_every
from tasks.pulse import DEAD, PULSE, Pulse
from tasks.queue import FAST, SLOW, Consumer, make_app
from wiring.shared import PATIENCE
from wiring.webhooks import ENDPOINT_SLOTS, SLOW_SLOTS, crowd_of

BODY = 600  # bytes of an event's data, about what JobCompleted has
BATCH = 1000  # events of each endpoint in one transaction
SEALER = Sealer([bytes(32)])


@dataclass
class Outbox:
    """Writes endpoints and events, and reads what became of them."""

    database: Database

    async def add_endpoints(self, url: str, count: int, org: str = "org_default") -> list[str]:
        """Register a URL as `count` endpoints, each with its own type of event; return their ids."""
        names = [new_id("whe_") for _ in range(count)]
        async with self.database.transaction() as tx:
            for name in names:
                sealed = SEALER.seal(new_secret("whsec_").encode(), name.encode())
                await tx.all(
                    "create_endpoint", id=name, org=org, url=url, events=[name], description="",
                    signature="v1", secret=sealed, public_key=None, headers="{}", retry="{}", per_second=None,
                )  # fmt: skip
        return names

    async def add_events(self, endpoints: list[str], each: int, org: str = "org_default") -> None:
        """Write `each` events for each of these endpoints, and wake their lanes."""
        while each > 0:
            async with self.database.transaction() as tx:
                await tx.connection.execute(
                    "select record_event(%s, name, %s, null, null, 1)"
                    " from generate_series(1, %s), unnest(%s::text[]) as name",
                    [org, '{"x":"' + "x" * (BODY - 80) + '"}', min(each, BATCH), endpoints],
                )
            each -= BATCH
        await self.database.all("wake", lanes=endpoints)

    async def settle(self) -> None:
        """Vacuum and checkpoint now, so that this background work is not measured."""
        async with await psycopg.AsyncConnection.connect(self.database.url, autocommit=True) as connection:
            await connection.execute("vacuum analyze")
            await connection.execute("checkpoint")

    async def is_open(self, endpoints: list[str]) -> bool:
        """Tell whether a delivery to one of these endpoints is still open."""
        async with self.database.transaction() as tx:
            cursor = await tx.connection.execute(
                "select exists (select from deliveries where ended_at is null and endpoint_id = any (%s))",
                [endpoints],
            )
            row = await cursor.fetchone()
            return bool(row and row[0])

    async def seconds(self, endpoint: str, last: int) -> list[float]:
        """Return how long the `last` newest events of an endpoint took, from commit to the end of the request."""
        async with self.database.transaction() as tx:
            cursor = await tx.connection.execute(
                "select extract(epoch from attempts.ended_at - deliveries.created_at)::float8 from deliveries"
                " join attempts on attempts.delivery_id = deliveries.id where deliveries.endpoint_id = %s"
                " order by deliveries.created_at desc limit %s",
                [endpoint, last],
            )
            return [seconds for (seconds,) in await cursor.fetchall()]


@asynccontextmanager
async def open_outbox() -> AsyncIterator[Outbox]:
    """Run Postgres and the delivering part of a worker within the block."""
    with TemporaryDirectory(prefix="postrider-bench-") as name:
        Path(name).chmod(0o755)  # noqa: ASYNC240  # nothing else goes on yet
        url = await asyncio.to_thread(embedded.start, Path(name))
        try:
            await asyncio.to_thread(schema.migrate, url)
            async with Database(url, size=20, patience=PATIENCE) as database, delivering(database, url):
                yield Outbox(database)
        finally:
            await asyncio.to_thread(embedded.stop_server, Path(name))


@asynccontextmanager
async def delivering(database: Database, url: str, dead: float = DEAD) -> AsyncIterator[None]:
    """Run the delivering part of a worker; workers without a heartbeat for `dead` seconds count as dead."""
    lanes = Lanes(database, new_id("wrk_"), {})
    requests = Requests(
        Dialer(LOOPBACK, Resolver()),
        httpx2.create_ssl_context(trust_env=False),
        lambda sealed, about: SEALER.open(sealed, about.encode()).decode(),
    )
    deliveries = DeliveryWork(database, lanes.worker, requests, ResultWriter(database), lanes.stopping.is_set)
    lanes.works = {"endpoint": deliveries}
    app = make_app(url, lanes.drain, _nothing, size=10, drains={SLOW: crowd_of(lanes, deliveries).drain})
    pulse = Pulse(url, 900, dead)
    consumers = [Consumer(app, [FAST], ENDPOINT_SLOTS, 5), Consumer(app, [SLOW], SLOW_SLOTS, 5)]

    async def live() -> None:
        ids = [consumer.procrastinate_id for consumer in consumers if consumer.procrastinate_id]
        await database.one("renew_worker", worker=lanes.worker, ids=ids, lease=dead, open=[])

    await database.all(
        "register_worker", worker=lanes.worker, host="here", version="", home=None, seats=0,
        duties=["webhooks"], limits=None,
    )  # fmt: skip
    make_garbage_collection_rare()
    async with app.open_async():
        running = [asyncio.create_task(consumer.run()) for consumer in consumers]
        beating = [
            asyncio.create_task(run_every("pulse", PULSE, pulse.run_once)),
            asyncio.create_task(run_every("signs of life", dead / 5, live)),
        ]
        try:
            yield
        finally:
            lanes.stopping.set()
            for consumer in consumers:
                consumer.stop()
            await asyncio.wait(running)
            for duty in beating:
                duty.cancel()
            await asyncio.wait(beating)
            await pulse.close()


async def _nothing() -> None:
    """Skip upkeep: the database is temporary."""


@asynccontextmanager
async def receiving(*, hangs: bool = False) -> AsyncIterator[str]:
    """Run a receiver process that answers at once or never; yield its URL."""
    (port,) = held_ports(1)
    async with serving(port, "-m", "bench.receiver", str(port), *(["hang"] if hangs else [])):
        yield f"http://127.0.0.1:{port}/hook"
