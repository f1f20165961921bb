"""The write-ahead log of a time: one line for each record, as pg_waldump tells it."""

import asyncio
from pathlib import Path
from typing import Any

import psycopg

from sql import embedded


async def place(connection: psycopg.AsyncConnection[Any]) -> str:
    """Return where the log ends now."""
    row = await (await connection.execute("select pg_current_wal_insert_lsn()::text")).fetchone()
    return str(row[0]) if row else ""


async def records(connection: psycopg.AsyncConnection[Any], began: str, ended: str) -> list[str]:
    """Return the records between two places, of a Postgres on this machine."""
    row = await (await connection.execute("show data_directory")).fetchone()
    folder = Path(str(row[0]) if row else "") / "pg_wal"
    await connection.execute("select pg_switch_wal()")
    process = await asyncio.create_subprocess_exec(
        embedded.program("pg_waldump"), "--path", folder, "--start", began, "--end", ended,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    told, wrong = await process.communicate()
    if process.returncode:
        raise RuntimeError(wrong.decode())
    return told.decode().splitlines()
