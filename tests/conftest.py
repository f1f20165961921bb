"""The real parts: an embedded Postgres with a migrated template, copied into a database per test."""

import itertools
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest

from sql import embedded, schema
from sql.database import Database

TEMPLATE = "postrider_template"
SLOWEST = 10  # files that are named in the end
_numbers = itertools.count()
#: Files that take a minute or more begin first, so that no core waits for the last of them.
LONGEST = (
    "test_takeover.py",
    "test_never_forsaken.py",
    "test_screens_to_states.py",
    "test_many_accounts.py",
    "test_browser_link.py",
    "test_incoming.py",
    "test_incoming_page.py",
    "test_faults.py",
    "test_main_line.py",
    "test_browser_trouble.py",
    "test_browser_page.py",
    "test_commands.py",
    "test_connections.py",
    "test_fault_bench.py",
    "test_crashes.py",
    "test_model.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the files that took longest: seconds of all their tests, with what made them ready, added up."""
    took: defaultdict[str, float] = defaultdict(float)
    for report in itertools.chain.from_iterable(terminalreporter.stats.values()):
        if isinstance(report, pytest.TestReport):
            took[report.nodeid.partition("::")[0]] += report.duration
    terminalreporter.section(f"slowest {SLOWEST} files, of {sum(took.values()):.0f} s")
    for name, seconds in sorted(took.items(), key=lambda one: -one[1])[:SLOWEST]:
        terminalreporter.line(f"{seconds:7.1f} s  {name}")


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that an embedded Postgres can use.

    As root the server runs as a user of its own, who has to walk to its directory, and pytest closes its own folders to
    others whenever another run of it starts.
    """
    with TemporaryDirectory(prefix="postrider-test-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a running server whose database `postrider_template` is migrated.

    TEST_DATABASE_URL runs the tests on another server than the embedded one.
    """
    with ExitStack() as stack:
        url = os.environ.get("TEST_DATABASE_URL")
        if url is None:
            folder = stack.enter_context(open_folder())
            url = embedded.start(folder)
            stack.callback(embedded.stop_server, folder)
        with psycopg.connect(url, autocommit=True) as connection:
            if "TEST_DATABASE_URL" not in os.environ:
                # Hundreds of databases are made here, and none has to outlive a power cut.
                connection.execute("alter system set fsync = off")
                connection.execute("select pg_reload_conf()")
            connection.execute(f"drop database if exists {TEMPLATE}")
            connection.execute(f"create database {TEMPLATE}")
        schema.migrate(with_database(url, TEMPLATE))
        yield url


def with_database(url: str, name: str) -> str:
    base, _, query = url.partition("?")
    return f"{base.rpartition('/')[0]}/{name}" + (f"?{query}" if query else "")


@pytest.fixture
def database_url(postgres: str) -> Iterator[str]:
    """URL of a migrated database of the test's own."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"create database {name} template {TEMPLATE}")
    yield with_database(postgres, name)
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"drop database if exists {name} with (force)")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """An open pool on a migrated database of the test's own."""
    async with Database(database_url) as db:
        yield db
