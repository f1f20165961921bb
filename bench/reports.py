"""How long reports take on years of history, and the roll-up of all of it."""

import asyncio
import re
import time
from contextlib import AsyncExitStack
from datetime import date, timedelta
from pathlib import Path

import psycopg

from bench.fill import Size, fill_database, roll_up
from bench.results import Spread, Table
from bench.service import own_postgres
from errors import OperatorError

#: where the ten questions stand, about the fortnight that ends on that day
DOC = Path(__file__).parent.parent / "docs/reporting.md"
QUESTION = re.compile(r"(?:### (\d+\. .+?)\n\n)?```sql\n(.+?)```", re.DOTALL)
LAST = date(2026, 11, 22)


async def run(size: Size, rounds: int, folder: Path) -> int:
    """Fill a database, roll it up from nothing, and ask the ten questions of docs/reporting.md about its last days."""
    if not DOC.exists():
        raise OperatorError(
            "The questions stand in docs/reporting.md, which a wheel does not have: run this in a checkout."
        )
    table = Table("reports", ("what", "ms"))
    async with AsyncExitStack() as stack:
        _, url = await own_postgres(stack)
        await asyncio.to_thread(fill_database, url, size)
        await asyncio.to_thread(_forget, url)
        table.begin()
        began = time.perf_counter()
        await roll_up(url)
        table.add(f"roll up {size.history:,} messages from nothing", Spread([(time.perf_counter() - began) * 1000]))
        times = await asyncio.to_thread(_ask, url, rounds)
        for what, took in times.items():
            table.add(what, Spread(took, 1))
        table.add("all", Spread([sum(each) for each in zip(*times.values(), strict=True)], 1))
    table.write(folder)
    return 0


def _forget(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("truncate report_days, report_failures, report_hours, report_progress")


def _ask(url: str, rounds: int) -> dict[str, list[float]]:
    """Return the milliseconds of each question, as a login for reports waits for its answer."""
    times: dict[str, list[float]] = {}
    with psycopg.connect(url, autocommit=True, options="-c role=postrider_report") as connection:
        connection.execute("select count(*) from report.daily_volume")
        title = ""
        for number, query in QUESTION.findall(DOC.read_text("utf-8")):
            title = number or f"{title.partition('.')[0]}. … (second part)"
            times[title] = []
            for _ in range(rounds):
                began = time.perf_counter()
                connection.execute(_lately(query).encode()).fetchall()
                times[title].append((time.perf_counter() - began) * 1000)
    return times


def _lately(query: str) -> str:
    """Return the question about the fortnight that ended yesterday."""
    later = date.today() - timedelta(days=1) - LAST  # noqa: DTZ011  # a day more or less does not matter
    return re.sub(r"\d{4}-\d\d-\d\d", lambda day: (date.fromisoformat(day[0]) + later).isoformat(), query)
