"""One lane whose browser takes no time: all that a message takes besides typing, one at a time and many in a row."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory

import psycopg

from bench import service, wal
from bench.lanes_without_browser import MESSAGE, Lanes
from bench.peers import pgbench
from bench.results import Spread, Table
from commands.client import Client
from sql.database import Database

PAUSE = 0.05  # seconds between messages that go one at a time
PGBENCH_SECONDS = 3.0
COMMIT = "desc: COMMIT"  # in a record of pg_waldump
WARM_UP = 20  # messages until the session is live, and statements are prepared
#: state of a job → what has happened until then
STEPS = {"sending": "taken by the worker", "submitting": "Enter may be pressed", "sent": "its result is written"}


async def run(single: int, row: int, rounds: int, folder: Path) -> int:
    """Send `single` messages one at a time, and `row` of them at once in each round."""
    async with AsyncExitStack() as stack:
        it = await service.start(stack, 1)
        client, database, lanes = await stack.enter_async_context(it.client()), it.database, it.lanes
        scripts = Path(stack.enter_context(TemporaryDirectory()))
        commits = await asyncio.to_thread(pgbench.make, database.url, scripts)
        await _send(client, database, lanes, WARM_UP)
        await _one_at_a_time(client, database, lanes, single, folder)
        await _in_a_row(database, replace(lanes, each=row), rounds, commits, folder)
    return 0


async def _one_at_a_time(client: Client, database: Database, lanes: Lanes, messages: int, folder: Path) -> None:
    """Time messages to an idle worker on a live session, by Postgres's clock, from the statement that inserts each."""
    table = Table("lane_latency", ("from its acceptance until", "messages", "p50, ms", "p99, ms"))
    table.begin()
    keys = await _send(client, database, lanes, messages)
    steps = await database.all("bench_steps", keys=keys)
    for state, name in STEPS.items():
        took = [float(row["ms"]) for row in steps if row["state"] == state]
        table.add(name, len(took), median(took), quantiles(took, n=100)[98])
    table.write(folder)


async def _send(client: Client, database: Database, lanes: Lanes, messages: int) -> list[str]:
    (account,), keys = lanes.accounts, []
    for number in range(messages):
        keys.append(f"lane-{messages}-{number}")
        order = {
            "account": account, "phone": f"1555{number:07}", "message": MESSAGE, "idempotencyKey": keys[-1],
        }  # fmt: skip
        await client.post("/send", order)
        await asyncio.sleep(PAUSE)
    while (await database.all("bench_open", accounts=lanes.accounts))[0]["open"]:  # noqa: ASYNC110  # in Postgres
        await asyncio.sleep(PAUSE)
    return keys


async def _in_a_row(
    database: Database, lanes: Lanes, rounds: int, commits: Callable[[int, float], Awaitable[float]], folder: Path
) -> None:
    """Compare the messages of one lane with commits one after the other."""
    columns = ("messages", "a second", "commits of each", "pgbench, one row and commit each, a second", "ratio")
    table = Table("lane", columns)
    table.begin()
    ours, theirs, each = list[float](), list[float](), list[float]()
    for _ in range(rounds):
        async with await psycopg.AsyncConnection.connect(database.url, autocommit=True) as connection:
            began = await wal.place(connection)
            ours.append(await lanes.measure(analyzed=True))
            written = await wal.records(connection, began, await wal.place(connection))
        each.append(sum(COMMIT in record for record in written) / lanes.each)
        theirs.append(await commits(1, PGBENCH_SECONDS))
    possible = [one / count for one, count in zip(theirs, each, strict=True)]
    ratio = Spread([one / other for one, other in zip(ours, possible, strict=True)], 2)
    table.add(lanes.each, Spread(ours), Spread(each, 1), Spread(theirs), ratio)
    table.write(folder)
