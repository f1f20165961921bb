"""Messages that workers send a second when the browser takes no time, compared with one procrastinate job for each."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psycopg

from bench.lanes_without_browser import MESSAGE, Lanes
from bench.peers import procrastinate_jobs
from bench.processes import running
from bench.results import Spread, Table
from bench.service import ENCRYPTION_KEY, SLOTS, own_postgres
from sql import schema
from sql.database import Database

#: does a round, and returns messages a second
Measure = Callable[[], Awaitable[float]]


@dataclass(frozen=True)
class Size:
    """How much is sent in a round."""

    lanes: int
    #: messages of each lane
    each: int
    workers: int

    def per_second(self, began: float) -> float:
        """Return messages a second since `began`."""
        return self.lanes * self.each / (time.monotonic() - began)


async def run(size: Size, rounds: int, folder: Path) -> int:
    """Have messages of many lanes fall due at once, and wait until all were sent."""
    table = Table("send", ("what", "lanes", "messages each", "workers", "messages a second", "ratio"))
    async with AsyncExitStack() as stack:
        home, url = await own_postgres(stack)
        ours = await _ours(stack, url, home, size)
        peer = await _peer(stack, url, size)
        for measure in (ours, peer):
            await measure()
        table.begin()
        counts = (size.lanes, size.each, size.workers)
        pairs = [(await ours(), await peer()) for _ in range(rounds)]
        ratio = Spread([one / other for one, other in pairs], 2)
        table.add("Postrider", *counts, Spread([one for one, _ in pairs]), ratio)
        table.add("a procrastinate job each", *counts, Spread([other for _, other in pairs]), 1.0)
    table.write(folder)
    return 0


async def _ours(stack: AsyncExitStack, url: str, home: Path, size: Size) -> Measure:
    await asyncio.to_thread(schema.migrate, url)
    database = await stack.enter_async_context(Database(url))
    lanes = Lanes(database, [f"acc_{number + 1}" for number in range(size.lanes)], size.each)
    await lanes.add()
    for number in range(size.workers):
        variables = {
            "DATABASE_URL": url, "DATA_DIR": str(home / f"worker{number}"), "MAX_SESSIONS": str(SLOTS),
            "WORKER_DUTIES": "sessions", "ENCRYPTION_KEY": ENCRYPTION_KEY, "LOG_LEVEL": "error",
        }  # fmt: skip
        await stack.enter_async_context(running("-m", "bench.worker_without_browser", variables=variables))
    return partial(lanes.measure, analyzed=True)


async def _peer(stack: AsyncExitStack, url: str, size: Size) -> Measure:
    peer = await asyncio.to_thread(procrastinate_jobs.make_database, url)
    connection = await stack.enter_async_context(await psycopg.AsyncConnection.connect(peer, autocommit=True))
    for _ in range(size.workers):
        await stack.enter_async_context(running("-m", "bench.peers", "worker", peer, str(SLOTS)))

    async def measure() -> float:
        began = time.monotonic()
        await connection.execute(
            "insert into procrastinate_jobs (queue_name, task_name, lock, args)"
            " select %s, 'send', 'acc_' || account, jsonb_build_object('phone', '1555' || n, 'message', %s::text)"
            " from generate_series(1, %s) as n, generate_series(1, %s) as account",
            [procrastinate_jobs.QUEUE, MESSAGE, size.each, size.lanes],
        )
        # Otherwise the plan for an empty table may be kept, with which the fetch reads all jobs for each of them.
        await connection.execute("analyze procrastinate_jobs")
        open_ones = "select exists (select from procrastinate_jobs where status in ('todo', 'doing'))"
        while (await (await connection.execute(open_ones)).fetchone() or [False])[0]:  # noqa: ASYNC110  # as above
            await asyncio.sleep(0.1)
        return size.per_second(began)

    return measure
