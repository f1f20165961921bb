"""Sessions that outlive their worker, and their machine."""

import asyncio
import signal
import time
from pathlib import Path

import pytest
from fixtures_house import Cluster, Program, cluster
from fixtures_lanes import until, value

from bench.house import most_at_once
from bench.ports import held_ports
from browser.engine.shared_scripts import FOLDER, _is_script

pytestmark = [pytest.mark.timeout(600), pytest.mark.long]

CODES = "select count(*) from outbox where type = 'QrIssued'"


async def worker_at(it: Cluster, home: Path) -> Program:
    """Start a worker with a directory of profiles of its own, as on another machine, and the shortest lease."""
    (port,) = held_ports(1)
    own = {"CHROME_USER_DATA_DIR": str(home), "WORKER_PORT": str(port), "LEASE_SECONDS": "15"}
    return await it.start("worker", **own)


async def link(it: Cluster, count: int) -> list[str]:
    """Link so many accounts at once."""
    return await asyncio.gather(*(it.link(str(n)) for n in range(count)))


async def two_workers(it: Cluster, folder: Path, accounts: int) -> tuple[Program, list[str]]:
    """Have so many accounts live in a first worker, sealed before, and a second worker beside it; return the first."""
    first = await worker_at(it, folder / "a")
    linked = await link(it, accounts)
    assert await first.stop() == 0  # seals them
    first = await worker_at(it, folder / "a")
    await until(it.database, "select count(*) from accounts where state = 'ready'", accounts, seconds=60)
    await worker_at(it, folder / "b")
    await until(it.database, "select count(*) from workers", 2, seconds=60)
    return first, linked


async def at_once(it: Cluster, account: str) -> int:
    """Return how many sessions of the account were ever live at once, by the sandbox's own record."""
    return most_at_once((await it.client.get(f"/sandbox/sessions?account={account}"))["items"])


async def test_a_sealed_profile_opens_on_another_machine_without_a_scan(database_url: str, tmp_path: Path) -> None:
    async with cluster(tmp_path, database_url) as it:
        first = await worker_at(it, tmp_path / "a")
        account = await it.link()
        codes = await value(it.database, CODES)
        assert (await it.ended(await it.send(account, "15556660001", "from a")))["sentAt"]
        assert await first.stop() == 0
        assert [path.name for path in (tmp_path / "a").iterdir() if path.is_dir()] == [FOLDER]
        assert all(_is_script(path) for path in (tmp_path / "a" / FOLDER).iterdir()), "more than scripts is left"
        await worker_at(it, tmp_path / "b")
        assert (await it.ended(await it.send(account, "15556660001", "from b")))["sentAt"]
        assert await value(it.database, CODES) == codes
        assert await it.received("15556660001") == ["from a", "from b"]
        assert await at_once(it, account) == 1


async def test_a_clean_stop_hands_over_within_seconds(database_url: str, tmp_path: Path) -> None:
    async with cluster(tmp_path, database_url) as it:
        first = await worker_at(it, tmp_path / "a")
        accounts = await link(it, 2)
        await worker_at(it, tmp_path / "b")
        await until(it.database, "select count(*) from workers", 2)
        # Nothing is due: they are taken over all the same, since what comes in is to be seen.
        await first.stop()
        await until(
            it.database, "select count(*) from accounts where state = 'ready' and lease_until > now()", 2, seconds=60
        )
        for account in accounts:
            assert await at_once(it, account) == 1


