"""One clock, Postgres's: a worker whose own is an hour off does the same as any other."""

import asyncio
import re
import sys
import time
from pathlib import Path

import pytest
from fixtures_deliveries import add_endpoint, drain_once, receiving, send_one, working
from fixtures_lanes import add_jobs, add_lanes, add_worker, until, value

from sql.database import Database

ROOT = Path(__file__).parent.parent
HOUR = 3600.0

#: Where the clock on the wall of this machine is read, and why it does no harm there when it is wrong.
WALL = {
    "api/openapi/document.py": "The examples of times to come in /openapi.json.",
    "api/reports/reports.py": "The day in the name of the file that a report is saved as.",
    "browser/page/chats.py": "It chooses the year of a day that WhatsApp names without one.",
    "sql/ids.py": "Ids sort by it roughly; nothing goes by their order.",
    "tasks/web/evidence_store.py": "The name of a picture, and by it when it is swept away, an hour sooner or later.",
}
READS = re.compile(
    r"datetime\.now|utcnow|date\.today|\btime\.time\b|\btime\.time_ns|time\.localtime|time\.gmtime|fromtimestamp"
)

#: A worker with its pulse in a process whose clock is shifted.
SHIFTED = """
import asyncio, datetime, sys, time
shift, real, right = float(sys.argv[1]), time.time, datetime.datetime
class Shifted(right):
    @classmethod
    def now(cls, tz=None):
        return right.now(tz) + datetime.timedelta(seconds=shift)
time.time, datetime.datetime = lambda: real() + shift, Shifted

from fixtures_lanes import lane_worker

async def main(url):
    async with lane_worker(url, "wrk_shifted", dead=2.0) as worker:
        while True:
            for turn in (worker.renew, worker.pulse.run_once, worker.lost.run_once):
                await turn()
            await asyncio.sleep(0.1)

asyncio.run(main(sys.argv[2]))
"""


def test_the_clock_on_the_wall_is_read_in_few_places_and_decides_nothing() -> None:
    files = [
        path
        for room in ("api", "browser", "sql", "tasks")
        for path in (ROOT / room).rglob("*.py")
        if "sandbox" not in path.parts
    ]
    reading = {str(path.relative_to(ROOT)) for path in (*files, ROOT / "app.py") if READS.search(path.read_text())}
    assert reading == WALL.keys()


async def run(database: Database, *statements: str) -> None:
    async with database.transaction() as tx:
        for statement in statements:
            await tx.connection.execute(statement)


@pytest.mark.parametrize("shift", [HOUR, pytest.param(-HOUR, marks=pytest.mark.long)])
async def test_a_worker_whose_clock_is_an_hour_off_does_the_same(
    database: Database, database_url: str, shift: float
) -> None:
    await add_lanes(database, "due", "later", "closed", "held", "lapsed")
    await add_jobs(database, "due")
    await add_jobs(database, "later", seconds=HOUR / 2)
    await add_jobs(database, "closed", 2)
    for worker in ("wrk_dead", "wrk_other"):
        await add_worker(database, worker)
    await run(
        database,
        "update lanes set open_at = now() + interval '30 minutes' where id = 'closed'",
        "update jobs set expires_at = now() + case phone when '15551' then '30 minutes' else '-1 second' end::interval "
        "where account_id = 'closed'",
        "update workers set renewed_at = now() - interval '1 minute' where id = 'wrk_dead'",
        "update workers set renewed_at = now() + interval '1 minute' where id = 'wrk_other'",
        "update lanes set queue = 'account@wrk_other' where id in ('held', 'lapsed')",
        "update accounts set leased_by = 'wrk_other', lease_until = now() + case id when 'held' then 1 else -1 end * "
        "interval '30 seconds' where id in ('held', 'lapsed')",
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SHIFTED, str(shift), database_url, cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
    )  # fmt: skip
    try:
        await until(database, "select string_agg(id, ',' order by id) from workers", "wrk_other,wrk_shifted")
        states = "select string_agg(account_id || ' ' || state, ', ' order by account_id, phone) from jobs"
        await until(database, states, "closed queued, closed failed, due sent, later queued")
        queues = "select string_agg(queue, ', ' order by id) from lanes where id in ('held', 'lapsed')"
        await until(database, queues, "account@wrk_other, account")
        assert process.returncode is None
    finally:
        process.kill()
        await process.wait()


async def test_a_delivery_is_dated_by_postgres(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Receivers refuse what is dated minutes off."""
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + HOUR)
    async with receiving() as (url, scripted), working(database) as work:
        await add_endpoint(database, url)
        await send_one(database)
        await drain_once(database, work)
        ((headers, _),) = scripted.got
    assert float(headers["webhook-timestamp"]) == await value(
        database, "select floor(extract(epoch from created_at))::float8 from attempts"
    )
