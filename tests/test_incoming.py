"""Incoming messages and opt-outs through the whole house."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from fixtures_browser import GENERATIONS
from fixtures_house import House, house
from fixtures_postgres import own_database

from browser.page.reader import Patience
from commands.demo_timing import PATIENCE
from errors import DatabaseUnavailable
from sql.database import Database
from tasks.web.lane import AccountWork

pytestmark = pytest.mark.timeout(600)
#: with what arrives as in production: that is what these tests are about
WAITS = replace(PATIENCE, arrival=Patience().arrival)
CONTACT = "447700900012"  # Ben Okafor, whom every sandbox account has saved


@pytest.fixture(scope="module")
async def running(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    with own_database(postgres) as url:
        async with house(tmp_path_factory.mktemp("house"), url, WAITS) as it:
            yield it


async def arrives(running: House, account: str, phone: str, *texts: str) -> None:
    """Let somebody write to the account."""
    for text in texts:
        await running.client.post(f"/sandbox/accounts/{account}/incoming", {"phone": phone, "text": text})


async def recorded(running: House, account: str, count: int, seconds: float = 30) -> list[dict[str, Any]]:
    """Wait for so many messages of the account and return them, the oldest first."""
    async with asyncio.timeout(seconds):
        items: list[dict[str, Any]] = []
        while len(items := (await running.client.get(f"/incoming?account={account}"))["items"]) < count:
            await asyncio.sleep(0.1)
    assert len(items) == count
    return items[::-1]


async def received(running: House, account: str, count: int) -> list[dict[str, Any]]:
    """Wait for so many MessageReceived webhooks of the account and return their data."""
    async with asyncio.timeout(30):
        while True:
            while not running.receiver.events.empty():
                running.events.append(running.receiver.events.get_nowait())
            found = [
                event["data"]
                for event in running.events
                if event["type"] == "MessageReceived" and event["data"]["account"] == account
            ]
            if len(found) >= count:
                assert len(found) == count
                return sorted(found, key=lambda data: data["receivedAt"])
            await asyncio.sleep(0.05)


async def sleeps(running: House, account: str) -> None:
    """Close the account's session, as when it was idle for long."""
    assert running.worker
    async with asyncio.timeout(30):
        while running.seats.draining(account):
            await asyncio.sleep(0.05)
    await running.seats.leave(account, "idle")
    assert running.seats.live(account) is None


async def is_current(running: House, account: str) -> None:
    """Wait until all that has come in was read, so that what comes next is known to be new."""
    assert running.worker
    work, session = running.worker.lanes.works["account"], running.seats.live(account)
    assert isinstance(work, AccountWork)
    assert session
    async with asyncio.timeout(60):
        while work.sender.incoming._memory(session.page).current is None:
            await asyncio.sleep(0.1)


async def confirmations(running: House, account: str) -> list[dict[str, Any]]:
    """Return the account's jobs that confirm an opt-out."""
    jobs = (await running.client.get(f"/jobs?account={account}"))["items"]
    return [job for job in jobs if job["timeline"][0]["detail"] == "confirms an opt-out"]


async def test_what_arrives_is_recorded_and_told_once(running: House) -> None:
    account = await running.link()
    await arrives(running, account, "15551240001", "Hello?", "Is this 🎉 *you*?")
    items = await recorded(running, account, 2)
    assert [(item["phone"], item["text"]) for item in items] == [
        ("15551240001", "Hello?"),
        ("15551240001", "Is this 🎉 you?"),
    ]
    # Into the chat that is open now, then seen again by every way there is: the duty, a job, another browser.
    await arrives(running, account, "15551240001", "And again")
    assert (await recorded(running, account, 3))[2]["text"] == "And again"
    assert (await running.ended(await running.send(account, "15551240001", "yes")))["sentAt"]
    await sleeps(running, account)
    assert (await running.ended(await running.send(account, "15551240001", "it is me")))["sentAt"]
    await arrives(running, account, "15551240002", "the last")
    items = await recorded(running, account, 4)
    events = await received(running, account, 4)
    assert [(event["from"], event["text"]) for event in events] == [(item["phone"], item["text"]) for item in items]
    assert events[0]["receivedAt"] == items[0]["receivedAt"]
    assert set(events[0]) == {"account", "from", "text", "receivedAt"}


