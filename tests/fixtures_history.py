"""Jobs that ended long ago, and upkeep that moves and forgets them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from fixtures_lanes import value
from psycopg.sql import SQL, Identifier

from sql.database import Database
from tasks.upkeep import Upkeep

PHONE = "15551230001"
#: How many jobs stand in the task table and in the history.
PLACES = "select (select count(*) from jobs) || '/' || (select count(*) from jobs_history)"


async def run(database: Database, statement: str, *values: object) -> None:
    async with database.transaction() as tx:
        await tx.connection.execute(statement, values or None)


async def count(database: Database, table: str) -> int:
    async with database.transaction() as tx:
        cursor = await tx.connection.execute(SQL("select count(*) from {}").format(Identifier(table)))
        row = await cursor.fetchone()
        return int(row[0]) if row else 0


async def end(database: Database, state: str = "sent", *, days: float = 4, code: str | None = None) -> None:
    """Let every open job have been accepted, sent and ended so many days ago."""
    await run(
        database,
        """
        update jobs
        set state = %s, error_code = %s, bubble = 'b' || id, submitted_at = now() - %s * interval '1 day',
            sent_at = case when %s in ('sent', 'delivered', 'read') then now() - %s * interval '1 day' end,
            ended_at = now() - %s * interval '1 day', claim = null, created_at = created_at - %s * interval '1 day'
        where ended_at is null
        """,
        state, code, days, state, *[days] * 3,
    )  # fmt: skip


async def keep_up(database: Database, *, days: float = 90, **values: Any) -> None:
    await Upkeep(database, keepalive_days=7, retention_days=days, **values).run_once()


async def waits_for_a_lock(database: Database, connections: int = 1) -> None:
    """Wait until so many connections of this database wait for others."""
    waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    async with asyncio.timeout(30):
        while await value(database, waiting) < connections:
            await asyncio.sleep(0.01)


async def again_until(done: asyncio.Event, do: Callable[[], Awaitable[object]]) -> int:
    """Do it again and again until `done` is set; return how often."""
    times = 0
    while not done.is_set():
        await do()
        times += 1
    return times
