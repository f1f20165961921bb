from pathlib import Path

from fixtures_house import make_settings
from fixtures_lanes import add_jobs, add_lanes, value

from sql.database import Database
from tasks.lanes import Drain
from tasks.sending.claimed_job import Job
from wiring.worker import make_worker


async def test_what_was_only_typed_is_given_back_though_the_account_is_to_be_disconnected(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    """No page is needed for it: the job of an account that cannot be opened must be free to expire or be cancelled."""
    await add_lanes(database, "acc_1")
    (job,) = await add_jobs(database, "acc_1")
    (old,) = await database.read(Drain, "begin_drain", lane="acc_1", worker="wrk_dead", wakeup=1)
    assert await database.read(Job, "take_job", lane="acc_1", epoch=old.epoch, worker="wrk_dead")
    async with database.transaction() as tx:
        await tx.connection.execute("update accounts set wanted = 'disconnected'")
    worker = make_worker(make_settings(tmp_path, database_url, 1, 1), database_url, "home_1")
    async with worker.opened():
        await worker.lanes.drain("acc_1", 2)
    assert await value(database, "select id from jobs where state = 'queued'") == job
    assert await value(database, "select leased_by from accounts") is None