async def test_five_sessions_of_a_killed_worker_go_on_elsewhere(
    database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with cluster(tmp_path, database_url) as it:
        first, accounts = await two_workers(it, tmp_path, 5)
        codes = await value(it.database, CODES)

        jobs = [await it.send(account, f"155566610{n:02}", f"message {n}") for n in range(4) for account in accounts]
        await until(it.database, "select count(*) >= 4 from jobs where sent_at is not null", True)  # noqa: FBT003
        await first.stop(signal.SIGKILL)
        died = time.monotonic()
        killed = await value(it.database, "select min(lease_until) from accounts")
        between = (
            await value(it.database, "select array_agg(coalesce(key, id)) from jobs where state = 'submitting'") or []
        )
        taken = f"select count(*) from accounts where state = 'ready' and state_since > '{killed}'"
        await until(it.database, taken, 5, seconds=90)
        with capsys.disabled():
            print(f"\nfive sessions of a killed worker were ready elsewhere after {time.monotonic() - died:.1f} s")  # noqa: T201  # a figure for people
        ended = [await it.ended(job, 120) for job in jobs]

        # What was between Enter and its tick at that moment cannot be told from an older profile: it fails, says so,
        # and is never sent again. Everything else is there once.
        for job in ended:
            got = [
                item["text"]
                for item in (await it.client.get(f"/sandbox/messages?phone={job['phone']}"))["items"]
                if item["account"] == job["account"]
            ]
            if job["sentAt"]:
                assert len(got) == 1
            else:
                assert job["error"]["code"] == "outcome_unknown"
                assert job["jobId"] in between
                assert len(got) <= 1
        assert await value(it.database, CODES) == codes
        for account in accounts:
            assert await at_once(it, account) == 1


async def test_a_frozen_workers_session_is_ended_before_another_one_begins(database_url: str, tmp_path: Path) -> None:
    async with cluster(tmp_path, database_url) as it:
        first, (account,) = await two_workers(it, tmp_path, 1)
        home = await value(it.database, "select profile_home from accounts")

        first.process.send_signal(signal.SIGSTOP)
        job = await it.send(account, "15556660002", "while one is frozen")
        try:
            ended = await it.ended(job, 90)
        finally:
            first.process.send_signal(signal.SIGCONT)
        assert ended["sentAt"]
        assert await it.received("15556660002") == ["while one is frozen"]
        assert await value(it.database, "select profile_home from accounts") != home
        # The one that was frozen finds out, and disturbs nobody.
        assert (await it.ended(await it.send(account, "15556660002", "after it"), 60))["sentAt"]
        assert await at_once(it, account) == 1


async def test_a_message_frozen_before_enter_is_sent_once_by_whoever_took_over(
    database_url: str, tmp_path: Path
) -> None:
    async with cluster(tmp_path, database_url) as it:
        first, (account,) = await two_workers(it, tmp_path, 1)
        async with it.database.transaction() as tx:
            # Postgres takes its time over the permission, so that the worker can be frozen before it hears of it.
            await tx.connection.execute(
                """
                create function linger() returns trigger language plpgsql as
                $$ begin perform pg_sleep(3); return new; end $$
                """
            )
            await tx.connection.execute(
                "create trigger linger before update on jobs for each row "
                "when (new.state = 'submitting' and old.state = 'sending') execute function linger()"
            )
        job = await it.send(account, "15556660003", "once")
        await until(it.database, "select count(*) from jobs where state = 'sending'", 1)
        await until(it.database, "select count(*) from pg_stat_activity where wait_event = 'PgSleep'", 1)
        first.process.send_signal(signal.SIGSTOP)
        await until(it.database, "select count(*) from jobs where state = 'submitting'", 1)
        async with it.database.transaction() as tx:
            await tx.connection.execute("drop trigger linger on jobs")
        holder = await value(it.database, "select leased_by from accounts")
        await until(
            it.database,
            f"select leased_by <> '{holder}' and lease_until > now() from accounts",  # our own id
            True,  # noqa: FBT003
            seconds=60,
        )
        first.process.send_signal(signal.SIGCONT)
        ended = await it.ended(job, 120)
        assert ended["sentAt"], ended
        assert await it.received("15556660003") == ["once"]
        assert await at_once(it, account) == 1
        assert [step["detail"] for step in ended["timeline"] if step["detail"]] == ["enter_not_pressed"]