@pytest.mark.long
async def test_an_answer_to_a_first_message_is_news(running: House) -> None:
    account = await running.link()
    assert (await running.ended(await running.send(account, "15551240003", "Hello there")))["sentAt"]
    await arrives(running, account, "15551240003", "Who is this?")
    assert [item["text"] for item in await recorded(running, account, 1)] == ["Who is this?"]


@pytest.mark.long
async def test_a_session_that_wakes_catches_up(running: House) -> None:
    account = await running.link()
    await sleeps(running, account)
    phones = [f"155512401{number:02}" for number in range(25)]  # more chats than the list shows at a time
    for phone in phones:
        await arrives(running, account, phone, f"one of {phone}", f"two of {phone}")
    assert (await running.client.get(f"/incoming?account={account}"))["items"] == []
    assert (await running.ended(await running.send(account, "15551240099", "wake up")))["sentAt"]
    items = await recorded(running, account, 50, 120)
    assert {item["phone"] for item in items} == set(phones)
    assert {item["text"] for item in items} == {f"{word} of {phone}" for word in ("one", "two") for phone in phones}


@pytest.mark.long
async def test_who_writes_stop_while_the_account_sleeps_is_not_written_to(running: House) -> None:
    account, phone = await running.link(), "15551240004"
    assert (await running.ended(await running.send(account, phone, "Hello")))["sentAt"]
    await sleeps(running, account)
    await arrives(running, account, phone, "Who are you", "Stop! 🛑")
    job = await running.send(account, phone, "Buy this")
    ended = await running.ended(job)
    assert (ended["status"], ended["error"]["code"], ended["attempts"]) == ("failed", "recipient_opted_out", 1)
    assert (await running.event(job))["data"]["error"]["code"] == "recipient_opted_out"
    assert await running.received(phone) == ["Hello"]
    [listed] = (await running.client.get(f"/opt-outs?phone={phone}"))["items"]
    assert (listed["account"], listed["reason"]) == (account, "Stop! 🛑")
    assert [item["text"] for item in await recorded(running, account, 2)] == ["Who are you", "Stop! 🛑"]

    # The account goes on with others, every other account of the org heeds it, and a retry changes nothing.
    other = await running.link()
    assert (await running.ended(await running.send(account, "15551240005", "Hello")))["sentAt"]
    assert (await running.ended(await running.send(other, phone, "Buy that")))["error"]["code"] == "recipient_opted_out"
    await running.client.post(f"/jobs/{job}/retry")
    await asyncio.wait_for(_failed_again(running, job), 60)
    assert await running.received(phone) == ["Hello"]

    # Lifted, it goes out; the STOP that is recorded does not count again, not even in a new browser; a new one does.
    assert (await running.client._http.delete(f"/opt-outs/{phone}")).status_code == 204
    await sleeps(running, account)
    assert (await running.ended(await running.send(account, phone, "Welcome back")))["sentAt"]
    assert await running.received(phone) == ["Hello", "Welcome back"]
    await arrives(running, account, phone, "BAJA")
    assert (await recorded(running, account, 3))[-1]["text"] == "BAJA"
    assert (await running.ended(await running.send(account, phone, "Bye")))["error"]["code"] == "recipient_opted_out"
    assert await running.received(phone) == ["Hello", "Welcome back"]


async def _failed_again(running: House, job: str) -> None:
    while [step["status"] for step in (await running.client.get(f"/jobs/{job}"))["timeline"]].count("failed") < 2:
        await asyncio.sleep(0.1)


@pytest.mark.long
async def test_a_stop_that_a_person_has_read_counts(running: House) -> None:
    account, phone = await running.link(), "15551240006"
    await arrives(running, account, phone, "please stop")
    await recorded(running, account, 1)
    await sleeps(running, account)
    async with running.database.transaction() as tx:  # as if nobody had looked before a person did
        await tx.connection.execute("delete from incoming where account_id = %s", [account])
        await tx.connection.execute("delete from opt_outs where phone = %s", [phone])
    ended = await running.ended(await running.send(account, phone, "Hello"))
    assert ended["error"]["code"] == "recipient_opted_out"
    assert await running.received(phone) == []


