"""The real parts: an embedded Postgres with a migrated template, copied into a database per test."""

import gc
import hashlib
import itertools
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import hypothesis
import psycopg
import pytest
from fixtures_browser import KINDS
from fixtures_driver import Lender
from fixtures_postgres import TEMPLATE, open_folder, own_database, with_database

from browser.engine import engine
from sql import embedded, schema
from sql.database import Database

SLOWEST = 10  # files that are named in the end
SHARED_MEMORY = "/dev/shm"  # noqa: S108  # Linux's file system in memory
ROOM = 4 * 2**30  # bytes; a run takes about 1 GiB of it


def work_in_memory() -> None:
    """Keep temporary files in memory, unless TMPDIR says where; processes that are started inherit it.

    Each of the hundreds of databases made here takes up to 0.3 s of processor time on a disk, and 0.03 s in memory.
    """
    with suppress(OSError):
        usable = not os.statvfs(SHARED_MEMORY).f_flag & os.ST_NOEXEC and os.access(SHARED_MEMORY, os.W_OK)
        if "TMPDIR" not in os.environ and usable and shutil.disk_usage(SHARED_MEMORY).free > ROOM:
            os.environ["TMPDIR"] = tempfile.tempdir = SHARED_MEMORY


work_in_memory()
# How long a test takes is no fault of what it tests: these machines are busy.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")
# What is loaded is never garbage, and need not be searched again and again.
gc.disable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run a test of the page suite on one of its kinds of page, which its name chooses; on the others it is long."""
    variants = [item for item in items if isinstance(item, pytest.Function) and params(item).get("kind") in KINDS]
    drawn: defaultdict[str, set[object]] = defaultdict(set)
    for item in variants:
        drawn[item.nodeid.partition("[")[0]].add(params(item)["kind"])
    for item in variants:
        kinds = [kind for kind in KINDS if kind in drawn[item.nodeid.partition("[")[0]]] or KINDS
        chosen = kinds[int(hashlib.sha256(item.originalname.encode()).hexdigest(), 16) % len(kinds)]
        if params(item)["kind"] != chosen:
            item.add_marker(pytest.mark.long)


def params(item: pytest.Function) -> dict[str, object]:
    """Return the parameters that a test is run with."""
    return dict(item.callspec.params) if hasattr(item, "callspec") else {}


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Search for garbage again, among what the tests make."""
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the files that took longest: seconds of all their tests, with what made them ready, added up."""
    took: defaultdict[str, float] = defaultdict(float)
    for report in itertools.chain.from_iterable(terminalreporter.stats.values()):
        if isinstance(report, pytest.TestReport):
            took[report.nodeid.partition("::")[0]] += report.duration
    if not took:
        return
    terminalreporter.section(f"slowest {SLOWEST} files, of {sum(took.values()):.0f} s")
    for name, seconds in sorted(took.items(), key=lambda one: -one[1])[:SLOWEST]:
        terminalreporter.line(f"{seconds:7.1f} s  {name}")


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


@pytest.fixture
def migrations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of all migrations, for a test to add one or to take some away."""
    folder = tmp_path / "migrations"
    shutil.copytree(schema.FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(schema, "FOLDER", folder)
    return folder


@pytest.fixture
def database_url(postgres: str) -> Iterator[str]:
    """URL of a migrated database of the test's own."""
    with own_database(postgres) as url:
        yield url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """An open pool on a migrated database of the test's own."""
    async with Database(database_url) as db:
        yield db


@pytest.fixture(scope="session", autouse=True)
async def one_driver() -> AsyncIterator[Lender]:
    """Let all engines of this process borrow one driver."""
    lender = Lender()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "start_driver", lender.start)
        yield lender
    await lender.stop()
