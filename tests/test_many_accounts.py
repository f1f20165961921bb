"""More accounts than seats; sleeping and waking; what an account's life writes down."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from fixtures_history import waits_for_a_lock
from fixtures_house import House, house
from fixtures_lanes import until, value
from fixtures_postgres import own_database

from browser.engine.process import browsers
from browser.engine.shared_scripts import FOLDER
from errors import LoggedOut
from tasks.web import linking, watchdog
from tasks.web.states import State

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
async def roomy(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """A house with more seats than there are accounts, for the tests whose accounts have nothing to do with others."""
    with own_database(postgres) as url:
        async with house(tmp_path_factory.mktemp("house"), url) as it:
            yield it


@pytest.fixture(scope="module")
async def watched(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """A house whose watchdog looks often."""
    with own_database(postgres) as url:
        async with house(tmp_path_factory.mktemp("house"), url, memory_limit_mb=450, watchdog_seconds=0.5) as it:
            yield it


ACCOUNTS = 5  # on two seats
PROFILES = "select count(*) from profiles where account_id = %s"
ASIDE = f"{PROFILES} and kept_since is not null"
CODES = "select count(*) from outbox where type = 'QrIssued'"
TOLD = (
    "select string_agg(concat_ws(' ', body::json #>> '{data,from}', body::json #>> '{data,to}'), ', ' "
    "order by created_at) from outbox where type = 'AccountStateChanged'"
)
SHOWN = (
    "select count(*) from account_changes join outbox on outbox.created_at = account_changes.created_at "
    "where to_state = 'qr_pending' and type = 'QrIssued'"
)


def open_browsers(it: House) -> int:
    root = it.settings.profiles.resolve()
    return len({held for held, _ in browsers() if held.is_relative_to(root)})


@asynccontextmanager
async def counted(it: House) -> AsyncIterator[list[int]]:
    """Count the browsers all the time within the block."""
    counts = [0]

    async def count() -> None:
        while True:
            counts.append(await asyncio.to_thread(open_browsers, it))
            await asyncio.sleep(0.05)

    task = asyncio.create_task(count())
    try:
        yield counts
    finally:
        task.cancel()


@pytest.mark.long
async def test_more_accounts_than_seats_are_all_served_without_another_scan(database_url: str, tmp_path: Path) -> None:
    async with house(tmp_path, database_url, max_sessions=2) as it, counted(it) as counts:
        accounts = [await it.link(str(n)) for n in range(ACCOUNTS)]
        codes = await value(it.database, CODES)
        jobs = [
            await it.send(account, f"155544400{number:02}", f"{turn} of {number}")
            for turn in range(2)
            for number, account in enumerate(accounts)
        ]
        for job in jobs:
            assert (await it.ended(job, 120))["sentAt"]
        for number in range(ACCOUNTS):
            assert await it.received(f"155544400{number:02}") == [f"0 of {number}", f"1 of {number}"]
        assert await value(it.database, CODES) == codes, "somebody had to scan again"
        assert max(counts) <= 2
        sleeping = await value(it.database, "select count(*) from accounts where state = 'hibernated'")
        assert sleeping == ACCOUNTS - 2
        assert await value(it.database, "select count(*) from profiles where whole") == ACCOUNTS - 2
        # The login of an account that sleeps is on no disk.
        left = {path.name for path in it.settings.profiles.iterdir() if path.is_dir()}
        assert left == {FOLDER, *(it.seats.sessions if it.worker else ())}
        for account in accounts:
            shown = await it.client.get(f"/accounts/{account}")
            assert shown["health"] == "healthy"
            assert shown["state"] in {"ready", "hibernated"}


@pytest.mark.long
async def test_waking_and_sleeping_are_recorded_and_not_sent(database_url: str, tmp_path: Path) -> None:
    async with house(tmp_path, database_url, idle_seconds=0.5) as it:
        account = await it.link()
        told = await value(it.database, TOLD)
        assert told == "not_started starting, starting qr_pending, qr_pending authenticated, authenticated ready"
        await until(it.database, "select state from accounts", "hibernated", seconds=60)
        assert open_browsers(it) == 0
        assert (await it.ended(await it.send(account, "15554440001")))["sentAt"]
        await until(it.database, "select state from accounts", "hibernated", seconds=60)
        assert await value(it.database, TOLD) == told
        recorded = "select count(*) from account_changes where to_state in ('hibernated') or from_state = 'hibernated'"
        assert await value(it.database, recorded) == 3
        assert await value(it.database, "select reason from account_changes order by id desc limit 1") == "idle"


@pytest.mark.long
async def test_whoever_waits_for_qr_pending_can_go_on_at_once(database_url: str, tmp_path: Path) -> None:
    async with house(tmp_path, database_url) as it:
        for _ in range(2):
            account = (await it.client.post("/accounts", {"name": "x", "transport": "sandbox"}))["id"]
            await it.client.post(f"/accounts/{account}/connect")
            await saw_pending(it, account)
            # Each of them raises on the first 409.
            assert (await it.client.get(f"/accounts/{account}/qr"))["qr"]
            await it.client.scan(account)
            await it.client.wait(f"/accounts/{account}", "state", {"ready"}, 60)
        # And there is no moment between the two, however short.
        assert await value(it.database, SHOWN) == 2

        account = (await it.client.post("/accounts", {"name": "x", "transport": "sandbox"}))["id"]
        path = f"/accounts/{account}/pairing-code"
        asking = asyncio.create_task(it.client._http.post(path, json={"phone": "15551230001"}, timeout=60))
        await saw_pending(it, account)
        code = await it.client.get(path)
        assert code["code"]
        assert (await asking).json() == code
        await it.client.post(f"/sandbox/accounts/{account}/pair", {"code": code["code"]})
        await it.client.wait(f"/accounts/{account}", "state", {"ready"}, 60)


async def saw_pending(it: House, account: str) -> None:
    """Look at the account all the time until a code can be had."""
    async with asyncio.timeout(60):
        while (await it.client.get(f"/accounts/{account}"))["state"] != "qr_pending":
            pass


@pytest.mark.long
async def test_a_code_that_was_scanned_before_it_was_written_links_as_well(database_url: str, tmp_path: Path) -> None:
    async with house(tmp_path, database_url) as it:
        account = (await it.client.post("/accounts", {"name": "x", "transport": "sandbox"}))["id"]
        await it.client.post(f"/accounts/{account}/connect")
        await it.client.wait(f"/accounts/{account}", "state", {"starting"}, 60)
        async with it.database.transaction() as tx:
            # A browser starts meanwhile, which takes as long as the machine needs.
            await tx.connection.execute("set local idle_in_transaction_session_timeout = 0")
            # The worker closes the lane's gate before it looks for a code.
            await tx.connection.execute("select from lanes where id = %s for update", [account])
            await phone_shows(it, account, "qr")
            await waits_for_a_lock(it.database)
            await it.client.scan(account)
            await phone_shows(it, account, "live")
        await it.client.wait(f"/accounts/{account}", "state", {"ready"}, 60)
        told = await value(it.database, TOLD)
        assert told == "not_started starting, starting authenticated, authenticated ready"


async def phone_shows(it: House, account: str, what: str) -> None:
    async with asyncio.timeout(60):
        while not any(
            shown["account"] == account and shown[what] for shown in (await it.client.get("/sandbox/overview"))["items"]
        ):
            await asyncio.sleep(0.05)


@pytest.mark.long
async def test_all_seats_but_one_wait_for_a_phone_at_most(database_url: str, tmp_path: Path) -> None:
    async with house(tmp_path, database_url, max_sessions=2) as it:
        linked = await it.link()
        for _ in range(2):
            new = (await it.client.post("/accounts", {"name": "x", "transport": "sandbox"}))["id"]
            await it.client.post(f"/accounts/{new}/connect")
        await until(it.database, "select count(*) from accounts where state = 'qr_pending'", 1)
        # The linked one is still served, in the seat that is left.
        for n in range(2):
            assert (await it.ended(await it.send(linked, "15554440002", str(n)), 60))["sentAt"]
        assert await value(it.database, "select count(*) from accounts where state = 'qr_pending'") == 1


@pytest.mark.long
async def test_a_lost_login_asks_for_a_scan_and_is_kept_until_there_is_a_new_one(roomy: House) -> None:
    it, account = roomy, await roomy.link()
    directory = it.settings.profiles.resolve() / account
    await it.client.post(f"/sandbox/accounts/{account}/unlink")
    job = await it.send(account, "15554440003", "later")
    shown = await it.client.wait(f"/accounts/{account}", "state", {"auth_failed"}, 60)
    assert shown["health"] == "critical"
    assert shown["stateReason"].startswith("It was logged out")
    await until(it.database, "select leased_by from accounts where id = %s", None, values=[account])
    assert not directory.exists()
    assert await value(it.database, ASIDE, account) == 1
    assert (await it.client.get(f"/jobs/{job}"))["status"] == "queued"

    await it.client.post(f"/accounts/{account}/connect")
    await it.client.qr(account)
    assert await value(it.database, ASIDE, account) == 1, "nobody has scanned yet"
    await it.client.scan(account, shown["phone"])
    assert (await it.ended(job))["sentAt"]
    assert await value(it.database, ASIDE, account) == 0


async def ask_for_a_phone(it: House, account: str) -> None:
    """Have the account's login set aside although WhatsApp still knows it."""
    assert it.worker
    seats = it.seats
    async with asyncio.timeout(60):
        while seats.draining(account):
            await asyncio.sleep(0.05)
    await seats.leave(account, LoggedOut().summary, to=State.auth_failed, login="aside")
    assert await value(it.database, ASIDE, account) == 1


