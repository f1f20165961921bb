"""Which session gives its seat up, and when that passes on; with pages that cost nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from fixtures_house import make_settings
from fixtures_lanes import add_jobs, add_lanes

from bench.worker_without_browser import make_free
from errors import LeaseLost
from sql.database import Database
from tasks.web.seats import Seats
from tasks.web.sessions import seats_of
from tasks.web.state_changes import Account
from wiring.worker import make_worker

pytestmark = pytest.mark.timeout(60)

KEEPALIVE = 0.0


@dataclass
class Room:
    """The seats of a worker whose browsers answer at once."""

    database: Database
    seats: Seats
    #: accounts that a drain works on
    drained: set[str]

    async def open(self, account: str) -> None:
        """Lease an account and open its session, as a drain does."""
        self.drained.add(account)
        assert await self.seats.lease(account)
        (row,) = await self.database.read(Account, "account_to_drain", account=account, keepalive=KEEPALIVE)
        await self.seats.open(row)

    async def use(self, *accounts: str) -> None:
        """Open sessions one after the other, and let each drain end."""
        for account in accounts:
            await self.open(account)
            self.drained.discard(account)


@asynccontextmanager
async def room(database: Database, url: str, folder: Path, *, seats: int, accounts: int) -> AsyncIterator[Room]:
    """Have seats, and linked accounts acc_1, acc_2 … that are asleep."""
    worker = make_worker(make_settings(folder, url, 1, 1, max_sessions=seats), url, "home_1")
    await add_lanes(database, *(f"acc_{number + 1}" for number in range(accounts)))
    async with database.transaction() as tx:
        await tx.connection.execute("update accounts set linked = true, state = 'hibernated'")
    it = Room(database, seats_of(worker.parts), set())
    it.seats.draining = it.drained.__contains__
    make_free(it.seats, read=False)
    async with worker.opened():
        await worker.register()
        yield it


@dataclass
class Held:
    """Holds up putting accounts' profiles away, as large profiles do."""

    #: accounts that are held up
    accounts: set[str]
    let_go: asyncio.Event
    #: released once for each account that is held up
    reached: asyncio.Semaphore

    async def wait(self, account: str) -> None:
        if account in self.accounts:
            self.reached.release()
            await self.let_go.wait()


def hold(monkeypatch: pytest.MonkeyPatch, it: Room, *accounts: str) -> Held:
    held, put_away = Held(set(accounts), asyncio.Event(), asyncio.Semaphore(0)), it.seats._put_away

    async def held_up(account: str, *rest: object, **more: object) -> None:
        await held.wait(account)
        await put_away(account, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(it.seats, "_put_away", held_up)
    return held


async def test_a_session_that_is_slow_to_leave_holds_up_only_who_gets_its_seat(
    database: Database, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with room(database, database_url, tmp_path, seats=2, accounts=4) as it:
        await it.use("acc_1", "acc_2")
        held = hold(monkeypatch, it, "acc_1")
        slow = asyncio.create_task(it.open("acc_3"))
        await held.reached.acquire()
        await it.open("acc_4")
        assert set(it.seats.sessions) == {"acc_4"}, "the seat of acc_1 is not free yet"
        assert not it.seats.has_room
        held.let_go.set()
        await slow
        assert set(it.seats.sessions) == {"acc_3", "acc_4"}


async def test_sessions_leave_side_by_side_and_no_seat_is_taken_twice(
    database: Database, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with room(database, database_url, tmp_path, seats=3, accounts=7) as it:
        await it.use("acc_1", "acc_2", "acc_3")
        held = hold(monkeypatch, it, "acc_1", "acc_2", "acc_3")
        comers = [asyncio.create_task(it.open(f"acc_{number}")) for number in (4, 5, 6, 7)]
        for _ in held.accounts:
            await held.reached.acquire()
        assert it.seats.sessions == {}, "each profile is sealed before its seat passes on"
        held.let_go.set()
        first = asyncio.as_completed(comers)
        for _ in range(it.seats.capacity):
            await next(first)
        assert len(it.seats.sessions) == it.seats.capacity
        assert it.drained >= set(it.seats.sessions), "who has just sat down is not made to get up"
        it.drained.discard(next(iter(it.seats.sessions)))
        await asyncio.gather(*comers)
        assert len(it.seats.sessions) == it.seats.capacity


async def test_a_seat_passes_on_only_once_its_profile_was_put_away(
    database: Database, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever closes the session: here nobody needed the seat."""
    async with room(database, database_url, tmp_path, seats=1, accounts=2) as it:
        await it.use("acc_1")
        held = hold(monkeypatch, it, "acc_1")
        leaving = asyncio.create_task(it.seats.leave("acc_1", "idle", only_idle=True))
        await held.reached.acquire()
        assert not it.seats.has_room
        opening = asyncio.create_task(it.open("acc_2"))
        done, _ = await asyncio.wait({opening}, timeout=1.0)
        assert not done
        held.let_go.set()
        await asyncio.gather(leaving, opening)
        assert set(it.seats.sessions) == {"acc_2"}


async def test_a_seat_is_not_taken_from_a_drain_that_has_begun_meanwhile(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    async with room(database, database_url, tmp_path, seats=2, accounts=3) as it:
        await it.use("acc_1", "acc_2")
        async with it.seats._lock("acc_1"):  # as while its profile is sealed
            opening = asyncio.create_task(it.open("acc_3"))
            while not it.seats._giving_up:
                await asyncio.sleep(0)
            it.drained.add("acc_1")
        await opening
        assert set(it.seats.sessions) == {"acc_1", "acc_3"}
        assert it.seats.sessions["acc_1"].page.alive


async def test_a_session_without_due_work_goes_first(database: Database, database_url: str, tmp_path: Path) -> None:
    async with room(database, database_url, tmp_path, seats=2, accounts=3) as it:
        await it.use("acc_1", "acc_2")
        await add_jobs(database, "acc_1", wake=False)
        await it.open("acc_3")
        assert set(it.seats.sessions) == {"acc_1", "acc_3"}


async def test_who_waits_for_a_seat_gives_up_when_the_worker_stops(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    async with room(database, database_url, tmp_path, seats=1, accounts=2) as it:
        await it.open("acc_1")
        opening = asyncio.create_task(it.open("acc_2"))
        it.seats.stopping = lambda: True
        with pytest.raises(LeaseLost):
            await opening
        assert set(it.seats.sessions) == {"acc_1"}


async def test_who_comes_later_does_not_overtake_who_waits(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    async with room(database, database_url, tmp_path, seats=1, accounts=3) as it:
        await it.open("acc_1")
        waits = asyncio.create_task(it.open("acc_2"))
        while not it.seats._choosing.locked():
            await asyncio.sleep(0)
        await it.seats.leave("acc_1", "for a reason")
        later = asyncio.create_task(it.open("acc_3"))
        done, _ = await asyncio.wait({waits, later}, return_when=asyncio.FIRST_COMPLETED)
        assert done == {waits}
        it.drained.discard("acc_2")
        await later
        assert set(it.seats.sessions) == {"acc_3"}


async def test_a_page_is_opened_anew_on_its_own_seat_while_others_wait_for_one(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    async with room(database, database_url, tmp_path, seats=1, accounts=2) as it:
        await it.open("acc_1")
        waits = asyncio.create_task(it.open("acc_2"))
        while not it.seats._choosing.locked():
            await asyncio.sleep(0)
        await it.open("acc_1")
        assert set(it.seats.sessions) == {"acc_1"}
        it.drained.discard("acc_1")
        await waits
        assert set(it.seats.sessions) == {"acc_2"}
