"""The whole house on a database of its own: API, worker, sandbox, receiver; in this process, or as programs."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fixtures_browser import HARSH
from starlette.applications import Starlette
from starlette.routing import Route

import server
from bench.ports import held_ports
from browser.page.reader import Patience
from browser.sandbox.timing import Timing
from commands import environment
from commands.all_in_one import all_in_one
from commands.client import Client, Json
from commands.demo import Receiver
from commands.demo_timing import PATIENCE, TIMING
from crypto import new_secret
from settings import Settings
from sql.database import Database
from tasks.web.seats import Seats
from tasks.web.sessions import seats_of
from tasks.worker import Worker

ROOT = Path(__file__).parent.parent
KEY = "key_" + "k" * 40
QUICK: dict[str, Any] = {"typing_delay_ms": (0, 0), "max_sessions": 12}
ENDED = {"sent", "delivered", "read", "failed", "cancelled"}


@dataclass
class House:
    """A running house, and a client of it."""

    settings: Settings
    client: Client
    database: Database
    receiver: Receiver
    worker: Worker | None = None
    events: list[Json] = field(default_factory=list)

    @property
    def seats(self) -> Seats:
        """Those of its worker, where that runs in this process."""
        assert self.worker
        return seats_of(self.worker.parts)

    async def link(self, name: str = "x", *, kind: str | None = None, **more: object) -> str:
        """Make a sandbox account and scan its code; return its id once it is ready. `kind` is one of KINDS."""
        account: str = (await self.client.post("/accounts", {"name": name, "transport": "sandbox", **more}))["id"]
        if kind:
            drawn = {"dom": kind.removesuffix(HARSH), "harsh": kind.endswith(HARSH)}
            await self.client.post(f"/sandbox/accounts/{account}/draw", drawn)
        await self.client.post(f"/accounts/{account}/connect")
        await self.client.qr(account)
        await self.client.scan(account)
        await self.client.wait(f"/accounts/{account}", "state", {"ready"}, 60)
        return account

    async def send(self, account: str, phone: str, message: str = "hello", **rest: object) -> str:
        """Send a message and return its jobId."""
        body = {"account": account, "phone": phone, "message": message, **rest}
        return str((await self.client.post("/send", body))["jobId"])

    async def ended(self, job: str, seconds: float = 120) -> Json:
        """Wait until a job has ended and return it."""
        return await self.client.wait(f"/jobs/{job}", "status", ENDED, seconds)

    async def received(self, phone: str, account: str = "") -> list[str]:
        """Return the texts that a recipient got, from one account or any."""
        items = (await self.client.get(f"/sandbox/messages?phone={phone}&account={account}"))["items"]
        return [item["text"] for item in items]

    async def event(self, job: str, kinds: Iterable[str] = ("JobCompleted", "JobFailed")) -> Json:
        """Wait for an event of the job; other events are kept for other callers."""
        async with asyncio.timeout(60):
            while True:
                for event in self.events:
                    if event["data"].get("jobId") == job and event["type"] in kinds:
                        return event
                while not self.receiver.events.empty():
                    self.events.append(self.receiver.events.get_nowait())
                await asyncio.sleep(0.02)


def make_settings(data_dir: Path, url: str | None, port: int, hook: int, **values: object) -> Settings:
    return environment.load(
        data_dir=data_dir, database_url=url, port=port, worker_port=held_ports(1)[0], api_key=KEY,
        webhook_url=f"http://127.0.0.1:{hook}/hook", webhook_secret=new_secret("whsec_"), **(QUICK | values),
    )  # fmt: skip


@asynccontextmanager
async def _receiver(settings: Settings, listener: socket.socket) -> AsyncIterator[Receiver]:
    assert settings.webhook_secret
    receiver = Receiver(settings.webhook_secret.get_secret_value())
    app = Starlette(routes=[Route("/hook", receiver.receive, methods=["POST"])])
    async with server.running(server.config(app, *listener.getsockname()), listener=listener):
        yield receiver


@asynccontextmanager
async def house(
    data_dir: Path,
    url: str,
    patience: Patience = PATIENCE,
    timing: Timing = TIMING,
    ports: tuple[int, int] = (0, 0),
    **values: object,
) -> AsyncIterator[House]:
    """Run everything in this process.

    `ports` are those of the API and of the receiver. A house that is to find its accounts linked needs the same again.
    """
    async with AsyncExitStack() as stack:
        api, hook = (stack.enter_context(server.listen(port)) for port in ports)
        settings = make_settings(data_dir, url, api.getsockname()[1], hook.getsockname()[1], **values)
        receiver = await stack.enter_async_context(_receiver(settings, hook))
        worker = await stack.enter_async_context(all_in_one(settings, url, patience, timing, listener=api))
        client = await stack.enter_async_context(Client(f"http://127.0.0.1:{settings.port}", KEY))
        await client.wait_up(60)
        yield House(settings, client, await stack.enter_async_context(Database(url)), receiver, worker)


@dataclass
class Program:
    """A command of ours as a process."""

    process: asyncio.subprocess.Process

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        if self.process.returncode is None:
            self.process.send_signal(number)
        return await self.process.wait()


@dataclass
class Cluster(House):
    """A house whose API and workers are processes of their own."""

    programs: list[Program] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)

    async def start(self, command: str, **environment: str) -> Program:
        """Start `api` or `worker` as a process, at the pace of tests."""
        return await self.start_from(ROOT, command, environment)

    async def start_from(self, root: Path, command: str, environment: Mapping[str, str]) -> Program:
        """Start it from a tree of the code."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "fixtures_pace", command, cwd=root,
            env={**os.environ, "PYTHONPATH": f"{root}:{root / 'tests'}", **self.environment, **environment},
        )  # fmt: skip
        program = Program(process)
        self.programs.append(program)
        return program


@asynccontextmanager
async def cluster(data_dir: Path, url: str, **values: object) -> AsyncIterator[Cluster]:
    """Run the API as a process; workers are started by the test."""
    hook = server.listen()
    settings = make_settings(data_dir, url, held_ports(1)[0], hook.getsockname()[1], **values)
    environment = {
        "DATA_DIR": str(data_dir), "DATABASE_URL": url, "PORT": str(settings.port), "API_KEY": KEY,
        "WORKER_PORT": str(settings.worker_port), "WEBHOOK_URL": settings.webhook_url or "", "LOG_LEVEL": "warning",
        "WEBHOOK_SECRET": settings.webhook_secret.get_secret_value() if settings.webhook_secret else "",
        "TYPING_DELAY_MS": "0-0", "MAX_SESSIONS": "12",
    }  # fmt: skip
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(_receiver(settings, stack.enter_context(hook)))
        database = await stack.enter_async_context(Database(url))
        client = await stack.enter_async_context(Client(f"http://127.0.0.1:{settings.port}", KEY))
        it = Cluster(settings, client, database, receiver, environment=environment)
        try:
            await it.start("api")
            await client.wait_up(60)
            yield it
        finally:
            for program in reversed(it.programs):
                await program.stop()
