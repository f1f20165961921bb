"""`postrider doctor --account`, as people run it: beside a worker, without one, twice at once, killed in the middle."""

import asyncio
import os
import re
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from pathlib import Path

import pytest
from fixtures_house import ROOT, Cluster, Program, cluster
from fixtures_lanes import value

from bench.house import most_at_once
from bench.ports import held_ports
from browser.engine.profile import VISITS

pytestmark = [pytest.mark.timeout(300), pytest.mark.long]

#: all that the operator and the receivers of webhooks see of an account, and its login
SEEN = """
select row_to_json(seen)::jsonb from (
    select state, state_reason, state_since, wanted, failures_in_a_row, reconnects, profile_generation, open_at,
           gate_reason, (select count(*) from account_changes where account_id = accounts.id) as changes,
           (select count(*) from outbox where account_id = accounts.id and type = 'AccountStateChanged') as events
    from accounts join lanes using (id) where id = %s) as seen
"""


async def start(it: Cluster, *arguments: str, **environment: str) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cli", "doctor", *arguments, cwd=ROOT, stdout=PIPE, stderr=STDOUT,
        env={**os.environ, **it.environment, **environment},
    )  # fmt: skip


async def doctor(it: Cluster, account: str, *arguments: str, **environment: str) -> tuple[int, str]:
    """Run it to its end; return its code and what it printed about the account."""
    process = await start(it, "--account", account, *arguments, **environment)
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode().partition(" GB free\n")[2]


async def unchanged(it: Cluster, account: str, *arguments: str) -> tuple[int, str]:
    """Run it, and see that the account is as it was, and that no second session was open."""
    before = await value(it.database, SEEN, account)
    result = await doctor(it, account, *arguments)
    assert await value(it.database, SEEN, account) == before, result[1]
    assert await at_once(it, account) == 1
    return result


async def at_once(it: Cluster, account: str) -> int:
    return most_at_once((await it.client.get(f"/sandbox/sessions?account={account}"))["items"])


async def worker(it: Cluster, tmp_path: Path, **environment: str) -> Program:
    (port,) = held_ports(1)
    home = str(tmp_path / "chrome-data")
    return await it.start("worker", CHROME_USER_DATA_DIR=home, WORKER_PORT=str(port), **environment)


async def state(it: Cluster, account: str, wanted: str, seconds: float = 60) -> None:
    await it.client.wait(f"/accounts/{account}", "state", {wanted}, seconds)


async def phone(it: Cluster, account: str, act: str, **fields: str) -> None:
    await it.client.post(f"/sandbox/accounts/{account}/{act}", fields)


def fits(output: str, element: str) -> str:
    (line,) = re.findall(rf"^ +{element} +(.*)$", output, re.MULTILINE)
    return str(line)


async def test_a_ready_account_a_renamed_element_and_a_canary(database_url: str, tmp_path: Path) -> None:
    async with cluster(tmp_path, database_url) as it:
        await worker(it, tmp_path)
        account = await it.link()
        # The worker looks, and first has to load the chat that has no message yet.
        code, output = await unchanged(it, account)
        assert (code, "worker wrk_" in output, "in its own chat too" in output) == (0, True, True), output
        assert (fits(output, "compose")[:4], fits(output, "meta")[3:]) == ("1/3 ", " not on this screen")

        code, output = await doctor(it, account, "--canary")
        assert code == 0, output
        steps = re.findall(r"^ +\S+Z +\+ *\d+\.\d{3} s  (\w+)$", output, re.MULTILINE)
        assert steps == ["queued", "sending", "submitting", "sent", "delivered", "read"]
        (canary,) = re.findall(r"^ok    canary    (canary_\w+) is read$", output, re.MULTILINE)
        assert (await it.event(canary, ["JobCompleted"]))["data"]["metadata"] == {"canary": True}
        own = await value(it.database, "select phone from accounts")
        assert [text[:16] for text in await it.received(own)] == ["Postrider canary"]

        code, output = await unchanged(it, account)
        assert (code, fits(output, "meta")[:4], fits(output, "chat_own")[:4]) == (0, "1/3 ", "1/1 "), output
        assert "ticks of the messages in view: 1 read" in output

        await phone(it, account, "rename", css=".compose-box")
        code, output = await unchanged(it, account, "--canary")
        assert (code, fits(output, "compose")) == (1, "-/3 MISSING on this screen")
        assert "WRONG page      On the screen main, selectors " in output
        assert ") do not find compose: see" in output
        assert "no canary was sent" in output


