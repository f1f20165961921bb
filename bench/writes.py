"""What a message writes in Postgres from its acceptance until it was read, and three webhooks have told so."""

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, LiteralString

import psycopg

from bench import service, wal
from bench.lanes_without_browser import MESSAGE, Lanes
from bench.outbox import receiving
from bench.results import Table
from commands.client import Client
from sql.database import Database
from sql.ids import new_id

SENDERS = 5  # accounts
STATISTICS_SECONDS = 2.0  # until Postgres has counted what others did
#: a line of pg_waldump: what was written, its bytes without copies of whole pages, and the table or index
RECORD = re.compile(r"rmgr: (\S+) +len \(rec/tot\): +(\d+)/ *\d+,.*?desc: (\S+)(?:.*?blkref #0: rel \d+/\d+/(\d+))?")
#: the table of each table and index, and whether it is an index; partitions count for their table, as does TOAST
RELATIONS = """
    with recursive relations (id, relation) as (
        select oid, oid from pg_class where relnamespace = 'public'::regnamespace
        union all
        select inhrelid, relation from relations join pg_inherits on inhparent = id
    ), tables as (
        select id, max(relation::regclass::text) as name from relations
        where relation not in (select inhrelid from pg_inherits) group by id
    )
    select pg_relation_filenode(id), name, false from tables
    union all
    select pg_relation_filenode(reltoastrelid), name, false
    from tables join pg_class on oid = id where reltoastrelid > 0
    union all
    select pg_relation_filenode(indexrelid), name, true from tables join pg_index on indrelid = id
"""
UPDATES = "select relname, n_tup_upd, n_tup_hot_upd from pg_stat_user_tables"


@dataclass
class Written:
    """What was written of each table."""

    bytes: Counter[str] = field(default_factory=Counter)
    entries: Counter[str] = field(default_factory=Counter)
    updates: Counter[str] = field(default_factory=Counter)
    hot: Counter[str] = field(default_factory=Counter)


async def run(messages: int, folder: Path) -> int:
    """Send messages one by one, and read the write-ahead log of that time."""
    table = Table("writes", ("table", "WAL, bytes a message", "index entries", "updates", "of these HOT"))
    async with AsyncExitStack() as stack:
        it = await service.start(stack, SENDERS, "read")
        client, database, lanes = await stack.enter_async_context(it.client()), it.database, it.lanes
        hook = await stack.enter_async_context(receiving())
        await client.post("/webhooks", {"url": hook, "events": ["JobCompleted", "JobDelivered", "JobRead"]})
        await _send(client, database, lanes, SENDERS)  # statements are prepared, pages and partitions are there
        async with await psycopg.AsyncConnection.connect(database.url, autocommit=True) as connection:
            await connection.execute("checkpoint")
            written = await _written(connection, lambda: _send(client, database, lanes, messages))
        table.begin()
        for name, size in written.bytes.most_common():
            counts = (size, written.entries[name], written.updates[name], written.hot[name])
            if size / messages >= 1:
                table.add(name, *(f"{count / messages:.1f}" for count in counts))
        totals = (written.bytes, written.entries, written.updates, written.hot)
        table.add("all", *(f"{sum(each.values()) / messages:.1f}" for each in totals))
    table.write(folder)
    return 0


async def _written(connection: psycopg.AsyncConnection, work: Callable[[], Awaitable[None]]) -> Written:
    before, began = await _updates(connection), await wal.place(connection)
    await work()
    ended, after = await wal.place(connection), await _updates(connection)
    relations = {str(node): (name, index) for node, name, index in await _rows(connection, RELATIONS)}
    found = Written()
    for line in await wal.records(connection, began, ended):
        record = RECORD.search(line)
        if record is None or record[4] not in relations:
            continue
        name, index = relations[record[4]]
        found.bytes[name] += int(record[2])
        found.entries[name] += index and record[1] == "Btree" and record[3].startswith("INSERT")
    for partition, (updates, hot) in after.items():
        name = re.sub(r"_\d{4}_\d\d$|_default$", "", partition)
        found.updates[name] += updates - before[partition][0]
        found.hot[name] += hot - before[partition][1]
    return found


async def _rows(connection: psycopg.AsyncConnection, query: LiteralString) -> list[tuple[Any, ...]]:
    return await (await connection.execute(query)).fetchall()


async def _updates(connection: psycopg.AsyncConnection) -> dict[str, tuple[int, int]]:
    await asyncio.sleep(STATISTICS_SECONDS)
    return {name: (updates, hot) for name, updates, hot in await _rows(connection, UPDATES)}


async def _send(client: Client, database: Database, lanes: Lanes, messages: int) -> None:
    """Send messages, one after the other, and wait until all were read and nothing is to be delivered."""
    for number in range(messages):
        order = {
            "account": lanes.accounts[number % SENDERS], "phone": f"1555{number % 50:07}",
            "message": f"{MESSAGE} {number}", "idempotencyKey": new_id("msg_"),
        }  # fmt: skip
        await client.post("/send", order)
    while (await database.all("bench_unfinished"))[0]["unfinished"]:  # noqa: ASYNC110  # the state is in Postgres
        await asyncio.sleep(0.5)
