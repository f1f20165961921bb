"""What growth costs: the same work with an empty database and with one of years of use, and the lists of that one."""

import asyncio
import itertools
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import psycopg

from bench import fill
from bench.fill import Size, fill_database
from bench.http_load import load, post
from bench.lanes_without_browser import Lanes
from bench.outbox import Outbox, receiving
from bench.processes import running, serving
from bench.results import Cell, Spread, Table
from bench.service import own_postgres, variables
from commands.client import Client
from crypto import new_secret
from sql.database import Database

EMPTY = Size(history=0, events=0, waiting=0, accounts=fill.ACCOUNTS, lanes=fill.ACCOUNTS + 10)
CONNECTIONS, SECONDS = 16, 2.0  # of a round of accepting
BATCH, BATCHES = 500, 4  # messages of one request, and requests of a round
SENDERS, EACH = 50, 10  # accounts with messages, and messages of each
ENDPOINTS, EVENTS = 10, 100  # endpoints, and events of each

ROWS, FAR, TIMES = 50, 100, 5  # rows of a page, the page that is measured beside the first, and how often
COMMON, RARE = f"account={fill.COMMON}", f"account={fill.RARE}"
COMMON_PHONE, RARE_PHONE = f"phone={fill.COMMON_PHONE}", f"phone={fill.RARE_PHONE}"
#: each filter and pair of filters, with the commonest value and the rarest of each
LISTS = [
    "",
    *(statuses := ("status=read", "status=cancelled", "status=queued")),
    *(accounts := (COMMON, RARE)),
    *(phones := (COMMON_PHONE, RARE_PHONE)),
    *("&".join(pair) for pair in itertools.product(statuses, accounts)),
    *("&".join(pair) for pair in itertools.product(statuses, phones)),
    *("&".join(pair) for pair in itertools.product(accounts, phones)),
]

#: does a round, and returns how many a second
Measure = Callable[[], Awaitable[float]]


async def run(size: Size, rounds: int, folder: Path) -> int:
    """Fill a database, compare work on it with the same on an empty one, and time its lists."""
    work = Table("growth", ("what", "with an empty database", "with the filled one", "ratio"))
    lists = Table("lists", ("list", "page 1, ms", "last page, ms", "which"))
    async with AsyncExitStack() as stack:
        home, server = await own_postgres(stack)
        hook = await stack.enter_async_context(receiving())
        empty = await _service(stack, await asyncio.to_thread(_database, server, "empty", EMPTY), home / "empty", hook)
        filled = await _service(
            stack, await asyncio.to_thread(_database, server, "filled", size), home / "filled", hook
        )
        work.begin()
        for what in empty.measures():
            pair = [each.measures()[what] for each in (empty, filled)]
            for measure in pair:
                await measure()  # connections and prepared statements, as in a process that runs
            told = [[await measure() for measure in pair] for _ in range(rounds)]
            work.add(what, *(Spread(column) for column in zip(*told, strict=True)), _ratio(told))
        lists.begin()
        for query in LISTS:
            lists.add(query or "all", *await _list(filled, query))
    work.write(folder)
    lists.write(folder)
    return 0


def _ratio(told: list[list[float]]) -> Spread:
    return Spread([filled / empty for empty, filled in told], 2)


def _database(server: str, name: str, size: Size) -> str:
    with psycopg.connect(server, autocommit=True) as connection:
        # As for a server of that size: the defaults are for a small one.
        connection.execute("alter system set max_wal_size = '8GB'")
        connection.execute("select pg_reload_conf()")
        connection.execute(f"create database {name}".encode())
    base, _, query = server.partition("?")
    url = f"{base.rpartition('/')[0]}/{name}" + (f"?{query}" if query else "")
    print(f"The {name} database:", flush=True)
    fill_database(url, size)
    return url


