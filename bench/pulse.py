"""What a turn of the pulse costs, by the number of lanes."""

import asyncio
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import psycopg

from bench.results import Spread, Table
from sql import embedded, schema
from sql.database import Row, Transaction
from tasks.pulse import Pulse

DUE = 100  # lanes with work that falls due at each turn
ACCOUNTS = 10_000  # at most; the other lanes are endpoints
SETTLE_SECONDS = 900.0
#: the query that wakes the lanes whose time has come
MARKS = "use_marks"


class Timed(Transaction):
    """Notes how long each named query takes, in ms."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], took: dict[str, list[float]]) -> None:
        super().__init__(connection)
        self._took = took

    async def all(self, name: str, /, **values: object) -> list[Row]:
        """Run a query."""
        began = time.perf_counter()
        rows = await super().all(name, **values)
        self._took[name].append((time.perf_counter() - began) * 1000)
        return rows


class TimedPulse(Pulse):
    """A pulse whose queries are timed."""

    def __init__(self, url: str) -> None:
        super().__init__(url, SETTLE_SECONDS)
        self.took: dict[str, list[float]] = defaultdict(list)

    def _statement(self, connection: psycopg.AsyncConnection[Any]) -> Transaction:
        return Timed(connection, self.took)


async def run(counts: list[int], turns: int, folder: Path) -> int:
    """Measure turns of the pulse with each number of lanes, smallest first."""
    table = Table("pulse", ("lanes", "due", "marks used, ms", "sweep, ms", "the rest, ms", "the whole turn, ms"))
    with tempfile.TemporaryDirectory(prefix="postrider-bench-") as name:
        home = Path(name)
        home.chmod(0o755)  # noqa: ASYNC240  # nothing else goes on yet
        url = await asyncio.to_thread(embedded.start, home)
        try:
            await asyncio.to_thread(schema.migrate, url)
            table.begin()
            have = 0
            for count in sorted(counts):
                await asyncio.to_thread(fill, url, have, count)
                have = count
                await _measure(table, url, count, turns)
        finally:
            await asyncio.to_thread(embedded.stop_server, home)
    table.write(folder)
    return 0


async def _measure(table: Table, url: str, count: int, turns: int) -> None:
    pulse = TimedPulse(url)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await pulse.run_once()
        await connection.execute("delete from procrastinate_jobs")
        await connection.execute("vacuum analyze")
        pulse.took.clear()
        whole: list[float] = []
        for _ in range(turns):
            await _fall_due(connection)
            began = time.perf_counter()
            await pulse.run_once()
            whole.append((time.perf_counter() - began) * 1000)
            await connection.execute("delete from procrastinate_jobs")
    await pulse.close()
    took = pulse.took
    rest = [sum(each) for each in zip(*(took[name] for name in took if name not in {MARKS, "sweep"}), strict=False)]
    table.add(f"{count:,}", DUE, Spread(took[MARKS], 1), Spread(took["sweep"], 1), Spread(rest, 1), Spread(whole, 1))


async def _fall_due(connection: psycopg.AsyncConnection[Any]) -> None:
    """Have work of some lanes fall due at once."""
    await connection.execute("delete from jobs")
    await connection.execute(
        "insert into jobs (id, org_id, account_id, content_hash, phone, message, due_at, send_at, expires_at)"
        " select 'job_' || md5(gen_random_uuid()::text), org_id, id, '', '1555', 'x', now(), now(),"
        " now() + interval '1 day'"
        " from (select id, org_id from accounts order by id limit %s) as accounts",
        [DUE],
    )


def fill(url: str, first: int, count: int) -> None:
    """Add lanes from number `first` up to `count`: accounts, and then endpoints."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("set statement_timeout = 0")
        for kind, low, high in (
            ("account", first, min(count, ACCOUNTS)),
            ("endpoint", max(first, ACCOUNTS), count),
        ):
            if low >= high:
                continue
            connection.execute(
                "insert into lanes (id, org_id, kind, queue)"
                " select %s || n, 'org_default', %s, %s from generate_series(%s::integer, %s::integer) as n",
                [kind, kind, kind, low, high - 1],
            )
        connection.execute(
            "insert into accounts (id, org_id, name, transport) select id, org_id, id, 'sandbox' from lanes"
            " where kind = 'account' on conflict do nothing"
        )
        connection.execute(
            "insert into endpoints (id, org_id, url, events, secret)"
            " select id, org_id, 'https://example.org/', '{}', '' from lanes where kind = 'endpoint'"
            " on conflict do nothing"
        )
        connection.execute("vacuum analyze")
