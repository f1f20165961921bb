"""The cluster under test: real processes, a wire between each pair of them, and a supervisor that starts what ended."""

import asyncio
import base64
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qs, urlsplit

import psutil
from psycopg.rows import class_row

from bench.ports import held_ports
from browser.engine.process import browsers
from commands.client import Client
from crypto import new_secret
from faults.wire import Peer, Wire
from sql import embedded, schema
from sql.database import Database

T = TypeVar("T")

ROOT = Path(__file__).parent.parent.parent
LEASE = 15.0  # seconds, the least that is allowed
RESTART = 0.5  # seconds until what ended is started again, as a platform does
SYNCING = 15.0  # seconds that a harsh page downloads its chats after a scan
DISK = "1500m"  # of Postgres
STOP = 30.0  # seconds that a part is given to stop
#: Every wait that the settings can shorten.
SHORT = {
    "LEASE_SECONDS": "15", "CONFIRM_SECONDS": "20", "SETTLE_SECONDS": "60", "SEND_BACKOFF_SECONDS": "0.5",
    "BREAKER_SECONDS": "5", "DATABASE_GRACE_SECONDS": "20", "TYPING_DELAY_MS": "0-5", "MAX_SESSIONS": "2",
    "LOG_LEVEL": "info", "DEDUPE_SECONDS": "0", "RATE_LIMIT_PER_MINUTE": "0",
    "MAX_QUEUED": "0",
}  # fmt: skip


@dataclass
class Part:
    """A process that is started again whenever it ends."""

    name: str
    command: list[str]
    environment: dict[str, str]
    log: Path
    process: asyncio.subprocess.Process | None = None
    #: seconds until it is started again, once
    pause: float = 0.0
    _stopping: bool = False
    _keeping: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start it, and again whenever it ends."""
        self._keeping = asyncio.create_task(self._keep())

    async def _keep(self) -> None:
        while not self._stopping:
            with self.log.open("ab") as log:
                self.process = await asyncio.create_subprocess_exec(
                    *self.command, cwd=ROOT, env={**os.environ, **self.environment}, stdout=log, stderr=log
                )
            await self.process.wait()
            pause, self.pause = self.pause, 0.0
            await asyncio.sleep(pause or RESTART)

    def send(self, number: int) -> None:
        """Send it a signal, if it runs."""
        if self.process and self.process.returncode is None:
            self.process.send_signal(number)

    def processes(self) -> list[psutil.Process]:
        """Return what it started, itself first."""
        with suppress(psutil.Error):
            if self.process and self.process.returncode is None:
                own = psutil.Process(self.process.pid)
                return [own, *own.children(recursive=True)]
        return []

    async def stop(self) -> None:
        """End it for good."""
        self._stopping = True
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP):
                while self.process and self.process.returncode is None:
                    await asyncio.sleep(0.05)
        except TimeoutError:
            self.send(signal.SIGKILL)
        if self._keeping:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)


@dataclass
class Cluster:
    """Everything that runs."""

    folder: Path
    #: where Postgres is: a disk of its own, if one can be had
    disk: Path
    #: of Postgres, past every wire
    url: str
    database: Database
    #: of the API, through its wire
    key: str
    wires: dict[str, Wire]
    parts: dict[str, Part]
    #: of WhatsApp's side, past its wire
    whatsapp: Client
    client: Client
    accounts: list[str] = field(default_factory=list)
    #: an account that nobody links, for what is only accepted
    unlinked: str = ""

    @property
    def workers(self) -> list[Part]:
        """The workers."""
        return [part for name, part in self.parts.items() if name.startswith("worker")]

    @property
    def received(self) -> Path:
        """What the receiver wrote."""
        return self.folder / "received.jsonl"

    def browsers(self) -> list[psutil.Process]:
        """Return the main process of every browser."""
        return [process for held, process in browsers() if held.is_relative_to(self.folder)]

    async def value(self, query: str, *values: object) -> object:
        """Return the first column of a query's first row, by Postgres itself."""
        async with self.database.transaction() as tx:
            cursor = await tx.connection.execute(query, values or None)
            row = await cursor.fetchone()
            return row[0] if row else None

    async def read(self, shape: type[T], query: str, *values: object) -> list[T]:
        """Return a query's rows as `shape`, by Postgres itself."""
        async with self.database.transaction() as tx, tx.connection.cursor(row_factory=class_row(shape)) as cursor:
            await cursor.execute(query, values or None)
            return await cursor.fetchall()

    def heal(self) -> None:
        """Let everything run and every wire carry."""
        for wire in self.wires.values():
            wire.heal()
        for part in self.parts.values():
            for process in part.processes():
                with suppress(psutil.Error):
                    process.resume()

    async def link(self, drawn: dict[str, object]) -> None:
        """Make an account whose page is drawn so, scan its code, and have it sealed: another disk can take over."""
        account = str((await self.client.post("/accounts", {"name": "x", "transport": "sandbox"}))["id"])
        await self.whatsapp.post(f"/sandbox/accounts/{account}/draw", drawn)
        await self.client.post(f"/accounts/{account}/connect")
        await self.client.qr(account)
        await self.whatsapp.scan(account)
        await self.client.wait(f"/accounts/{account}", "state", {"ready"}, 60 + SYNCING)
        await self.client.post(f"/accounts/{account}/disconnect")
        await self.client.wait(f"/accounts/{account}", "state", {"disconnected"}, 60)
        await self.client.post(f"/accounts/{account}/connect")
        await self.client.wait(f"/accounts/{account}", "state", {"ready"}, 60)
        self.accounts.append(account)