@dataclass
class Service:
    """An API and a worker whose browser takes no time, on a database."""

    database: Database
    port: int
    key: str
    senders: Lanes
    outbox: Outbox
    endpoints: list[str]
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def measures(self) -> dict[str, Measure]:
        """Return what is measured, by its name in the table."""
        return {
            f"accept, {CONNECTIONS} connections": lambda: self.accept("acc_3"),
            "accept, for the account with most that waits": lambda: self.accept(fill.FULL),
            f"accept, in batches of {BATCH}": self.accept_batches,
            "send: wake up, take, submit, end": self.senders.measure,
            "deliver webhooks": self.deliver,
        }

    async def accept(self, account: str) -> float:
        """Return messages that are accepted a second, one a request."""
        answers = await load(
            self.port,
            CONNECTIONS,
            SECONDS,
            lambda: post("/send", json.dumps(self._order(account)).encode(), x_api_key=self.key),
        )
        if set(answers.statuses) != {202}:
            raise RuntimeError(f"not every message was accepted: {dict(answers.statuses)}")
        return answers.per_second

    async def accept_batches(self) -> float:
        """Return messages that are accepted a second, in batches one after the other."""
        async with Client(f"http://127.0.0.1:{self.port}", self.key) as client:
            began = time.monotonic()
            for _ in range(BATCHES):
                await client.post("/send/batch", {"jobs": [self._order("acc_3") for _ in range(BATCH)]})
            return BATCHES * BATCH / (time.monotonic() - began)

    async def deliver(self) -> float:
        """Return webhooks that are delivered a second."""
        await self.outbox.add_events(self.endpoints, EVENTS)
        began = time.monotonic()
        while await self.outbox.is_open(self.endpoints):  # noqa: ASYNC110  # the state is in Postgres
            await asyncio.sleep(0.02)
        return ENDPOINTS * EVENTS / (time.monotonic() - began)

    def _order(self, account: str) -> dict[str, str]:
        number = next(self.numbers)
        return {
            "phone": f"1555{number % 10_000_000:07}", "message": fill.MESSAGE, "account": account,
            "idempotencyKey": f"bench-{number}",
        }  # fmt: skip


async def _service(stack: AsyncExitStack, url: str, home: Path, hook: str) -> Service:
    key = new_secret("key_")
    settings = variables(url, home, key)
    port = int(settings["PORT"])
    await stack.enter_async_context(serving(port, "-m", "cli", "api", variables=settings))
    database = await stack.enter_async_context(Database(url))
    senders, outbox = Lanes(database, [f"acc_s{number}" for number in range(SENDERS)], EACH), Outbox(database)
    await senders.add()
    endpoints = await outbox.add_endpoints(hook, ENDPOINTS)
    await stack.enter_async_context(running("-m", "bench.worker_without_browser", variables=settings))
    return Service(database, port, key, senders, outbox, endpoints)


async def _list(service: Service, query: str) -> tuple[Cell, ...]:
    """Time the first page of a list and its hundredth, or the last page if it has fewer."""
    async with httpx2.AsyncClient(
        base_url=f"http://127.0.0.1:{service.port}", headers={"x-api-key": service.key}
    ) as http:

        async def page(cursor: str | None) -> tuple[float, str | None]:
            began = time.perf_counter()
            after = f"&cursor={cursor}" if cursor else ""
            answer = await http.get(f"/jobs?limit={ROWS}&{query}{after}", timeout=60)
            took = (time.perf_counter() - began) * 1000
            if answer.status_code != httpx2.codes.OK:
                raise RuntimeError(answer.text)
            return took, answer.json()["nextCursor"]

        first = [(await page(None))[0] for _ in range(TIMES)]
        number, cursor = 1, (await page(None))[1]
        while cursor and number < FAR - 1:
            number, after = number + 1, (await page(cursor))[1]
            if not after:
                break
            cursor = after
        last = [(await page(cursor))[0] for _ in range(TIMES)] if cursor else first
        return Spread(first, 1), Spread(last, 1), f"page {number + 1 if cursor else 1}"