async def test_accounts_that_sleep_wait_or_are_closed(database_url: str, tmp_path: Path) -> None:
    async with cluster(tmp_path, database_url) as it:
        await worker(it, tmp_path, MAX_SESSIONS="2")
        sleeper, closed = await it.link("Sleeper"), await it.link("Closed")
        banned = (await it.client.post("/accounts", {"name": "Banned", "transport": "sandbox"}))["id"]
        code, output = await doctor(it, banned)
        assert (code, "WRONG page      It is not linked, so it has no page to look at" in output) == (1, True)

        await it.client.post(f"/accounts/{banned}/connect")  # takes the seat of the one that was used least recently
        await it.client.qr(banned)
        code, output = await doctor(it, banned)
        assert (code, "shows the screen qr" in output, fits(output, "qr_ref")[:4]) == (0, True, "1/3 "), output
        await phone(it, banned, "scan")
        await state(it, banned, "ready")
        await phone(it, banned, "ban")
        job = await it.send(banned, "15556670001", "waits")
        await state(it, banned, "suspected_ban")

        # Nobody has it, so that it is opened here, and sealed again.
        await state(it, sleeper, "hibernated")
        code, output = await unchanged(it, sleeper)
        assert (code, "no worker has it" in output, "in its own chat too" in output) == (0, True, True), output
        assert await value(it.database, "select whole from profiles where account_id = %s", sleeper)

        await it.client.post(f"/accounts/{closed}/disconnect")
        await state(it, closed, "disconnected")
        code, output = await unchanged(it, closed, "--canary")
        assert (code, "is disconnected since" in output, "ok    page " in output) == (1, True, True), output
        assert "WRONG canary    The account sends nothing until somebody acts (not_connected)" in output

        await state(it, banned, "banned")
        code, output = await unchanged(it, banned)
        assert (code, "Banned (acc_" in output) == (1, True)
        assert re.search(
            r"^WRONG page      It shows the screen banned, .*: WhatsApp shows a ban screen\.$", output, re.MULTILINE
        )
        assert (await it.client.get(f"/jobs/{job}"))["status"] == "queued"

        # The logins that were opened here are the newest.
        await it.client.post(f"/accounts/{closed}/connect")
        for account in (sleeper, closed):
            assert (await it.ended(await it.send(account, "15556670002", f"from {account}")))["sentAt"]
            assert await at_once(it, account) == 1
        assert await value(it.database, "select count(*) from workers") == 1


async def test_without_a_worker_twice_at_once_and_killed(database_url: str, tmp_path: Path) -> None:
    async with cluster(tmp_path, database_url) as it:
        it.environment["LEASE_SECONDS"] = "15"
        it.environment["CHROME_USER_DATA_DIR"] = str(tmp_path / "chrome-data")
        visits = tmp_path / "chrome-data" / VISITS
        first = await worker(it, tmp_path)
        account = await it.link()
        codes = await value(it.database, "select count(*) from outbox where type = 'QrIssued'")
        assert await first.stop() == 0
        code, output = await unchanged(it, account, "--canary")
        assert (code, "no worker has it" in output, "ok    page " in output) == (1, True, True), output
        assert "WRONG canary    No worker is running" in output

        before = await value(it.database, SEEN, account)
        results = await asyncio.gather(doctor(it, account), doctor(it, account))
        assert [code for code, _ in results] == [0, 0], results
        assert await value(it.database, SEEN, account) == before
        assert await at_once(it, account) == 1
        assert list(visits.iterdir()) == []

        # A signal ends it in order.
        process = await _looking(it, account)
        process.terminate()
        output = (await process.communicate())[0].decode()
        assert (process.returncode, "Stopped by a signal" in output) == (1, True), output
        assert await value(it.database, SEEN, account) == before
        assert (await value(it.database, "select count(*) from workers"), list(visits.iterdir())) == (0, [])

        # Killed, it leaves a lease that ends, a browser that ends, and the copy from before.
        process = await _looking(it, account)
        process.kill()
        await process.wait()
        await worker(it, tmp_path)
        job = await it.send(account, "15556670003", "after it")
        assert (await it.ended(job, 120))["sentAt"]
        assert await value(it.database, "select count(*) from outbox where type = 'QrIssued'") == codes
        assert await at_once(it, account) == 1
        code, output = await unchanged(it, account)
        assert (code, "worker wrk_" in output) == (0, True), output


async def _looking(it: Cluster, account: str) -> Process:
    """Start it and wait until it has the account's page open."""
    process = await start(it, "--account", account)
    async with asyncio.timeout(60):
        while all(one["end"] for one in (await it.client.get(f"/sandbox/sessions?account={account}"))["items"]):
            await asyncio.sleep(0.02)
    return process


async def test_an_open_circuit_is_no_obstacle(database_url: str, tmp_path: Path) -> None:
    async with cluster(tmp_path, database_url) as it:
        await worker(it, tmp_path, BREAKER_FAILURES="1")
        account = await it.link()
        await phone(it, account, "crash", at="open")
        await it.send(account, "15556670004", "crashes")
        await state(it, account, "circuit_open")
        assert await value(it.database, "select leased_by is not null from accounts")
        code, output = await unchanged(it, account)
        assert (code, "no worker has it" in output) == (0, True), output
