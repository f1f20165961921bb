"""Fill a database as years of use would, with the same rows in each run."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psycopg
from psycopg.sql import SQL, Composed, Identifier

from sql import concurrent_indexes, schema
from sql.database import Database
from sql.roles import Role
from tasks.roll_up import RollUp

FOLDER = Path(__file__).parent / "filling"
CHUNK = 250_000  # rows of one statement
WRITERS = 2  # connections that fill
DAYS, RECENT = 85, 3  # over which the history is spread; its last days are in the task table
#: of the org that is measured: the first has half of all jobs, the second all that wait, the last a few
ACCOUNTS, COMMON, FULL, RARE = 100, "acc_1", "acc_2", "acc_100"
COMMON_PHONE, RARE_PHONE = "15550000000", "15550000003"
MESSAGE = "Your order has left our warehouse and should reach you on Thursday between 9 and 12. Track it in our app."
VALUES = {
    "days": DAYS, "own": ACCOUNTS, "common": COMMON, "full": FULL, "rare": RARE, "common_phone": COMMON_PHONE,
    "rare_phone": RARE_PHONE, "message": MESSAGE,
}  # fmt: skip


@dataclass(frozen=True)
class Size:
    """How much a database has."""

    #: jobs of the history, with those of its last days
    history: int
    #: events, each with a delivery and an attempt
    events: int
    #: messages that wait in one lane
    waiting: int
    accounts: int
    #: those of accounts included; the others are endpoints, at most 990 of each org
    lanes: int


def fill_database(url: str, size: Size) -> None:
    """Migrate a new database and fill it, with a line for each step. Ten million jobs take some minutes."""
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:5.0f} s  {text}", flush=True)

    schema.migrate(url)
    with _connected(url) as connection:
        for index in concurrent_indexes.wanted():  # made at the end, which takes half the time
            connection.execute(SQL("drop index {}").format(Identifier(index.name)))
        connection.execute(_text("partitions"))
        say(f"{size.accounts:,} accounts, {size.lanes - size.accounts:,} endpoints")
        connection.execute(_text("lanes"), asdict(size) | VALUES)
    old = size.history - size.history * RECENT // DAYS
    for what, statement, first, last in (
        ("jobs of the history", _text("jobs").format(table=Identifier("jobs_history")), 1, old),
        ("jobs of the task table", _text("jobs").format(table=Identifier("jobs")), old + 1, size.history),
        ("events, deliveries and attempts", _text("events"), 1, size.events),
        ("waiting messages", _text("waiting"), 1, size.waiting),
    ):
        say(f"{last - first + 1:,} {what}")
        _in_chunks(url, size, statement, first, last)
    with _connected(url) as connection:
        say("indexes of lists")
        concurrent_indexes.make(connection, "10s", [])
        say("vacuum, analyze and checkpoint")
        connection.execute("vacuum analyze")
        connection.execute("checkpoint")
    say("days for reports")
    asyncio.run(roll_up(url))
    say("filled")


async def roll_up(url: str) -> None:
    """Roll up all days that are over, without a pause."""
    async with Database(url, Role.WORKER) as database:
        await RollUp(database).roll_up(lambda: True, _no_pause)


async def _no_pause(_: float) -> None:
    await asyncio.sleep(0)


def _text(name: str) -> SQL:
    return SQL((FOLDER / f"{name}.sql").read_text("utf-8"))


def _in_chunks(url: str, size: Size, statement: SQL | Composed, first: int, last: int) -> None:
    """Run a statement for all numbers, several chunks at once."""

    def run(chunk: int) -> None:
        with _connected(url) as connection:
            values = {"first": chunk, "last": min(chunk + CHUNK - 1, last)}
            connection.execute(statement, asdict(size) | VALUES | values)

    with ThreadPoolExecutor(WRITERS) as writers:
        for _ in writers.map(run, range(first, last + 1, CHUNK)):
            pass


@contextmanager
def _connected(url: str) -> Iterator[psycopg.Connection]:
    """A connection on which a statement takes as long as it takes, and values become part of its text."""
    with psycopg.connect(url, autocommit=True, cursor_factory=psycopg.ClientCursor) as connection:
        connection.execute("set statement_timeout = 0")
        connection.execute("set synchronous_commit = off")
        yield connection
