import json
from collections.abc import AsyncIterator

import httpx2
import pytest
from fixtures_api import ENCRYPTION_KEY, api, new_account, rows

from crypto import CryptoError, Sealer
from sql.database import Database, Row, Transaction

WAKEUPS = "select lock from procrastinate_jobs where status = 'todo'"
PROXY = {"url": "http://ann:s%40crt@proxy.test:3128", "spare": "socks5://[2001:db8::1]:1080"}


@pytest.fixture
async def client(database_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with api(database_url) as client:
        yield client


async def test_an_account_is_created_with_its_choices(client: httpx2.AsyncClient, database: Database) -> None:
    given = {"name": "Shop", "transport": "web", "timeZone": "Asia/Kathmandu", "pace": "off", "proxy": PROXY}
    account = (await client.post("/accounts", json=given)).json()
    plain = [
        (await client.post("/accounts", json={"name": "x", "transport": kind})).json() for kind in ("web", "sandbox")
    ]
    assert (account["timeZone"], account["pace"], account["linked"]) == ("Asia/Kathmandu", "off", False)
    assert account["proxy"] == {"url": "http://proxy.test:3128", "spare": "socks5://[2001:db8::1]:1080"}
    assert [(item["timeZone"], item["pace"], item["proxy"]) for item in plain] == [
        ("UTC", "on", None),
        ("UTC", "off", None),
    ]
    [(sealed, text)] = await rows(database, "select proxy, accounts::text from accounts where proxy is not null")
    assert "s%40crt" not in text
    sealer = Sealer.from_text(ENCRYPTION_KEY)
    assert json.loads(sealer.open(sealed, account["id"].encode())) == PROXY
    with pytest.raises(CryptoError):
        sealer.open(sealed, b"acc_other")


async def test_what_is_given_changes_and_the_rest_stays(client: httpx2.AsyncClient, database: Database) -> None:
    account = f"/accounts/{await new_account(client)}"
    before = (await client.get(account)).json()
    for change, shown in (
        ({"name": "Kiosk"}, {"name": "Kiosk"}),
        ({"timeZone": "America/Sao_Paulo", "pace": "on"}, {"timeZone": "America/Sao_Paulo", "pace": "on"}),
        (
            {"proxy": {"url": "socks5://u:p@10.0.0.9:1080/"}},
            {"proxy": {"url": "socks5://10.0.0.9:1080", "spare": None}},
        ),
        ({"name": "Stall"}, {"name": "Stall"}),
        ({"proxy": None}, {"proxy": None}),
        ({}, {}),
        ({"pace": "off"}, {"pace": "off"}),
    ):
        answer = await client.patch(account, json=change)
        assert (answer.status_code, answer.json()) == (
            200,
            before | shown | {"dailyLimit": answer.json()["dailyLimit"]},
        )
        before |= shown
    assert await rows(database, "select proxy, proxy_shown from accounts") == [(None, None)]
    assert await rows(database, WAKEUPS) == []
    assert (await client.patch("/accounts/acc_none", json={"name": "x"})).status_code == 404


async def test_postgres_is_asked_once_whether_it_knows_a_time_zone(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    account, one, asked = f"/accounts/{await new_account(client)}", Transaction.one, list[object]()

    async def noted(tx: Transaction, name: str, /, **values: object) -> Row | None:
        asked.extend(values.values() if name == "known_zone" else ())
        return await one(tx, name, **values)

    monkeypatch.setattr(Transaction, "one", noted)
    for zone in ("Europe/Berlin", "Asia/Kathmandu", "Europe/Berlin", "Asia/Kathmandu"):
        assert (await client.patch(account, json={"timeZone": zone})).json()["timeZone"] == zone
    assert asked == ["Europe/Berlin", "Asia/Kathmandu"]


async def test_a_linked_account_keeps_its_time_zone(client: httpx2.AsyncClient, database: Database) -> None:
    account = f"/accounts/{await new_account(client)}"
    await rows(database, "update accounts set lease_until = now() + interval '9 s' returning id")
    opened = await client.patch(account, json={"timeZone": "Europe/Berlin"})
    await rows(database, "update accounts set lease_until = now() returning id")
    assert (await client.patch(account, json={"timeZone": "Europe/Berlin"})).status_code == 200
    await rows(database, "update accounts set linked = true returning id")
    linked = await client.patch(account, json={"timeZone": "Europe/Madrid", "name": "Kiosk"})
    same = await client.patch(account, json={"timeZone": "Europe/Berlin", "name": "Stall"})
    assert (opened.status_code, "disconnect" in opened.json()["detail"]) == (409, True)
    assert (linked.status_code, "stays Europe/Berlin" in linked.json()["detail"]) == (409, True)
    assert (same.status_code, same.json()["name"], same.json()["linked"]) == (200, "Stall", True)


async def test_a_gate_that_pace_closed_opens_when_pace_is_off(client: httpx2.AsyncClient, database: Database) -> None:
    account = await new_account(client)
    for reason, opens in (("pace_hour", True), ("quiet_hours", True), ("paused", False), ("banned", False)):
        await client.patch(f"/accounts/{account}", json={"pace": "on"})
        async with database.transaction() as tx:
            await tx.connection.execute("update lanes set open_at = now() + '1 hour', gate_reason = %s", [reason])
            await tx.connection.execute("update procrastinate_jobs set status = 'succeeded'")
        await client.patch(f"/accounts/{account}", json={"pace": "off"})
        assert (await rows(database, "select gate_reason from lanes")) == [(None if opens else reason,)]
        assert await rows(database, WAKEUPS) == ([(account,)] if opens else [])


BAD_CHOICES = [
    ("name", "", "name", "at least 1 character"),
    ("name", None, "name", "not null"),
    ("name", 5, "name", "not 5"),
    ("timeZone", None, "timeZone", "not null"),
    ("timeZone", "", "timeZone", 'such as Europe/Berlin, not ""'),
    ("timeZone", "Europe/Nowhere", "timeZone", 'not "Europe/Nowhere"'),
    ("timeZone", "europe/berlin", "timeZone", 'not "europe/berlin"'),
    ("timeZone", "../etc/passwd", "timeZone", 'not "../etc/passwd"'),
    ("timeZone", "Factory", "timeZone", 'not "Factory"'),
    ("timeZone", "UTC+2", "timeZone", 'not "UTC+2"'),
    ("timeZone", 3600, "timeZone", "not 3600"),
    ("pace", "fast", "pace", 'not "fast"'),
    ("pace", False, "pace", "not false"),
    ("pace", None, "pace", "not null"),
    ("state", "ready", "state", "not a known field"),
    ("time_zone", "UTC", "time_zone", "not a known field"),
    ("proxy", "http://ann:hidden@proxy.test:3128", "proxy", "must be null or an object"),
    ("proxy", ["http://ann:hidden@proxy.test:3128"], "proxy", "must be null or an object"),
    ("proxy", {}, "proxy.url", "is required"),
    ("proxy", {"url": None}, "proxy.url", "not null"),
    ("proxy", {"url": "http://a:1", "name": "ann:hidden"}, "proxy.name", "not a known field"),
    ("proxy", {"url": "http://a:1", "spare": "ann:hidden@b:2"}, "proxy.spare", "must be like http://"),
]
BAD_PROXIES = [
    ("ann:hidden@proxy.test:3128", "must be like http://"),
    ("//ann:hidden@proxy.test:3128", "must be like http://"),
    ("https://ann:hidden@proxy.test:3128", "must be like http://"),
    ("socks4://ann:hidden@proxy.test:3128", "must be like http://"),
    ("http://ann:hidden@proxy.test", "must have a port"),
    ("http://ann:hidden@proxy.test:", "must have a port"),
    ("http://ann:hidden@proxy.test:0", "must have a port"),
    ("http://ann:hidden@proxy.test:65536", "must have a port"),
    ("http://ann:hidden@proxy.test:http", "must have a port"),
    ("http://[::1:3128", "must have a port"),
    ("http://ann:hidden@:3128", "must have the host"),
    ("http://ann:hidden@pro$xy.test:3128", "must have the host"),
    ("http://ann:hid den@proxy.test:3128", "must be like http://"),
    ("http://ann:hidden@prøxy.test:3128", "must be like http://"),
    ("http://ann@proxy.test:3128", "both user and password"),
    ("http://:hidden@proxy.test:3128", "both user and password"),
    ("http://ann:hidden@proxy.test:3128/path", "must end with the port"),
    ("http://proxy.test:3128?hidden", "must end with the port"),
    ("http://proxy.test:3128#hidden", "must end with the port"),
    ("", "must be like http://"),
    ("http://proxy.test:3128/" + "x" * 2048, "at most 2048 characters"),
]


async def test_a_bad_choice_is_named_and_no_password_repeated(client: httpx2.AsyncClient, database: Database) -> None:
    account = await new_account(client)
    before = await rows(database, "select accounts::text from accounts")
    bad = BAD_CHOICES + [("proxy", {"url": url}, "proxy.url", why) for url, why in BAD_PROXIES]
    for name, value, field, why in bad:
        for method, path, more in (("PATCH", f"/accounts/{account}", {}), ("POST", "/accounts", {"name": "x"})):
            answer = await client.request(method, path, json=more | {name: value})
            [error] = answer.json()["errors"]
            assert (answer.status_code, error["field"]) == (422, field), value
            assert why in error["message"]
            assert "hid" not in answer.text, value
    nul = {"content": b'{"name": "a\\u0000"}', "headers": {"content-type": "application/json"}}
    assert (await client.patch(f"/accounts/{account}", **nul)).status_code == 400  # type: ignore[arg-type]
    assert (await client.patch(f"/accounts/{account}?x=1", json={})).json()["errors"][0]["field"] == "x"
    assert await rows(database, "select accounts::text from accounts") == before