async def test_a_number_that_was_entered_by_hand_is_not_even_opened(running: House) -> None:
    account, phone = await running.link(), "15550000404"  # opening its chat would fail as not_on_whatsapp
    await running.client.post("/opt-outs", {"phone": phone, "reason": "asked on the phone"})
    ended = await running.ended(await running.send(account, phone, "Hello"))
    assert ended["error"] == {"code": "recipient_opted_out", "detail": ended["error"]["detail"]}


@pytest.mark.long
async def test_a_saved_contact_is_told_by_what_we_wrote_to_it(running: House) -> None:
    account = await running.link()
    await arrives(running, account, CONTACT, "Hi, Ben here")
    [first] = await recorded(running, account, 1)
    assert (first["phone"], first["chat"]) == (None, "Ben Okafor")
    assert [data["from"] for data in await received(running, account, 1)] == ["Ben Okafor"]
    assert (await running.ended(await running.send(account, CONTACT, "Hello Ben")))["sentAt"]
    # The number that opened the chat is the earlier message's, too; our message tells whose the next one is.
    [first] = await recorded(running, account, 1)
    assert first["phone"] == CONTACT
    assert (await running.ended(await running.send(account, "15551240007", "Hello")))["sentAt"]
    await arrives(running, account, CONTACT, "Unsubscribe")
    assert (await recorded(running, account, 2))[1]["phone"] == CONTACT
    ended = await running.ended(await running.send(account, CONTACT, "Buy this"))
    assert ended["error"]["code"] == "recipient_opted_out"


@pytest.mark.long
async def test_a_stop_under_a_name_counts_when_a_number_opens_the_chat(running: House) -> None:
    account, contact = await running.link(), "447700900014"  # Carla Mendes or another; saved, and never written to
    await arrives(running, account, contact, "STOP")
    [item] = await recorded(running, account, 1)
    assert item["phone"] is None
    ended = await running.ended(await running.send(account, contact, "Hello"))
    assert ended["error"]["code"] == "recipient_opted_out"
    assert await running.received(contact) == []
    assert len(await received(running, account, 1)) == 1


async def test_a_message_that_cannot_be_stored_holds_up_nothing(
    running: House, caplog: pytest.LogCaptureFixture
) -> None:
    account, phone, other = await running.link(), "15551240301", "15551240302"
    async with running.database.transaction() as tx:
        await tx.connection.execute("alter table incoming add constraint no_bell check (text not like '%🔔%')")
    try:
        await arrives(running, account, phone, "STOP 🔔", "and one more")
        await arrives(running, account, other, "hello")
        items = await recorded(running, account, 2)
    finally:
        async with running.database.transaction() as tx:
            await tx.connection.execute("alter table incoming drop constraint no_bell")
    assert {item["text"] for item in items} == {"and one more", "hello"}
    assert len((await running.client.get(f"/opt-outs?phone={phone}"))["items"]) == 1
    assert [one for one in caplog.records if one.__dict__.get("event") == "messages.unrecorded"]
    assert "🔔" not in caplog.text


@pytest.mark.parametrize("kind", GENERATIONS)
async def test_a_stop_is_credited_to_nobody_for_the_title_of_a_chat(running: House, kind: str) -> None:
    """A contact that is saved under somebody else's number, and somebody who is no contact, of whom it is the title."""
    saved, named, unsaved = "447700900060", "447700900123", f"1555124020{GENERATIONS.index(kind)}"
    account = await running.link(kind=kind)
    assert (await running.client._http.patch("/org", json={"optOutReply": "You are out."})).status_code == 200
    before = len(await running.received(named))
    try:
        await arrives(running, account, saved, "STOP")
        [item] = await recorded(running, account, 1, 60)
        assert item["phone"] == (saved if kind.startswith("legacy") else None)
        await is_current(running, account)
        await arrives(running, account, unsaved, "STOP")
        assert (await recorded(running, account, 2, 60))[1]["phone"] == unsaved
        assert [job["phone"] for job in await confirmations(running, account)] == [unsaved]
        listed = {item["phone"] for item in (await running.client.get("/opt-outs"))["items"]}
        assert unsaved in listed
        assert named not in listed
        if not kind.startswith("bare"):  # where a contact that is saved so cannot be written to
            ended = await running.ended(await running.send(account, saved, "Buy this"))
            assert ended["error"]["code"] == "recipient_opted_out"
    finally:
        await running.client._http.patch("/org", json={"optOutReply": None})
        await running.client._http.delete(f"/opt-outs/{saved}")
    assert len(await running.received(named)) == before


