"""A database with messages to report on."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from fixtures_postgres import own_database

FORTNIGHT = Path(__file__).parent / "fixtures_reports.sql"


@contextmanager
def fortnight(postgres: str) -> Iterator[str]:
    """Make a database with a fortnight of two accounts, whose days are rolled up."""
    with own_database(postgres) as url:
        fill(url)
        roll_up(url)
        yield url


def fill(url: str) -> None:
    """Write a fortnight of two accounts."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(FORTNIGHT.read_bytes())


def step(url: str, statement: LiteralString, *values: object) -> Any:
    """Run a step of the roll-up as a worker does, on a connection of its own."""
    with psycopg.connect(url, options="-c role=postrider_worker") as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        return (connection.execute(statement, values).fetchone() or [None])[0]


def roll_up(url: str, most: int = 500) -> None:
    """Take all changes, and roll up all days that are over."""
    while step(url, "select take_report_marks(%s, %s, '{}')", most, most):
        pass
    while step(url, "select roll_up_days(%s, '{}')", most):
        pass
