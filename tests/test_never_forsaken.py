"""Accounts that something went wrong with come back by themselves."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from fixtures_house import House, house
from fixtures_lanes import until, value

from errors import OperatorError

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
async def running(database_url: str, tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, database_url, max_sessions=2) as it:
        yield it


async def execute(it: House, query: str, *values: object) -> None:
    async with it.database.transaction() as tx:
        await tx.connection.execute(query, values or None)


async def state(it: House, account: str) -> str:
    shown: str = (await it.client.get(f"/accounts/{account}"))["state"]
    return shown


async def asleep(it: House, account: str) -> None:
    assert it.worker
    await it.worker.seats.leave(account, "idle")
    assert await state(it, account) == "hibernated"


async def test_connections_lost_long_ago_do_not_keep_a_sleeper_from_waking(running: House) -> None:
    account = await running.link()
    await execute(running, "update accounts set reconnects = 5")
    await asleep(running, account)
    assert (await running.ended(await running.send(account, "15557770001")))["sentAt"]
    assert await value(running.database, "select reconnects from accounts") == 0


async def test_an_account_that_could_not_be_opened_at_first_can_still_be_linked(running: House) -> None:
    account = (await running.client.post("/accounts", {"name": "x", "transport": "sandbox"}))["id"]
    await execute(running, "update accounts set state = 'disconnected', reconnects = 6, wanted = 'connected'")
    await running.client.post(f"/accounts/{account}/connect")
    await running.client.qr(account)
    await running.client.scan(account)
    await running.client.wait(f"/accounts/{account}", "state", {"ready"}, 60)


async def test_a_session_that_was_closed_and_forgotten_is_opened_again(running: House) -> None:
    account = await running.link()
    assert running.worker
    await running.worker.seats.close(account)
    assert await state(running, account) == "ready"
    changes = "select string_agg(to_state, ' ' order by id) from account_changes where reason is not null and id > 4"
    await until(running.database, changes, "hibernated", seconds=60)
    await running.client.wait(f"/accounts/{account}", "state", {"ready"}, 60)
    assert account in running.worker.seats.sessions


async def test_a_lease_that_ended_while_postgres_was_away_is_no_end(running: House) -> None:
    account = await running.link()
    assert running.worker
    await running.worker.seats.drop_ending()
    assert account in running.worker.seats.sessions, "its lease is not about to end"
    running.worker.seats.leases[account] = 0.0
    await execute(running, "update accounts set lease_until = now() - interval '20 seconds'")
    await until(
        running.database,
        "select state = 'ready' and lease_until > now() and connected_at > now() - interval '15 seconds' from accounts",
        True,  # noqa: FBT003
        seconds=40,
    )


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


@pytest.mark.parametrize("screen", ["proxy_blocked", "loading", "offline"])
async def test_a_code_that_is_gone_was_not_scanned(running: House, screen: str) -> None:
    account = (await running.client.post("/accounts", {"name": "x", "transport": "sandbox"}))["id"]
    await running.client.post(f"/accounts/{account}/connect")
    await running.client.qr(account)
    await running.client.post(f"/sandbox/accounts/{account}/show", {"screen": screen})
    await asyncio.sleep(2)  # a few looks at it
    assert await value(running.database, "select linked from accounts") is False
    assert await value(running.database, "select count(*) from account_changes where to_state = 'authenticated'") == 0
    await running.client.post(f"/sandbox/accounts/{account}/show", {"screen": None})
    async with asyncio.timeout(90):
        while await state(running, account) not in {"authenticated", "ready"}:
            with suppress(OperatorError):  # the page has no code yet, or loads itself anew
                await running.client.scan(account)
            await asyncio.sleep(1)
    await running.client.wait(f"/accounts/{account}", "state", {"ready"}, 60)


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


async def test_one_account_that_cannot_be_left_keeps_no_other(running: House, monkeypatch: pytest.MonkeyPatch) -> None:
    accounts = [await running.link(name) for name in ("x", "y")]
    assert running.worker
    seats = running.worker.seats
    put_away = type(seats.profiles).put_away

    async def fails(_: object, account: str, *, linked: bool) -> bool:
        if account == accounts[0]:
            raise OSError("the disk is full")
        return await put_away(seats.profiles, account, linked=linked)

    monkeypatch.setattr(type(seats.profiles), "put_away", fails)
    await seats.close_all()
    assert seats.sessions == {}
    assert await value(running.database, f"select state from accounts where id = '{accounts[1]}'") == "hibernated"  # noqa: S608
