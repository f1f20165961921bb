"""The code of before goes on beside this one, on the schema of this one, and takes over from it again."""

import asyncio
import io
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import psycopg
import pytest
from fixtures_house import KEY, ROOT, Cluster, Program, cluster
from fixtures_lanes import until, value
from fixtures_postgres import ALL_ROWS, with_database

from bench.ports import held_ports
from commands.client import Client
from sql import schema

pytestmark = [pytest.mark.timeout(600), pytest.mark.long]

#: 0.5.0 before its schema had the newest migrations; moved on with each release.
BEFORE = "6b6fd15dbc4dac0106f1017d67a2c60a4049fa8c"


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the tree of the code of before."""
    folder = tmp_path_factory.mktemp("before")
    git = shutil.which("git") or pytest.skip("there is no git")
    archive = subprocess.run([git, "archive", BEFORE], cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        pytest.skip(f"this clone has no commit {BEFORE}: {archive.stderr.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tree:
        tree.extractall(folder, filter="data")
    return folder


INDEXES = (
    "select indexname, indexdef from pg_indexes where schemaname = 'public' and tablename !~ '_[0-9]{4}_[0-9]{2}$'"
)


def test_an_upgraded_database_has_the_indexes_of_a_new_one(
    postgres: str, database_url: str, tmp_path: Path, before: Path
) -> None:
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("drop database if exists upgraded with (force)")
        connection.execute("create database upgraded")
    url = with_database(postgres, "upgraded")
    environment = {**os.environ, "DATABASE_URL": url, "DATA_DIR": str(tmp_path), "ENV": "development"}
    migrate = [sys.executable, "-m", "cli", "migrate"]
    subprocess.run(migrate, cwd=before, env=environment, check=True)
    with psycopg.connect(url) as connection, psycopg.connect(database_url) as new:
        wanted = set(new.execute(INDEXES).fetchall())
        assert set(connection.execute(INDEXES).fetchall()) != wanted
        connection.rollback()
        schema.migrate(url)
        assert set(connection.execute(INDEXES).fetchall()) == wanted


async def worker(it: Cluster, home: Path, root: Path = ROOT) -> Program:
    """Start a worker with a directory of profiles of its own."""
    (port,) = held_ports(1)
    own = {"CHROME_USER_DATA_DIR": str(home), "WORKER_PORT": str(port), "LEASE_SECONDS": "15"}
    return await it.start_from(root, "worker", own)


async def check_sent(it: Cluster, account: str, message: str) -> None:
    """Send a message; wait until it has its tick and its webhook."""
    phone = "15556660001"
    job = await it.send(account, phone, message)
    assert (await it.ended(job))["sentAt"]
    assert (await it.event(job))["type"] == "JobCompleted"


async def test_a_worker_of_before_sends_beside_this_one_and_after_it(
    database_url: str, tmp_path: Path, before: Path
) -> None:
    async with cluster(tmp_path, database_url) as it:
        old = await worker(it, tmp_path / "old", before)
        first = await it.link("first")
        await check_sent(it, first, "by the old one")
        new = await worker(it, tmp_path / "new")
        await until(it.database, "select count(*) from workers", 2, seconds=60)
        second = await it.link("second")
        for account in (first, second):
            await check_sent(it, account, f"beside, {account}")
        assert await old.stop() == 0
        await until(it.database, "select count(*) from accounts where state = 'ready'", 2, seconds=60)
        for account in (first, second):
            await check_sent(it, account, f"upgraded, {account}")
        old = await worker(it, tmp_path / "old", before)
        await until(it.database, "select count(*) from workers", 2, seconds=60)
        assert await new.stop() == 0
        await until(it.database, "select count(*) from accounts where state = 'ready'", 2, seconds=60)
        for account in (first, second):
            await check_sent(it, account, f"rolled back, {account}")
        texts = [f"{when}, {account}" for when in ("beside", "upgraded", "rolled back") for account in (first, second)]
        assert await it.received("15556660001") == ["by the old one", *texts]
        assert await value(it.database, "select count(*) from deliveries where state = 'failed'") == 0


async def test_the_same_keys_at_an_api_of_before_and_at_this_one_are_one_job_each(
    database_url: str, tmp_path: Path, before: Path
) -> None:
    async with cluster(tmp_path, database_url, rate_limit_per_minute=0) as it:
        (port,) = held_ports(1)
        await it.start_from(before, "api", {"PORT": str(port)})
        account = (await it.client.post("/accounts", {"name": "both", "transport": "sandbox"}))["id"]
        async with Client(f"http://127.0.0.1:{port}", KEY) as old:
            await old.wait_up(60)
            order = {"account": account, "phone": "15556660001", "message": "Hello"}
            orders = [{**order, "idempotencyKey": f"k{number}"} for number in range(1000)]
            orders += [{**order, "message": f"{number}"} for number in range(20)]
            limit = asyncio.Semaphore(16)

            async def send(client: Client, body: dict[str, str]) -> str:
                async with limit:
                    return str((await client.post("/send", body))["jobId"])

            both = [asyncio.gather(*(send(client, each) for each in orders)) for client in (old, it.client)]
            by_old, by_new = await asyncio.gather(*both)
        assert by_old == by_new
        assert await value(it.database, "select count(*) from jobs") == len(orders)
        assert await it.database.all("broken_references", **ALL_ROWS) == []


def test_upkeep_of_before_finds_its_functions(database_url: str, before: Path) -> None:
    code = """
import asyncio, sys
from sql.database import Database
from tasks.upkeep import Upkeep

async def main(url):
    async with Database(url) as database:
        await Upkeep(database, keepalive_days=7, retention_days=30).run_once()

asyncio.run(main(sys.argv[1]))
"""
    subprocess.run([sys.executable, "-c", code, database_url], cwd=before, check=True, env={"PYTHONPATH": str(before)})
