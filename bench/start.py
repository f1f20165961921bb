"""How long each program takes until it is ready, and the memory that it has then."""

import asyncio
import time
from asyncio.subprocess import Process
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import httpx2
import psutil

from bench.ports import held_ports
from bench.processes import running
from bench.results import Spread, Table
from bench.service import ENCRYPTION_KEY, own_postgres
from crypto import new_secret
from sql import schema

MB = 2**20
PATIENCE = 60.0  # seconds until a program must be ready
LOOK = 0.01  # seconds between looks
SETTLE = 3.0  # seconds until its first statements, heartbeats and looks are done
#: name → command; all as in production
PROGRAMS = {
    "postrider api": ("api",),
    "postrider worker --duties webhooks": ("worker", "--duties", "webhooks"),
    "postrider worker --duties sessions, without a session": ("worker", "--duties", "sessions"),
}


async def run(rounds: int, folder: Path) -> int:
    """Start each program `rounds` times, one at a time."""
    table = Table("start", ("program", "seconds until it is ready", "resident, MB", "PSS, MB"))
    table.begin()
    async with AsyncExitStack() as stack:
        home, url = await own_postgres(stack)
        await asyncio.to_thread(schema.migrate, url)
        given = {
            "ENV": "production", "DATABASE_URL": url, "DATA_DIR": str(home / "data"), "API_KEY": new_secret("key_"),
            "ENCRYPTION_KEY": ENCRYPTION_KEY, "LOG_LEVEL": "error",
        }  # fmt: skip
        for name, command in PROGRAMS.items():
            measured = [await _measure(given, command) for _ in range(rounds)]
            seconds, resident, shared = zip(*measured, strict=True)
            table.add(name, Spread(seconds, 2), Spread(resident), Spread(shared))
    table.write(folder)
    return 0


async def _measure(given: Mapping[str, str], command: Sequence[str]) -> tuple[float, float, float]:
    """Start a program once; return seconds until it is ready, and MB of its resident memory and PSS."""
    (port,) = held_ports(1)
    variables = {**given, "PORT": str(port), "WORKER_PORT": str(port)}
    began = time.perf_counter()
    async with running("-m", "cli", *command, variables=variables) as process:
        await _ready(port, process)
        seconds = time.perf_counter() - began
        await asyncio.sleep(SETTLE)
        size = psutil.Process(process.pid).memory_full_info()
        return seconds, size.rss / MB, getattr(size, "pss", size.uss) / MB


async def _ready(port: int, process: Process) -> None:
    async with asyncio.timeout(PATIENCE), httpx2.AsyncClient(trust_env=False) as client:
        while process.returncode is None:
            with suppress(httpx2.TransportError):
                if (await client.get(f"http://127.0.0.1:{port}/readyz")).is_success:
                    return
            await asyncio.sleep(LOOK)
    raise RuntimeError(f"A program to measure ended with {process.returncode} before it was ready.")
