"""Exports: how long a report takes, what memory the API needs for it, and how long others wait meanwhile."""

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from bench import fill
from bench.fill import Size, fill_database
from bench.http_load import flood, post
from bench.lanes_without_browser import Lanes
from bench.processes import serving
from bench.results import Spread, Table
from bench.service import own_postgres, variables
from crypto import new_secret
from sql.database import Database

PER_SECOND, SECONDS = 50, 20.0  # requests to /send, and for how long
FORMS = ("csv", "ndjson", "json")
MB = 1 << 20
CHUNK = MB  # bytes that a client reads at once, at most


async def run(rows: int, rounds: int, folder: Path) -> int:
    """Export a view of `rows` rows in each form, while messages are accepted; medians of `rounds`."""
    table = Table("exports", ("report.jobs as", *_Round(0, 0, 0, 0, 0, 0, 1).cells()))
    async with AsyncExitStack() as stack:
        home, url = await own_postgres(stack)
        await asyncio.to_thread(fill_database, url, Size(rows, 0, 0, fill.ACCOUNTS, fill.ACCOUNTS + 10))
        database = await stack.enter_async_context(Database(url))
        lanes = Lanes(database, ["acc_sends"], 0)
        await lanes.add()
        key = new_secret("key_")
        given = variables(url, home / "data", key)
        port = int(given["PORT"])
        api = await stack.enter_async_context(serving(port, "-m", "cli", "api", variables=given))
        bench = _Bench(port, key, psutil.Process(api.pid))
        await bench.p99(3)
        table.begin()
        for form in FORMS:
            seen = [await bench.round(form) for _ in range(rounds)]
            cells = [one.cells() for one in seen]
            table.add(form, *(Spread([cell[name][0] for cell in cells], cells[0][name][1]) for name in cells[0]))
    table.write(folder)
    return 0


@dataclass(frozen=True)
class _Round:
    size: float
    first: float
    whole: float
    before: float
    most: float
    beside: float
    alone: float

    def cells(self) -> dict[str, tuple[float, int]]:
        """Return the value of each column, and its digits."""
        return {
            "MB": (self.size, 0),
            "s to the first byte": (self.first, 1),
            "s": (self.whole, 1),
            "API before, MB": (self.before, 0),
            "API at most, MB": (self.most, 0),
            "p99 of /send, ms": (self.beside, 1),
            "p99 alone, ms": (self.alone, 1),
            "times": (self.beside / self.alone, 2),
        }


@dataclass
class _Bench:
    port: int
    key: str
    api: psutil.Process
    numbers: Iterator[int] = field(default_factory=itertools.count)
    most: float = 0.0

    async def p99(self, seconds: float) -> float:
        """Return the 99th percentile of /send, in ms."""
        answers = await flood(self.port, PER_SECOND, seconds, self._message)
        if {status for status, *_ in answers.each} != {202}:
            raise RuntimeError(f"Messages were answered {Counter(status for status, *_ in answers.each)}.")
        answers.seconds = [took for _, took, _ in answers.each]
        return answers.percentile(99)

    def _message(self) -> bytes:
        number = next(self.numbers)
        body = {
            "account": "acc_sends",
            "phone": f"1555{number:07}",
            "message": fill.MESSAGE,
            "idempotencyKey": f"o-{number}",
        }
        return post("/send", json.dumps(body).encode(), x_api_key=self.key)

    async def round(self, form: str) -> _Round:
        """Measure messages alone, and then for as long while one export comes after the other."""
        alone = await self.p99(SECONDS)
        before = self.api.memory_info().rss / MB
        watching = asyncio.create_task(self._most_memory())
        sending = asyncio.create_task(self.p99(SECONDS))
        exports = [await self._export(form)]
        while not sending.done():
            exports.append(await self._export(form))
        watching.cancel()
        first, whole, size = exports[0]
        return _Round(size / MB, first, whole, before, self.most, await sending, alone)

    async def _most_memory(self) -> None:
        self.most = 0.0
        while True:
            self.most = max(self.most, self.api.memory_info().rss / MB)
            await asyncio.sleep(0.05)

    async def _export(self, form: str) -> tuple[float, float, int]:
        """Return seconds to the first byte and to the last, and the size; the client is small, as that of the load."""
        began, size = time.perf_counter(), 0
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(
            f"GET /reports/jobs?format={form} HTTP/1.1\r\nhost: localhost\r\nx-api-key: {self.key}\r\n"
            "connection: close\r\n\r\n".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        first = time.perf_counter() - began
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"An export was answered {head[:40]!r}.")
        while chunk := await reader.read(CHUNK):
            size += len(chunk)
        writer.close()
        return first, time.perf_counter() - began, size
