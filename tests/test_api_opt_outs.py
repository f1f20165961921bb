from collections.abc import AsyncIterator

import httpx2
import pytest
from fixtures_api import api, new_account, rows

from sql.database import Database
from sql.ids import new_id

PHONE = "15551230001"


@pytest.fixture
async def client(database_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with api(database_url) as client:
        yield client


async def put(client: httpx2.AsyncClient, phone: str, **more: str) -> httpx2.Response:
    return await client.post("/opt-outs", json={"phone": phone, **more})


async def test_a_number_is_put_on_the_list_once(client: httpx2.AsyncClient) -> None:
    first = await put(client, "+1 (555) 123-0001", reason="asked on the phone")
    assert (first.status_code, first.headers["location"]) == (201, f"/opt-outs/{PHONE}")
    assert set(first.json()) == {"phone", "account", "reason", "createdAt"}
    assert (first.json()["phone"], first.json()["account"]) == (PHONE, None)
    again = await put(client, PHONE, reason="again")
    assert (again.status_code, again.json()) == (200, first.json())
    assert (await put(client, "15551230002")).json()["reason"] == "entered by hand"
    assert (await client.get("/opt-outs", params={"phone": PHONE})).json()["items"] == [first.json()]


async def test_it_is_lifted_once_and_may_come_back(client: httpx2.AsyncClient, database: Database) -> None:
    assert (await client.delete(f"/opt-outs/{PHONE}")).status_code == 404
    await put(client, PHONE)
    answer = await client.delete("/opt-outs/+1 555 123 0001")
    assert (answer.status_code, answer.content) == (204, b"")
    assert (await client.delete(f"/opt-outs/{PHONE}")).json()["detail"] == f"{PHONE} is not on the opt-out list."
    assert (await client.get("/opt-outs")).json()["items"] == []
    assert (await put(client, PHONE)).status_code == 201
    assert await rows(database, "select lifted_at is null from opt_outs order by created_at") == [(False,), (True,)]


async def test_a_bad_number_is_refused(client: httpx2.AsyncClient) -> None:
    for answer in (
        await put(client, "call me"),
        await client.delete("/opt-outs/call-me"),
        await client.get("/opt-outs?phone=1"),
        await client.get("/incoming?phone=1"),
    ):
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "phone")
    assert (await put(client, PHONE, reason=" ")).status_code == 422
    assert (await put(client, PHONE, until="tomorrow")).status_code == 422
    assert (await client.get("/incoming?since=yesterday")).status_code == 422


async def test_the_list_comes_in_pages_newest_first(client: httpx2.AsyncClient) -> None:
    phones = [f"1555123000{number}" for number in range(5)]
    for phone in phones:
        await put(client, phone)
    found: list[str] = []
    cursor: str | None = None
    while len(found) < 10:
        page = (await client.get("/opt-outs", params={"limit": 2} | ({"cursor": cursor} if cursor else {}))).json()
        found += [item["phone"] for item in page["items"]]
        cursor = page["nextCursor"]
        if cursor is None:
            break
    assert found == phones[::-1]


@pytest.mark.parametrize(
    ("one", "other"),
    [("5511987654321", "551187654321"), ("525512345678", "5215512345678"), ("5491112345678", "541112345678")],
)
async def test_both_forms_of_a_number_are_one_account(client: httpx2.AsyncClient, one: str, other: str) -> None:
    assert (await put(client, one)).status_code == 201
    if not other.startswith("521"):  # which nobody dials any more
        assert (await put(client, other)).status_code == 200
    assert [item["phone"] for item in (await client.get(f"/opt-outs?phone={other}")).json()["items"]] == [one]
    assert (await client.delete(f"/opt-outs/{other}")).status_code == 204
    assert (await client.get("/opt-outs")).json()["items"] == []


async def test_a_landline_that_opts_out_is_not_somebodys_mobile(client: httpx2.AsyncClient) -> None:
    assert (await put(client, "551132782153")).status_code == 201
    assert (await put(client, "5511932782153")).status_code == 201
    assert len((await client.get("/opt-outs")).json()["items"]) == 2


async def test_what_came_in_is_listed(client: httpx2.AsyncClient, database: Database) -> None:
    one, two = await new_account(client), await new_account(client)
    said = [(one, PHONE, "+1 555-123-0001", "first"), (two, None, "Ben", "second"), (one, "15551230002", "x", "third")]
    for number, (account, phone, chat, text) in enumerate(said):
        async with database.transaction() as tx:
            await tx.all(
                "record_incoming", id=new_id("msg_"), account=account, bubble=str(number), phone=phone, chat=chat,
                text=text,
            )  # fmt: skip
    items = (await client.get("/incoming")).json()["items"]
    assert [item["text"] for item in items] == ["third", "second", "first"]
    assert set(items[0]) == {"id", "account", "phone", "chat", "text", "receivedAt"}
    assert items[0]["id"].startswith("msg_")
    assert (items[1]["phone"], items[1]["chat"]) == (None, "Ben")
    for query, expected in (
        (f"account={two}", ["second"]),
        (f"phone={PHONE}", ["first"]),
        (f"since={items[1]['receivedAt']}", ["third", "second"]),
        ("until=2000-01-01T00:00:00Z", []),
        ("account=acc_none", []),
        ("limit=1", ["third"]),
    ):
        found = (await client.get(f"/incoming?{query}")).json()["items"]
        assert [item["text"] for item in found] == expected, query


async def test_a_message_is_recorded_with_its_event_once(client: httpx2.AsyncClient, database: Database) -> None:
    account = await new_account(client)
    await client.post("/webhooks", json={"url": "https://example.org/hook", "events": ["MessageReceived"]})
    for phone in (PHONE, None):
        for _ in range(2):
            async with database.transaction() as tx:
                await tx.all(
                    "record_incoming", id=new_id("msg_"), account=account, bubble=f"b{phone}", phone=phone,
                    chat='Ben "B"', text='a\n"b" \\ 🎉',
                )  # fmt: skip
    events = await rows(
        database,
        """select body::json -> 'data' ->> 'from', body::json -> 'data' ->> 'text', body::json -> 'data' ->> 'account',
                  body like '{"type":"MessageReceived","timestamp":"____-__-__T__:__:__.___Z","data":{"account":"acc_%',
                  (select count(*)::int from json_object_keys(body::json -> 'data')), account_id
           from outbox where type = 'MessageReceived' order by created_at""",
    )
    said = 'a\n"b" \\ 🎉'
    assert events == [(PHONE, said, account, True, 4, account), ('Ben "B"', said, account, True, 4, account)]
    assert await rows(database, "select count(*)::int from deliveries") == [(2,)]
    assert await rows(database, "select count(*)::int from incoming") == [(2,)]
