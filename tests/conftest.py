"""The real parts: an embedded Postgres with a migrated template, copied into a database per test."""

import itertools
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest

from sql import embedded, schema
from sql.database import Database

TEMPLATE = "postrider_template"
_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a running server whose database `postrider_template` is migrated.

    TEST_DATABASE_URL runs the tests on another server than the embedded one.
    """
    url = os.environ.get("TEST_DATABASE_URL") or embedded.start(_reachable(tmp_path_factory.mktemp("data")))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"drop database if exists {TEMPLATE}")  # type: ignore[arg-type]  # a constant
        connection.execute(f"create database {TEMPLATE}")  # type: ignore[arg-type]
    schema.migrate(with_database(url, TEMPLATE))
    yield url


def _reachable(folder: Path) -> Path:
    # As root the server runs as a user of its own, who must be able to walk to its directory.
    for parent in (folder, folder.parent, folder.parent.parent):
        parent.chmod(0o755)
    return folder


def with_database(url: str, name: str) -> str:
    base, _, query = url.partition("?")
    return f"{base.rpartition('/')[0]}/{name}" + (f"?{query}" if query else "")


@pytest.fixture
def database_url(postgres: str) -> Iterator[str]:
    """URL of a migrated database of the test's own."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"create database {name} template {TEMPLATE}")  # type: ignore[arg-type]
    yield with_database(postgres, name)
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"drop database if exists {name} with (force)")  # type: ignore[arg-type]


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """An open pool on a migrated database of the test's own."""
    async with Database(database_url) as db:
        yield db


