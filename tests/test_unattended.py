"""Accounts that something went wrong with come back by themselves."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from fixtures_house import House, house
from fixtures_lanes import until, value
from fixtures_postgres import own_database

from browser.page.screens import Screen, Sight, recognise
from errors import OperatorError
from tasks.web.states import State

pytestmark = pytest.mark.timeout(600)

NEXT_CHANGE = (
    "select to_state || ': ' || reason from account_changes where id > %s and account_id = %s order by id limit 1"
)
LOOKS = 3  # at a screen, until it would have been taken for something else


@pytest.fixture(scope="module")
async def two_seats(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    with own_database(postgres) as url:
        async with house(tmp_path_factory.mktemp("house"), url, max_sessions=2) as it:
            yield it


@pytest.fixture
async def running(two_seats: House) -> AsyncIterator[House]:
    """The module's house, in which no account is left connected afterwards."""
    yield two_seats
    for account in (await two_seats.client.get("/accounts"))["items"]:
        if account["state"] not in {"not_started", "disconnected"}:
            await two_seats.client.post(f"/accounts/{account['id']}/disconnect")
            await two_seats.client.wait(f"/accounts/{account['id']}", "state", {"disconnected"}, 60)


async def execute(it: House, query: str, *values: object) -> None:
    async with it.database.transaction() as tx:
        await tx.connection.execute(query, values or None)


async def state(it: House, account: str) -> str:
    shown: str = (await it.client.get(f"/accounts/{account}"))["state"]
    return shown


async def asleep(it: House, account: str) -> None:
    assert it.worker
    await it.seats.leave(account, "idle")
    assert await state(it, account) == "hibernated"


@pytest.mark.long
async def test_connections_lost_long_ago_do_not_keep_a_sleeper_from_waking(running: House) -> None:
    account = await running.link()
    await execute(running, "update accounts set reconnects = 5 where id = %s", account)
    await asleep(running, account)
    assert (await running.ended(await running.send(account, "15557770001")))["sentAt"]
    assert await value(running.database, "select reconnects from accounts where id = %s", account) == 0


@pytest.mark.long
async def test_an_account_that_could_not_be_opened_at_first_can_still_be_linked(running: House) -> None:
    account = (await running.client.post("/accounts", {"name": "x", "transport": "sandbox"}))["id"]
    await execute(
        running,
        "update accounts set state = 'disconnected', reconnects = 6, wanted = 'connected' where id = %s",
        account,
    )
    await running.client.post(f"/accounts/{account}/connect")
    await running.client.qr(account)
    await running.client.scan(account)
    await running.client.wait(f"/accounts/{account}", "state", {"ready"}, 60)


@pytest.mark.long
async def test_a_session_that_was_closed_and_forgotten_is_opened_again(running: House) -> None:
    account = await running.link()
    assert running.worker
    last = await value(running.database, "select max(id) from account_changes")
    await running.seats.close(account)
    assert await state(running, account) == "ready"
    await until(running.database, NEXT_CHANGE, "hibernated: its browser had gone", values=[last, account])
    await running.client.wait(f"/accounts/{account}", "state", {"ready"}, 60)
    assert account in running.seats.sessions


async def test_a_heartbeat_waits_for_no_browser(running: House) -> None:
    account = await running.link()
    assert running.worker
    last = await value(running.database, "select max(id) from account_changes")
    seats, heartbeat = running.seats, running.worker.heartbeat
    async with seats._lock(account):
        await seats._close(account)  # to put its profile away has to wait
        async with asyncio.timeout(3 * heartbeat.every):
            for _ in range(4):
                await heartbeat.run_once()
        assert account in seats.leases
    await until(running.database, NEXT_CHANGE, "hibernated: its browser had gone", values=[last, account])


