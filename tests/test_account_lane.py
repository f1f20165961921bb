from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
from fixtures_house import make_settings
from fixtures_lanes import add_jobs, add_lanes, value

from browser.page.screens import Screen
from sql.database import Database
from tasks.lanes import Drain
from tasks.sending.claimed_job import Job
from tasks.web.lane import AccountWork
from wiring.worker import make_worker

if TYPE_CHECKING:
    from tasks.web.seats import Session


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


async def test_an_account_whose_circuit_is_open_stays_closed_until_its_gate_opens(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    """The watchdog asks for a drain at once when it finds a browser gone that a message has found gone, too."""
    await add_lanes(database, "acc_1")
    async with database.transaction() as tx:
        await tx.connection.execute("update accounts set state = 'circuit_open', linked = true")
        await tx.connection.execute(
            "update lanes set open_at = now() + interval '5 minutes', gate_reason = 'page_crashed', attend_at = now()"
        )
    worker = make_worker(make_settings(tmp_path, database_url, 1, 1), database_url, "home_1")
    async with worker.opened():
        await worker.lanes.drain("acc_1", 1)
        assert await value(database, "select state from accounts") == "circuit_open"
        assert await value(database, "select leased_by from accounts") is None
        assert await value(database, "select attend_at = open_at from lanes"), "it is not opened after the pause"


@pytest.mark.parametrize(
    ("state", "ahead", "opens"), [("submitting", 60, False), ("submitting", -1, True), ("sending", -1, False)]
)
async def test_an_open_circuit_lets_a_page_open_to_settle_what_is_due(
    database: Database, database_url: str, tmp_path: Path, state: str, ahead: int, *, opens: bool
) -> None:
    await add_lanes(database, "acc_1")
    await add_jobs(database, "acc_1")
    (old,) = await database.read(Drain, "begin_drain", lane="acc_1", worker="wrk_dead", wakeup=1)
    assert await database.read(Job, "take_job", lane="acc_1", epoch=old.epoch, worker="wrk_dead")
    async with database.transaction() as tx:
        await tx.connection.execute("update accounts set state = 'circuit_open', linked = true")
        await tx.connection.execute("update lanes set open_at = now() + interval '5 minutes'")
        await tx.connection.execute(
            "update jobs set state = %s, look_at = now() + make_interval(secs => %s)", [state, ahead]
        )
    worker = make_worker(make_settings(tmp_path, database_url, 1, 1), database_url, "home_1")
    work = worker.lanes.works["account"]
    assert isinstance(work, AccountWork)
    async with worker.opened():
        (drain,) = await database.read(Drain, "begin_drain", lane="acc_1", worker=worker.id, wakeup=2)
        account = await work._account("acc_1")
        assert account
        assert account.half_done
        assert await work._stays_closed(drain, account) is not opens


async def test_a_request_that_comes_while_a_drain_finds_the_circuit_open_is_kept(database: Database) -> None:
    """As of a person who disconnects the account meanwhile; nor does a person who opened the gate wait for it."""
    await add_lanes(database, "acc_1")

    async def left_by(change: str) -> bool:
        async with database.transaction() as tx:
            await tx.connection.execute("update lanes set open_at = now() + interval '5 minutes', attend_at = now()")
        (drain,) = await database.read(Drain, "begin_drain", lane="acc_1", worker="wrk_1", wakeup=1)
        async with database.transaction() as tx:
            await tx.connection.execute(change)
        await database.all("attend_when_open", lane="acc_1", epoch=drain.epoch, began=drain.began)
        return bool(await value(database, "select attend_at = open_at from lanes"))

    assert await left_by("update lanes set gate_reason = 'page_crashed'")
    # Its time came while this drain looked.
    assert await left_by("update lanes set open_at = clock_timestamp(), attend_at = now() - interval '1 second'")
    assert not await left_by("update lanes set attend_at = clock_timestamp()")
    assert not await left_by("update lanes set open_at = '-infinity'")
    assert not await left_by("update lanes set epoch = epoch + 1")


class GivesWay:
    """A page whose list gives way to another screen once; its notice of a restriction is closed by then."""

    def __init__(self) -> None:
        self.settled = 0

    async def wait_screen(self, *_: Screen, **__: float) -> Screen:
        return Screen.MAIN

    async def restriction(self) -> str | None:
        return None if self.settled else "new_chats"

    async def settle_in(self) -> bool:
        self.settled += 1
        return self.settled > 1


async def test_a_restriction_holds_though_another_screen_comes_after_its_notice_was_closed(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    await add_lanes(database, "acc_1")
    worker = make_worker(make_settings(tmp_path, database_url, 1, 1), database_url, "home_1")
    work = worker.lanes.works["account"]
    assert isinstance(work, AccountWork)
    async with worker.opened():
        async with database.transaction() as tx:
            await tx.connection.execute("update accounts set leased_by = %s, linked = true", [worker.id])
        account, page = await work._account("acc_1"), GivesWay()
        assert account
        session = SimpleNamespace(account="acc_1", page=page, restricted=False)
        await work._settle_in(account, cast("Session", session), is_new=True)
    assert (page.settled, session.restricted) == (2, True)
    assert await value(database, "select restriction from accounts") == "new_chats"