def _socket(url: str) -> Callable[[], Awaitable[Peer]]:
    folder = parse_qs(urlsplit(url).query)["host"][0]
    return partial(asyncio.open_unix_connection, f"{folder}/.s.PGSQL.5432")


def _tcp(port: int) -> Callable[[], Awaitable[Peer]]:
    return partial(asyncio.open_connection, "127.0.0.1", port)


@asynccontextmanager
async def open_cluster(folder: Path, accounts: int, *, dom: str, harsh: bool) -> AsyncIterator[Cluster]:
    """Run an API, two workers, Postgres, WhatsApp's side and a receiver, and link accounts."""
    with _own_disk(folder / "disk") as disk:
        url = await asyncio.to_thread(embedded.start, disk)
        try:
            await asyncio.to_thread(schema.migrate, url)
            async with AsyncExitStack() as stack:
                cluster = await _assemble(folder, disk, url, stack)
                drawn: dict[str, object] = {"dom": dom, "harsh": harsh}
                for _ in range(accounts):
                    await cluster.link(drawn)
                unlinked = await cluster.client.post("/accounts", {"name": "unlinked", "transport": "sandbox"})
                cluster.unlinked = str(unlinked["id"])
                yield cluster
        finally:
            await asyncio.to_thread(embedded.stop_server, disk)


@contextmanager
def _own_disk(path: Path) -> Iterator[Path]:
    """Give Postgres a file system of its own that can be filled, where this process may mount one."""
    path.mkdir(mode=0o755)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=0755", "tmpfs", str(path)]
    mounted = shutil.which("mount") and subprocess.run(mount, check=False, capture_output=True).returncode == 0
    try:
        yield path
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(path)], check=False)  # noqa: S607  # wherever the system has it


async def _assemble(folder: Path, disk: Path, url: str, stack: AsyncExitStack) -> Cluster:
    api, whatsapp, receiver, *health = held_ports(6)
    wires = {
        "client-api": Wire("client-api", _tcp(api)),
        "api-postgres": Wire("api-postgres", _socket(url)),
        "worker1-postgres": Wire("worker1-postgres", _socket(url)),
        "worker2-postgres": Wire("worker2-postgres", _socket(url)),
        "browsers-whatsapp": Wire("browsers-whatsapp", _tcp(whatsapp)),
        "workers-receiver": Wire("workers-receiver", _tcp(receiver)),
    }
    for wire in wires.values():
        await wire.start()
        stack.push_async_callback(wire.stop)
    key = new_secret("key_")
    common = {
        **SHORT, "API_KEY": key, "ADMIN_KEY": new_secret("adm_"),
        "ENCRYPTION_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
    }  # fmt: skip

    def ours(command: str, name: str, **environment: str) -> Part:
        database = _through(url, wires[f"{name}-postgres"])
        own = {**common, "DATA_DIR": str(folder / name), "DATABASE_URL": database, **environment}
        return _part(folder, name, [sys.executable, "-m", "cli", command], own)

    parts = {
        "whatsapp": _part(
            folder, "whatsapp",
            [sys.executable, "-m", "browser.sandbox", "--port", str(whatsapp), "--data", str(folder / "whatsapp"),
             "--long-syncing", str(SYNCING)], {},
        ),
        "api": ours("api", "api", PORT=str(api)),
        # A worker's PORT is where it reaches the sandbox: the same address from both, since a login belongs to it.
        **{
            name: ours("worker", name, PORT=str(wires["browsers-whatsapp"].port), WORKER_PORT=str(port))
            for name, port in zip(("worker1", "worker2"), health, strict=False)
        },
    }  # fmt: skip
    for part in parts.values():
        part.start()
        stack.push_async_callback(part.stop)
    cluster = Cluster(
        folder, disk, url,
        database=await stack.enter_async_context(Database(url)),
        key=key,
        wires=wires,
        parts=parts,
        whatsapp=await stack.enter_async_context(Client(f"http://127.0.0.1:{whatsapp}", "")),
        client=await stack.enter_async_context(Client(f"http://127.0.0.1:{wires['client-api'].port}", key)),
    )  # fmt: skip
    await cluster.client.wait_up(60)
    secret = await _register(cluster)
    receives = [sys.executable, "-m", "faults.receiver", str(receiver), secret, str(cluster.received)]
    cluster.parts["receiver"] = _part(folder, "receiver", receives, {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"})
    cluster.parts["receiver"].start()
    stack.push_async_callback(cluster.parts["receiver"].stop)
    return cluster


async def _register(cluster: Cluster) -> str:
    """Register the receiver's endpoint, which is tried again soon, and return its secret."""
    hook = f"http://127.0.0.1:{cluster.wires['workers-receiver'].port}/hook"
    retry = {"attempts": 20, "baseSeconds": 1, "factor": 1.5, "capSeconds": 5}
    endpoint = await cluster.client.post("/webhooks", {"url": hook, "events": ["*"], "retry": retry})
    return str(endpoint["secret"])


def _part(folder: Path, name: str, command: list[str], environment: dict[str, str]) -> Part:
    return Part(name, command, environment, folder / f"{name}.log")


def _through(url: str, wire: Wire) -> str:
    where = urlsplit(url)
    return f"postgresql://{where.username}@127.0.0.1:{wire.port}{where.path}"