@pytest.mark.long
async def test_what_was_opened_while_postgres_was_away_is_recorded_later(running: House) -> None:
    assert running.worker
    work = running.worker.lanes.works["account"]
    assert isinstance(work, AccountWork)
    account, incoming = await running.link(), work.sender.incoming
    async with Database("postgresql://127.0.0.1:1/none") as away:
        incoming.database = away
        await arrives(running, account, "15551240008", "Hello?", "Anybody?")
        session = running.seats.live(account)
        assert session
        async with asyncio.timeout(30):
            while not (await session.page.inbox.glance()).name:  # opened, and with that read
                await asyncio.sleep(0.1)
            with pytest.raises(DatabaseUnavailable):
                await incoming.run_once()
        assert (await session.page.inbox.glance()).unread == ()
        incoming.database = running.database
    assert [item["text"] for item in await recorded(running, account, 2)] == ["Hello?", "Anybody?"]


@pytest.mark.long
async def test_an_org_has_stop_words_of_its_own(running: House) -> None:
    account, phone, other = await running.link(), "15551240009", "15551240010"
    words = {"stopWords": {"add": ["pas maintenant"], "ignore": ["cancel"]}}
    assert (await running.client._http.patch("/org", json=words)).status_code == 200
    try:
        await arrives(running, account, phone, "Cancel, please")
        await arrives(running, account, other, "Pas maintenant, merci")
        await recorded(running, account, 2)
        listed = {item["phone"]: item["reason"] for item in (await running.client.get("/opt-outs"))["items"]}
    finally:
        await running.client._http.patch("/org", json={"stopWords": None})
    assert phone not in listed
    assert listed[other] == "Pas maintenant, merci"


@pytest.mark.long
async def test_a_stop_is_confirmed_once_and_then_nothing_is_sent(running: House) -> None:
    account, phone, reply = await running.link(), "15551240011", "You will get no more messages from us."
    assert (await running.ended(await running.send(account, phone, "Hello")))["sentAt"]
    assert (await running.client._http.patch("/org", json={"optOutReply": reply})).status_code == 200
    try:
        await is_current(running, account)
        await arrives(running, account, phone, "Stop. Thank you")
        await recorded(running, account, 1)
        [confirming] = await confirmations(running, account)
        assert (await running.ended(confirming["jobId"]))["sentAt"]
        assert (await running.event(confirming["jobId"]))["type"] == "JobCompleted"

        # Neither another message nor another STOP brings anything more, not even in a new browser.
        ended = await running.ended(await running.send(account, phone, "Buy this"))
        assert ended["error"]["code"] == "recipient_opted_out"
        await arrives(running, account, phone, "STOP")
        await recorded(running, account, 2)
        await sleeps(running, account)
        ended = await running.ended(await running.send(account, phone, "Buy that"))
        assert ended["error"]["code"] == "recipient_opted_out"
        assert len((await running.client.get(f"/jobs?account={account}"))["items"]) == 4
    finally:
        await running.client._http.patch("/org", json={"optOutReply": None})
    assert await running.received(phone) == ["Hello", reply]


async def test_a_stop_that_may_be_old_is_heeded_and_not_confirmed(running: House) -> None:
    """It came while nobody looked, so that nobody knows when."""
    account, phone = await running.link(), "15551240012"
    assert (await running.client._http.patch("/org", json={"optOutReply": "Done."})).status_code == 200
    try:
        assert (await running.ended(await running.send(account, phone, "Hello")))["sentAt"]
        await is_current(running, account)
        await sleeps(running, account)
        await arrives(running, account, phone, "Unsubscribe, please")
        await arrives(running, account, "15551240013", "STOP")
        ended = await running.ended(await running.send(account, phone, "Buy this"))
        assert ended["error"]["code"] == "recipient_opted_out"
        await recorded(running, account, 2)
        assert await confirmations(running, account) == []
        # One that comes while the page is looked at is known to be new.
        await is_current(running, account)
        await arrives(running, account, "15551240014", "STOP")
        await recorded(running, account, 3)
        assert [job["phone"] for job in await confirmations(running, account)] == ["15551240014"]
    finally:
        await running.client._http.patch("/org", json={"optOutReply": None})
