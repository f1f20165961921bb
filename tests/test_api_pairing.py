import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest
from fixtures_api import KEY, api, client_of, new_account, rows, running
from starlette.types import Message, Scope

from api.accounts import pairing
from sql.database import Database

LANE = "select open_at::text, gate_reason, attend_at <= now() from lanes"
WAKEUPS = "select lock from procrastinate_jobs where status = 'todo'"
SHOWN = """
update accounts set state = 'qr_pending', pairing_code = 'ABCDEFGH', pairing_expires_at = now() + interval '3 minutes'
where pairing_phone = '15551230001' returning id
"""


@pytest.fixture
async def client(database_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with api(database_url) as client:
        yield client


async def test_a_pairing_code_is_waited_for(client: httpx2.AsyncClient, database: Database) -> None:
    account = await new_account(client)
    path = f"/accounts/{account}/pairing-code"
    assert (await client.get(path)).status_code == 409
    asking = asyncio.create_task(client.post(path, json={"phone": "+1 (555) 123-0001"}))
    while not await rows(database, SHOWN):
        await asyncio.sleep(0.02)
    answer = await asking
    assert (answer.status_code, answer.json()["code"]) == (200, "ABCD-EFGH")
    assert answer.json()["expiresAt"].endswith("Z")
    assert await rows(database, "select wanted, pairing_phone from accounts") == [("connected", "15551230001")]
    assert await rows(database, LANE) == [("-infinity", None, True)]
    assert await rows(database, WAKEUPS) == [(account,)]
    assert (await client.get(path)).json() == answer.json()
    # The same number is answered at once; for another, this code is none.
    assert (await client.post(path, json={"phone": "15551230001"})).json() == answer.json()
    await rows(database, "update accounts set pairing_expires_at = now() returning id")
    assert (await client.get(path)).json() == {"code": None, "expiresAt": None}


async def test_a_code_that_does_not_come_is_asked_for_later(
    client: httpx2.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairing, "PATIENCE", 0.3)
    path = f"/accounts/{await new_account(client)}/pairing-code"
    await client.post(path, json={"phone": "15551230001"})
    await rows(database, SHOWN)
    other = await client.post(path, json={"phone": "15551230002"})
    assert (other.status_code, other.json()) == (202, {"code": None, "expiresAt": None})
    assert (await client.get(path)).json() == {"code": None, "expiresAt": None}


async def test_no_code_is_asked_for_of_a_linked_account(client: httpx2.AsyncClient, database: Database) -> None:
    account = await new_account(client)
    await rows(database, "update accounts set linked = true, state = 'ready' returning id")
    path = f"/accounts/{account}/pairing-code"
    for answer in (await client.post(path, json={"phone": "15551230001"}), await client.get(path)):
        assert (answer.status_code, "is linked" in answer.json()["detail"]) == (409, True)
    assert await rows(database, "select wanted, pairing_phone from accounts") == [("disconnected", None)]
    assert await rows(database, LANE) == [("infinity", "not_connected", None)]


async def test_waiting_for_a_code_ends_with_its_reason(client: httpx2.AsyncClient, database: Database) -> None:
    for change, status in (
        ("update accounts set linked = true", 409),
        ("update accounts set wanted = 'disconnected'", 409),
        ("update accounts set deleted_at = now()", 404),
    ):
        account = await new_account(client)
        asking = asyncio.create_task(client.post(f"/accounts/{account}/pairing-code", json={"phone": "15551230001"}))
        while not await rows(database, f"{change} where id = '{account}' and pairing_phone is not null returning id"):
            await asyncio.sleep(0.02)
        assert (await asking).status_code == status


async def test_a_bad_phone_is_named(client: httpx2.AsyncClient, database: Database) -> None:
    path = f"/accounts/{await new_account(client)}/pairing-code"
    for body, field in (
        ({}, "phone"),
        ({"phone": "123"}, "phone"),
        ({"phone": 1}, "phone"),
        ({"phone": "15551230001", "x": 1}, "x"),
    ):
        answer = await client.post(path, json=body)
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)
    assert (await client.post("/accounts/acc_none/pairing-code", json={"phone": "15551230001"})).status_code == 404
    assert (await client.get("/accounts/acc_none/pairing-code")).status_code == 404
    assert await rows(database, "select pairing_phone from accounts") == [(None,)]


async def test_a_wish_ends_the_wait_for_a_code(client: httpx2.AsyncClient, database: Database) -> None:
    account = await new_account(client)
    for wish, phone in (("connect", "15551230001"), ("disconnect", None), ("connect", None), ("logout", None)):
        if wish != "connect" or phone:
            await rows(database, "update accounts set wanted = 'connected', pairing_phone = '15551230001' returning id")
        await client.post(f"/accounts/{account}/{wish}")
        assert await rows(database, "select pairing_phone from accounts") == [(phone,)]


async def test_a_client_that_goes_away_ends_the_wait_and_no_connection_is_held(database_url: str) -> None:
    body = b'{"phone": "15551230001"}'
    async with running(database_url) as app, client_of(app) as client:
        accounts = [await new_account(client, str(number)) for number in range(15)]
        database = app.state.context.database.of("org_default")
        gone = asyncio.Event()

        async def ask(account: str) -> list[Message]:
            """More of them than the pool has connections, each with its body sent and then nothing, until it leaves."""
            sent: list[Message] = []
            waiting = [{"type": "http.request", "body": body}]

            async def receive() -> Message:
                if waiting:
                    return waiting.pop()
                await gone.wait()
                return {"type": "http.disconnect"}

            async def send(message: Message) -> None:
                sent.append(message)

            await app(pairing_scope(account, len(body)), receive, send)
            return sent

        asking = [asyncio.create_task(ask(account)) for account in accounts]
        while await _asked(database) < len(accounts):
            await asyncio.sleep(0.02)
        assert (await client.get("/accounts")).status_code == 200
        assert not any(task.done() for task in asking)
        gone.set()
        async with asyncio.timeout(pairing.PATIENCE / 2):
            answers = await asyncio.gather(*asking)
    assert {answer[0]["status"] for answer in answers} == {400}


async def _asked(database: Database) -> int:
    return len(await rows(database, "select from accounts where pairing_phone is not null"))


def pairing_scope(account: str, length: int) -> Scope:
    path = f"/accounts/{account}/pairing-code"
    return {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "client": ("127.0.0.1", 40000),
        "server": ("postrider.test", 80), "headers": [
            (b"x-api-key", KEY.encode()), (b"content-type", b"application/json"), (b"content-length", b"%d" % length),
        ],
    }  # fmt: skip