async def codes_end(it: House, account: str) -> None:
    await it.client.wait(f"/accounts/{account}", "state", {"disconnected"}, 60)
    await until(it.database, "select leased_by from accounts where id = %s", None, values=[account])


@pytest.mark.long
@pytest.mark.parametrize("when", ["while a code is shown", "after nobody scanned"])
async def test_a_false_alarm_ends_with_resume_and_without_a_scan(
    roomy: House, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    it, account = roomy, await roomy.link()
    await ask_for_a_phone(it, account)
    if when == "after nobody scanned":
        monkeypatch.setattr(linking, "MAX_CODES", 1)
        monkeypatch.setattr(linking, "FIRST_CODE_SECONDS", 1.0)
    await it.client.post(f"/accounts/{account}/connect")
    await (it.client.qr(account) if when == "while a code is shown" else codes_end(it, account))
    assert "resume goes back" in (await it.client.get(f"/accounts/{account}"))["stateReason"]
    codes = await value(it.database, CODES)

    await it.client.post(f"/accounts/{account}/resume")
    await it.client.wait(f"/accounts/{account}", "state", {"ready"}, 60)
    assert (await it.ended(await it.send(account, "15554440007", when)))["sentAt"]
    assert await value(it.database, CODES) == codes
    assert await value(it.database, ASIDE, account) == 0


@pytest.mark.long
async def test_deleting_an_account_deletes_a_login_that_is_kept(roomy: House) -> None:
    it, account = roomy, await roomy.link()
    await ask_for_a_phone(it, account)
    await it.client._http.delete(f"/accounts/{account}")
    await until(it.database, PROFILES, 0, values=[account])


@pytest.mark.long
async def test_another_number_sends_nothing_of_the_old_backlog(roomy: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.web.lane.BATCH", 2)
    it, account = roomy, await roomy.link()
    await it.client.post(f"/sandbox/accounts/{account}/unlink")
    jobs = [await it.send(account, "15554440004", f"{number} from the old number") for number in range(5)]
    await it.client.wait(f"/accounts/{account}", "state", {"auth_failed"}, 60)
    await it.client.post(f"/accounts/{account}/connect")
    await it.client.qr(account)
    await it.client.scan(account, "15550001111")
    for job in jobs:
        ended = await it.ended(job)
        assert ended["error"]["code"] == "number_changed"
        assert (await it.event(job))["type"] == "JobFailed"
    assert await it.received("15554440004") == []
    assert (await it.client.get(f"/accounts/{account}"))["phone"] == "15550001111"
    assert (await it.ended(await it.send(account, "15554440004", "from the new one")))["sentAt"]


async def test_logout_unlinks_and_deletes_disconnect_keeps(roomy: House) -> None:
    it, account = roomy, await roomy.link()
    await it.client.post(f"/accounts/{account}/disconnect")
    await it.client.wait(f"/accounts/{account}", "state", {"disconnected"}, 60)
    await until(it.database, "select whole from profiles where account_id = %s", True, values=[account])  # noqa: FBT003
    await it.client.post(f"/accounts/{account}/connect")
    await it.client.wait(f"/accounts/{account}", "state", {"ready"}, 60)

    await it.client.post(f"/accounts/{account}/logout")
    await it.client.wait(f"/accounts/{account}", "state", {"disconnected"}, 60)
    await until(it.database, PROFILES, 0, values=[account])
    assert not (it.settings.profiles / account).exists()
    await it.client.post(f"/accounts/{account}/connect")
    await it.client.qr(account)


@pytest.mark.long
async def test_a_page_that_leaks_is_opened_anew_between_messages(
    watched: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "STARTUP_SECONDS", 0.0)
    it, account = watched, await watched.link()
    assert it.worker
    sessions = it.seats.sessions
    opened = sessions[account].page
    jobs = [await it.send(account, "15554440005", f"message {n}") for n in range(3)]
    # A new chat costs a reload, which would give the memory back.
    assert (await it.ended(jobs[0]))["sentAt"]
    # Over the limit by itself: what a browser shares with others counts in part.
    await it.client.post(f"/sandbox/accounts/{account}/leak", {"mb": 450})
    jobs += [await it.send(account, "15554440005", f"message {n}") for n in range(3, 12)]
    for job in jobs:
        assert (await it.ended(job, 120))["sentAt"]
    async with asyncio.timeout(60):
        while account not in sessions or sessions[account].page is opened:
            await asyncio.sleep(0.1)
    assert await it.received("15554440005") == [f"message {n}" for n in range(12)]


@pytest.mark.long
async def test_a_page_that_hangs_and_a_browser_that_is_gone_are_opened_anew(watched: House) -> None:
    it, account = watched, await watched.link()
    assert it.worker
    profile = it.settings.profiles.resolve() / account
    for held, process in list(browsers()):
        if held == profile:
            process.kill()
    since = (
        "select count(*) from account_changes where from_state = 'ready' and to_state = 'starting' and account_id = %s"
    )
    await until(it.database, since, 1, values=[account])
    await it.client.wait(f"/accounts/{account}", "state", {"ready"}, 60)
    assert (await it.ended(await it.send(account, "15554440006")))["sentAt"]
