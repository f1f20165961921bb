"""The timeline of a job: what happened to it, up to a bound."""

from fixtures_api import api
from fixtures_lanes import add_jobs, add_lanes

from sql.database import Database
from tasks.lanes import Drain
from tasks.sending.claimed_job import Job

FIRST, MOST = 20, 100


async def test_a_job_that_waits_again_and_again_keeps_the_first_steps_and_the_newest(
    database: Database, database_url: str
) -> None:
    await add_lanes(database, "acc_1")
    (job,) = await add_jobs(database, "acc_1")
    (drain,) = await database.read(Drain, "begin_drain", lane="acc_1", worker="w", wakeup=1)
    steps: list[dict[str, str]] = []
    async with api(database_url) as client:
        for turn in range(60):
            (taken,) = await database.read(Job, "take_job", lane="acc_1", epoch=drain.epoch, worker="w")
            await database.all("return_job", job=job, claim=taken.claim, code=f"wait_{turn}", detail=None)
            if turn == FIRST:
                steps = (await client.get(f"/jobs/{job}")).json()["timeline"][:FIRST]
        timeline = (await client.get(f"/jobs/{job}")).json()["timeline"]
    assert (len(timeline), timeline[:FIRST]) == (MOST, steps)
    assert [step["detail"] for step in timeline[-3:]] == ["wait_58", None, "wait_59"]
    newest = [step["detail"] for step in timeline[FIRST:] if step["detail"]]
    assert newest == [f"wait_{turn}" for turn in range(20, 60)], "nothing is missing among the newest"