@pytest.mark.long
async def test_a_lease_that_ended_while_postgres_was_away_is_no_end(running: House) -> None:
    account = await running.link()
    assert running.worker
    await running.seats.drop_ending()
    assert account in running.seats.sessions, "its lease is not about to end"
    running.seats.leases[account] = 0.0
    ended = await value(running.database, "select clock_timestamp()")
    await execute(running, "update accounts set lease_until = now() - interval '20 seconds' where id = %s", account)
    again = "select state = 'ready' and lease_until > now() and connected_at > %s from accounts where id = %s"
    await until(running.database, again, True, values=[ended, account])  # noqa: FBT003


async def test_a_lease_that_is_missed_while_its_account_is_left_changes_nothing(running: House) -> None:
    account = await running.link()
    assert running.worker
    seats = running.seats
    await asyncio.gather(seats.leave(account, "for a reason", to=State.disconnected), seats.drop(account))
    shown = await running.client.get(f"/accounts/{account}")
    assert (shown["state"], shown["stateReason"]) == ("disconnected", "for a reason")


@pytest.mark.long
async def test_a_gate_that_only_its_session_opens_gets_a_seat(running: House) -> None:
    account = await running.link()
    await asleep(running, account)
    for name in ("y", "z"):
        await running.link(name)
    await execute(
        running,
        "update lanes set open_at = 'infinity', gate_reason = 'not_linked', attend_at = now() where id = %s",
        account,
    )
    assert (await running.ended(await running.send(account, "15557770002")))["sentAt"]


@pytest.mark.parametrize("screen", [Screen.PROXY_BLOCKED, Screen.LOADING, Screen.OFFLINE])
@pytest.mark.long
async def test_a_code_that_is_gone_was_not_scanned(
    running: House, screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = (await running.client.post("/accounts", {"name": "x", "transport": "sandbox"}))["id"]
    await running.client.post(f"/accounts/{account}/connect")
    await running.client.qr(account)
    assert running.worker
    page, seen = running.seats.sessions[account].page, list[Screen]()
    look = page._reader.sight

    async def noted() -> Sight:
        sight = await look()
        seen.append(recognise(sight, page._reader.selectors))
        return sight

    monkeypatch.setattr(page._reader, "sight", noted)
    await running.client.post(f"/sandbox/accounts/{account}/show", {"screen": screen})
    async with asyncio.timeout(60):
        while seen.count(screen) < LOOKS:
            await asyncio.sleep(0.02)
    assert await value(running.database, "select linked from accounts where id = %s", account) is False
    scanned = "select count(*) from account_changes where to_state = 'authenticated' and account_id = %s"
    assert await value(running.database, scanned, account) == 0
    await running.client.post(f"/sandbox/accounts/{account}/show", {"screen": None})
    async with asyncio.timeout(90):
        while await state(running, account) not in {"authenticated", "ready"}:
            with suppress(OperatorError):  # the page has no code yet, or loads itself anew
                await running.client.scan(account)
            await asyncio.sleep(0.2)
    await running.client.wait(f"/accounts/{account}", "state", {"ready"}, 60)


@pytest.mark.long
async def test_a_browser_that_was_left_on_our_disk_is_ended(running: House) -> None:
    account = await running.link()
    await asleep(running, account)
    directory = running.settings.profiles.resolve() / account
    stray = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "import time; time.sleep(600)", f"--user-data-dir={directory}"
    )
    assert (await running.ended(await running.send(account, "15557770003")))["sentAt"]
    async with asyncio.timeout(30):
        assert await stray.wait() != 0


@pytest.mark.long
async def test_one_account_that_cannot_be_left_keeps_no_other(running: House, monkeypatch: pytest.MonkeyPatch) -> None:
    accounts = [await running.link(name) for name in ("x", "y")]
    assert running.worker
    seats = running.seats
    put_away = type(seats.profiles).put_away

    async def fails(_: object, account: str, *, linked: bool) -> bool:
        if account == accounts[0]:
            raise OSError("the disk is full")
        return await put_away(seats.profiles, account, linked=linked)

    monkeypatch.setattr(type(seats.profiles), "put_away", fails)
    await seats.close_all()
    assert seats.sessions == {}
    assert await value(running.database, f"select state from accounts where id = '{accounts[1]}'") == "hibernated"
