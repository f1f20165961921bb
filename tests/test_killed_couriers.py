"""Workers that are killed while they deliver: nothing is lost, and what comes twice has the same id and bytes."""

import asyncio
import sys
from collections import Counter
from pathlib import Path

import pytest
from fixtures_api import rows
from fixtures_deliveries import SECRET, add_endpoint, receiving
from fixtures_lanes import until, value
from fixtures_webhooks import put_events

from crypto import verify
from sql.database import Database
from tasks.delivery.endpoint_health import MAX_IN_FLIGHT

ROOT = Path(__file__).parent.parent
EVENTS = 1000
#: so many have been received when the worker is killed
KILLS = (100, 400, 401, 700)

COURIER = """
import asyncio, sys
sys.path.insert(0, "tests")
from bench import outbox
from fixtures_deliveries import SEALER
from sql.database import Database

outbox.SEALER = SEALER

async def main(url):
    async with Database(url, size=20, name="postrider worker") as database, outbox.delivering(database, url, dead=2.0):
        await asyncio.Event().wait()

asyncio.run(main(sys.argv[1]))
"""


async def courier(url: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(sys.executable, "-c", COURIER, url, cwd=ROOT)


@pytest.mark.long
async def test_a_thousand_events_arrive_although_workers_are_killed(database: Database, database_url: str) -> None:
    running: list[asyncio.subprocess.Process] = []

    async def kill() -> None:
        # Between the request and its record: it has not been answered yet.
        if len(got) in KILLS:
            process = running.pop()
            process.kill()
            await process.wait()
            running.append(await courier(database_url))

    async with receiving() as (url, scripted):
        got, scripted.meanwhile = scripted.got, kill
        await add_endpoint(database, url)
        await put_events(database, "JobCompleted", EVENTS)
        running.append(await courier(database_url))
        try:
            await until(database, "select count(*) from deliveries where state = 'delivered'", EVENTS, seconds=240)
        finally:
            for process in running:
                process.kill()
                await process.wait()
    bodies = dict(await rows(database, "select id, body from outbox"))
    times = Counter(headers["webhook-id"] for headers, _ in got)
    assert times.keys() == bodies.keys()
    assert all(body.decode() == bodies[headers["webhook-id"]] for headers, body in got)
    for headers, body in got:
        stamp = headers["webhook-timestamp"]
        verify([SECRET], headers["webhook-id"], stamp, headers["webhook-signature"], body, now=float(stamp))
    twice = sum(times.values()) - EVENTS
    most = len(KILLS) * MAX_IN_FLIGHT
    assert len(KILLS) <= twice <= most, "what was under way when a worker was killed, and nothing else"

    interrupted = await value(database, "select count(*) from attempts where error = 'interrupted'")
    assert interrupted >= twice
