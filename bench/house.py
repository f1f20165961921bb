"""A running service to measure: API and sandbox in this process, a worker in another, its browsers watched."""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

import psutil

from bench.ports import held_ports
from browser.engine.memory import measure
from browser.engine.process import browsers
from commands import environment
from commands.client import Client
from server import config, listen, running
from settings import Settings
from sql import schema
from sql.database import Database
from wiring.api import make_api
from wiring.sandbox import make_sandbox

ROOT = Path(__file__).parent.parent
MB = 2**20
COUNT_SECONDS = 0.25  # between counts of the browsers
MEASURE_SECONDS = 2.0  # between measurements of their memory


@dataclass
class Watch:
    """The most browsers of a house at the same time, and their peak memory."""

    profiles: Path
    most: int = 0
    peak: int = 0
    total: list[int] = field(default_factory=list)

    async def run(self) -> None:
        """Count and measure until cancelled."""
        measured = 0.0
        while True:
            held = {path for path, _ in browsers() if path.is_relative_to(self.profiles)}
            self.most = max(self.most, len(held))
            if held and time.monotonic() - measured > MEASURE_SECONDS:
                measured = time.monotonic()
                self.peak = max(self.peak, sum((await measure(held)).values()))
            await asyncio.sleep(COUNT_SECONDS)


@dataclass
class House:
    """A running service: its settings, clients and workers."""

    settings: Settings
    client: Client
    database: Database
    watch: Watch
    #: the environment variables of its worker
    environment: dict[str, str]
    workers: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)

    async def start(self, environment: dict[str, str]) -> asyncio.subprocess.Process:
        """Start a worker process."""
        return await asyncio.create_subprocess_exec(sys.executable, "-m", "cli", "worker", cwd=ROOT, env=environment)

    async def link(self, name: str) -> str:
        """Make a sandbox account, scan its code and return its id once it is ready."""
        account = str((await self.client.post("/accounts", {"name": name, "transport": "sandbox"}))["id"])
        await self.client.post(f"/accounts/{account}/connect")
        await self.client.qr(account, 600)
        await self.client.scan(account)
        await self.client.wait(f"/accounts/{account}", "state", {"ready", "hibernated"}, 600)
        return account

    def parts(self) -> dict[str, int]:
        """Measure the worker: MB of PSS of itself, of its guard and of Playwright's driver."""
        process = psutil.Process(self.workers["first"].pid)
        sizes = {"worker": process.memory_full_info().pss // MB, "driver": 0, "guard": 0}
        for child in process.children():
            command = " ".join(child.cmdline())
            part = "driver" if "run-driver" in command else "guard" if "guard" in command else None
            if part:
                sizes[part] = child.memory_full_info().pss // MB
        return sizes


@asynccontextmanager
async def open_house(**values: object) -> AsyncIterator[House]:
    """Run a house with an embedded Postgres, in a temporary directory."""
    with (
        tempfile.TemporaryDirectory(prefix="postrider-bench-", ignore_cleanup_errors=True) as folder,
        listen() as listener,
    ):
        (health,) = held_ports(1)
        api = listener.getsockname()[1]
        settings = environment.load(
            data_dir=Path(folder), database_url=None, env="development", port=api, worker_port=health, **values
        )
        url = await asyncio.to_thread(environment.database_url, settings)
        await asyncio.to_thread(schema.migrate, url)
        key = settings.api_key.get_secret_value() if settings.api_key else ""
        sandbox = make_sandbox(settings)
        app = make_api(settings, url, sandbox)
        variables = {
            **os.environ, "DATABASE_URL": url, "DATA_DIR": folder, "PORT": str(api), "WORKER_PORT": str(health),
            "LOG_LEVEL": "warning", **{name.upper(): str(value) for name, value in values.items()},
        }  # fmt: skip
        async with (
            running(config(app, "127.0.0.1", api), sandbox.state.sandbox.stop, listener),
            Database(url) as database,
            Client(f"http://127.0.0.1:{api}", key) as client,
        ):
            await client.wait_up(30)
            watch = Watch(settings.profiles.resolve())
            watching = asyncio.create_task(watch.run())
            house = House(settings, client, database, watch, variables)
            house.workers["first"] = await house.start(variables)
            try:
                yield house
            finally:
                watching.cancel()
                for worker in house.workers.values():
                    if worker.returncode is None:
                        worker.terminate()
                    await worker.wait()


def most_at_once(sessions: Sequence[Mapping[str, str | None]]) -> int:
    """Return the largest number of the sandbox's sessions, each with `start` and `end`, that were live at once."""
    edges = sorted((at, step) for each in sessions for at, step in ((each["start"], 1), (each["end"] or "9", -1)))
    return max(accumulate(step for _, step in edges), default=0)
