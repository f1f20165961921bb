"""What Postgres commits: `pgbench` with one row and commit each."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import psycopg

from sql import embedded

MESSAGE = "Your order has left our warehouse and should reach you on Thursday between 9 and 12. Track it in our app."


def make(url: str, folder: Path) -> Callable[[int, float], Awaitable[float]]:
    """Make a table; return what measures commits a second, of so many connections for so many seconds."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "create table orders (id text primary key, account text, phone text, message text,"
            " created_at timestamptz not null default now())"
        )
    script = folder / "order.sql"
    values = f"(gen_random_uuid()::text, 'acc_1', '15551234567', '{MESSAGE}')"
    script.write_text(f"insert into orders (id, account, phone, message) values {values};\n")  # noqa: S608  # our own

    async def measure(connections: int, seconds: float) -> float:
        options = ("--no-vacuum", "--protocol", "prepared", "--file", script)
        extent = ("--client", str(connections), "--time", str(max(1, round(seconds))))
        process = await asyncio.create_subprocess_exec(
            embedded.program("pgbench"), *options, *extent, url, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        told, wrong = await process.communicate()
        found = re.search(rb"tps = ([\d.]+)", told)
        if not found:
            raise RuntimeError(wrong.decode())
        return float(found[1])

    return measure
