"""What benchmarks start: a Postgres of their own, and the settings of an API and a worker on it."""

import asyncio
import base64
import tempfile
from asyncio.subprocess import Process
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.lanes_without_browser import Lanes
from bench.ports import held_ports
from bench.processes import running, serving
from commands.client import Client
from crypto import new_secret
from sql import embedded, schema
from sql.database import Database

SLOTS = 20  # seats of a worker, and concurrent jobs of a procrastinate worker
#: no request of a benchmark is refused, but each is counted
LIMITS = dict.fromkeys(("MAX_QUEUED", "RATE_LIMIT_PER_MINUTE", "ORG_RATE_LIMIT_PER_MINUTE"), "100000000")
ENCRYPTION_KEY = base64.b64encode(bytes(32)).decode()


async def own_postgres(stack: AsyncExitStack) -> tuple[Path, str]:
    """Start a Postgres that ends with the stack; return its folder and its URL."""
    home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="postrider-bench-")))
    home.chmod(0o755)  # noqa: ASYNC240  # nothing else goes on yet
    url = await asyncio.to_thread(embedded.start, home)
    stack.push_async_callback(asyncio.to_thread, embedded.stop_server, home)
    return home, url


def variables(url: str, home: Path, key: str, **more: str) -> dict[str, str]:
    """Return the environment variables of an API and a worker, each on a port of its own."""
    api, worker = held_ports(2)
    return {
        "DATABASE_URL": url, "DATA_DIR": str(home), "PORT": str(api), "WORKER_PORT": str(worker), "API_KEY": key,
        "ENCRYPTION_KEY": ENCRYPTION_KEY, "ENV": "development", "LOG_LEVEL": "error", "MAX_SESSIONS": str(SLOTS),
        "WEBHOOK_ALLOW_CIDRS": "127.0.0.0/8", **LIMITS, **more,
    }  # fmt: skip


@dataclass
class Service:
    """An API and a worker whose browser takes no time, with accounts that send."""

    database: Database
    port: int
    key: str
    lanes: Lanes
    api: Process
    worker: Process

    def client(self) -> Client:
        """Return a client of the API."""
        return Client(f"http://127.0.0.1:{self.port}", self.key)


async def start(stack: AsyncExitStack, senders: int, *arguments: str, **settings: str) -> Service:
    """Start a service with so many accounts; the worker has arguments of its own, and both have these settings."""
    home, url = await own_postgres(stack)
    await asyncio.to_thread(schema.migrate, url)
    database = await stack.enter_async_context(Database(url))
    lanes = Lanes(database, [f"acc_{number}" for number in range(senders)], 0)
    await lanes.add()
    key = new_secret("key_")
    given = variables(url, home / "data", key, **settings)
    port = int(given["PORT"])
    api = await stack.enter_async_context(serving(port, "-m", "cli", "api", variables=given))
    worker = await stack.enter_async_context(running("-m", "bench.worker_without_browser", *arguments, variables=given))
    return Service(database, port, key, lanes, api, worker)
