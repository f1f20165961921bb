"""The main line, whole: HTTP request, row, worker, real Chromium, outbox, signed webhook."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from fixtures_house import House, house
from fixtures_postgres import own_database

from tasks.web.lane import AccountWork

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
async def running(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    with own_database(postgres) as url:
        async with house(tmp_path_factory.mktemp("house"), url, confirm_seconds=6, send_backoff_seconds=1) as it:
            yield it


@pytest.fixture(scope="module")
async def sound(running: House) -> str:
    """An account that the tests leave as they found it."""
    return await running.link()


@pytest.mark.long
async def test_each_magic_number_ends_as_the_contract_says(running: House) -> None:
    expected = {
        # phone: status, attempts, error code, messages at the recipient
        "15550000404": ("failed", 1, "not_on_whatsapp", 0),
        "15550000408": ("sent", 2, None, 1),
        "15550000409": ("failed", 1, "outcome_unknown", 0),
        "15550000500": ("sent", 1, None, 1),
        "15550000503": ("sent", 1, None, 1),
        "15550000429": ("failed", 1, "new_chats_restricted", 0),
    }
    # The last one restricts its account; 408 and 409 take long.
    accounts = {phone: await running.link(phone) for phone in ("15550000408", "15550000409", "15550000429")}

    async def one(account: str, phone: str) -> tuple[str, int, str | None, int]:
        job = await running.send(account, phone, f"to {phone}")
        after = await running.send(account, "15551230000", f"after {phone}")
        ended = await running.ended(job, 90)
        assert (await running.ended(after, 90))["sentAt"], "the account goes on with the next job"
        event = await running.event(job)
        assert event["type"] == ("JobCompleted" if ended["sentAt"] else "JobFailed")
        shown = await running.client.get(f"/accounts/{account}")
        assert shown["restriction"] == ("new_chats" if phone.endswith("429") else None)
        code = ended["error"]["code"] if ended["error"] else None
        status = "sent" if ended["sentAt"] else ended["status"]
        return status, ended["attempts"], code, len(await running.received(phone))

    async def line(last: str, *before: str) -> list[tuple[str, tuple[str, int, str | None, int]]]:
        account = accounts[last]
        known = await running.ended(await running.send(account, "15551230000", f"before {last}"))
        assert known["sentAt"]
        return [(phone, await one(account, phone)) for phone in (*before, last)]

    results = await asyncio.gather(
        line("15550000408"), line("15550000409"), line("15550000429", "15550000404", "15550000500", "15550000503")
    )
    assert dict(itertools.chain.from_iterable(results)) == expected


@pytest.mark.long
async def test_a_late_tick_stands_in_the_timeline_and_changes_nothing_else(running: House) -> None:
    account = await running.link()
    job = await running.send(account, "15550000409", "late")
    assert (await running.ended(job))["error"]["code"] == "outcome_unknown"
    await running.client.post(f"/sandbox/accounts/{account}/release")
    async with asyncio.timeout(30):
        while (shown := await running.client.get(f"/jobs/{job}"))["timeline"][-1]["detail"] != "a tick came later":
            await asyncio.sleep(0.1)
    assert shown["status"] == "failed"


@pytest.mark.long
async def test_a_ban_is_looked_at_twice_and_ended_by_a_person_only(running: House) -> None:
    assert running.worker
    work = running.worker.lanes.works["account"]
    assert isinstance(work, AccountWork)
    work.errors.ban_recheck_seconds = 1.0
    account = await running.link()
    job = await running.send(account, "15550000403", "to be held")
    path = f"/accounts/{account}"
    await running.client.wait(path, "state", {"suspected_ban"}, 30)
    await running.client.wait(path, "state", {"banned"}, 60)
    assert (await running.client.get(f"/jobs/{job}"))["status"] == "queued"
    await running.client.post(f"/sandbox{path}/unban")
    await running.client.post(f"{path}/resume")
    assert (await running.ended(job))["sentAt"]
    assert await running.received("15550000403") == ["to be held"]


async def test_a_message_for_later_does_not_hold_up_one_for_now(running: House, sound: str) -> None:
    at = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    later = await running.send(sound, "15551110001", "later", sendAt=at)
    now = await running.send(sound, "15551110001", "now")
    assert (await running.ended(now))["sentAt"]
    assert (await running.client.get(f"/jobs/{later}"))["status"] == "queued"


async def test_sent_delivered_read_are_seen_and_told(running: House, sound: str) -> None:
    job = await running.send(sound, "15551110002", "ticks", metadata={"order": 42})
    shown = await running.client.wait(f"/jobs/{job}", "status", {"read"}, 60)
    assert [step["status"] for step in shown["timeline"]] == [
        "queued", "sending", "submitting", "sent", "delivered", "read",
    ]  # fmt: skip
    events = [await running.event(job, [kind]) for kind in ("JobCompleted", "JobDelivered", "JobRead")]
    assert [event["data"]["sequence"] for event in events] == [1, 2, 3]
    assert events[0]["data"]["metadata"] == {"order": 42}


async def test_a_paused_account_sends_nothing_until_it_is_resumed(running: House, sound: str) -> None:
    account = await running.link()
    await running.client.post(f"/accounts/{account}/pause")
    job = await running.send(account, "15551110003", "paused")
    assert (await running.ended(await running.send(sound, "15551110003", "meanwhile")))["sentAt"]
    assert (await running.client.get(f"/jobs/{job}"))["status"] == "queued"
    await running.client.post(f"/accounts/{account}/resume")
    assert (await running.ended(job))["sentAt"]


async def test_messages_arrive_once_and_in_order_and_one_at_a_time(running: House, sound: str) -> None:
    accounts = [sound, *await asyncio.gather(*(running.link(str(n)) for n in range(2)))]
    sent = {account: [f"{n} of {account}" for n in range(4)] for account in accounts}
    jobs = [
        (account, await running.send(account, f"1555222{number:04}", text))
        for number, account in enumerate(accounts)
        for text in sent[account]
    ]
    ended = [(account, await running.ended(job, 120)) for account, job in jobs]
    for number, account in enumerate(accounts):
        assert await running.received(f"1555222{number:04}") == sent[account]
        spans = sorted((job["startedAt"], job["sentAt"]) for owner, job in ended if owner == account)
        assert all(before[1] <= after[0] for before, after in pairwise(spans))
