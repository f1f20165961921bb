import asyncio
import time
from collections.abc import AsyncIterator

import httpx2
import pytest
from fixtures_api import KEY, api, client_of, new_account, rows, running
from starlette.requests import Request

from api.http.key_cache import KNOWN
from api.http.rate_limit import client_address
from app import OPERATIONS
from crypto import hash_key, sign_request
from sql.database import Database

SECRET = "a-signing-secret-of-ours"
ORDER = b'{"phone":"15551230001","message":"Hello"}'


def signed(target: str, body: bytes, *, age: float = 0, secret: str = SECRET, method: str = "POST") -> dict[str, str]:
    timestamp = str(int(time.time() - age))
    signature = sign_request(secret, timestamp, method, target.encode(), body).hex()
    return {"x-timestamp": timestamp, "x-signature": signature, "content-type": "application/json"}


@pytest.fixture
async def signing(database_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    """A client whose key must sign what changes something."""
    async with api(database_url) as client:
        await new_account(client)
    async with api(database_url, api_secret=SECRET) as client:
        yield client


async def test_every_route_but_health_metrics_and_the_description_needs_a_key(database_url: str) -> None:
    async with running(database_url) as app, client_of(app) as client:
        for operation in OPERATIONS:
            path = operation.path.replace("{", "").replace("}", "")
            for key in ("", "wrong", KEY + " ", KEY.upper()):
                token = (
                    {"token": "wrong"} if (operation.method, path) == ("POST", "/qr") else None
                )  # it is the key there
                answer = await client.request(operation.method, path, headers={"x-api-key": key}, json=token)
                if operation.path in {
                    "/healthz",
                    "/readyz",
                    "/openapi.json",
                    "/metrics",
                }:  # the client is on this machine
                    assert answer.status_code == 200
                else:
                    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized"), operation.path
                    assert answer.headers["www-authenticate"]


async def test_a_revoked_key_and_a_key_of_another_org_see_nothing(database_url: str, database: Database) -> None:
    async with running(database_url) as app, client_of(app) as client:
        account = await new_account(client)
        await client.post("/send", json={"phone": "15551230001", "message": "x", "idempotencyKey": "k"})
        webhook = (await client.post("/webhooks", json={"url": "http://receiver.test/"})).json()["id"]
        await rows(database, "insert into orgs (org_id, name) values ('org_other', 'Other') returning org_id")
        async with database.transaction() as tx:
            values = {"id": "key_o", "org": "org_other", "name": "", "hash": hash_key("other"), "signing_secret": None}
            await tx.all("create_key", **values)
        async with client_of(app, x_api_key="other") as other:
            for path in (f"/accounts/{account}", "/jobs/k", f"/webhooks/{webhook}", f"/accounts/{account}/qr"):
                assert (await other.get(path)).status_code == 404, path
            for path in ("/accounts", "/jobs", "/webhooks"):
                assert (await other.get(path)).json() == {"items": [], "nextCursor": None}
            for wish in ("connect", "disconnect", "pause", "resume"):
                assert (await other.post(f"/accounts/{account}/{wish}")).status_code == 404
            assert (await other.delete("/jobs/k")).status_code == 404
            assert (await other.delete("/jobs?status=queued")).json() == {"cancelled": 0}
            assert (await other.delete(f"/webhooks/{webhook}")).status_code == 404
            order = {"phone": "15551230001", "message": "x", "idempotencyKey": "k", "account": account}
            assert (await other.post("/send", json=order)).status_code == 404
            await rows(database, "update api_keys set revoked_at = now() where id = 'key_o' returning id")
            await asyncio.sleep(KNOWN)
            assert (await other.get("/jobs")).status_code == 401


async def test_the_key_of_the_settings_follows_the_settings(database_url: str) -> None:
    async with api(database_url) as client:
        assert (await client.get("/jobs")).status_code == 200
    async with api(database_url, api_key="another-key-0123456789") as client:
        assert (await client.get("/jobs")).status_code == 401
        assert (await client.get("/jobs", headers={"x-api-key": "another-key-0123456789"})).status_code == 200
    async with api(database_url, api_key=None) as client:
        assert (await client.get("/jobs", headers={"x-api-key": "another-key-0123456789"})).status_code == 401


# --- signed requests ---------------------------------------------------------------------------------------------


async def test_a_signed_request_is_accepted_once(signing: httpx2.AsyncClient, database: Database) -> None:
    headers = signed("/send", ORDER)
    first = await signing.post("/send", content=ORDER, headers=headers)
    again = await signing.post("/send", content=ORDER, headers=headers)
    shouted = headers | {"x-signature": headers["x-signature"].upper()}
    upper = await signing.post("/send", content=ORDER, headers=shouted)
    assert first.status_code == 202
    for answer in (again, upper):
        assert answer.status_code == 401
        assert "used before" in answer.json()["detail"]
    assert len(await rows(database, "select from jobs")) == 1


async def test_a_wrong_signature_is_refused(signing: httpx2.AsyncClient, database: Database) -> None:
    for change, why in (
        ({"x-signature": ""}, "must be signed"),
        ({"x-timestamp": ""}, "must be signed"),
        ({"x-timestamp": "now"}, "must be signed"),
        ({"x-timestamp": "-5"}, "must be signed"),
        ({"x-signature": "zz" * 32}, "must be signed"),
        ({"x-signature": "00" * 32}, "does not fit"),
        (signed("/send", ORDER, age=33), "at most 30 s old"),
        (signed("/send", ORDER, age=-10), "5 s ahead"),
    ):
        answer = await signing.post("/send", content=ORDER, headers=signed("/send", ORDER) | change)
        assert answer.status_code == 401
        assert why in answer.json()["detail"]
    assert await rows(database, "select from jobs") == []


async def test_a_signature_holds_for_its_method_target_body_and_secret_only(
    signing: httpx2.AsyncClient, database: Database
) -> None:
    wrong = [
        signed("/send", ORDER, secret="another"),
        signed("/send/batch", ORDER),
        signed("/send", ORDER + b" "),
        signed("/send", ORDER, method="PUT"),
    ]
    for headers in wrong:
        assert (await signing.post("/send", content=ORDER, headers=headers)).status_code == 401
    target = "/jobs?status=queued&account=%61cc"
    assert (await signing.delete(target, headers=signed(target, b"", method="DELETE"))).status_code == 200
    bare = "/jobs"
    assert (await signing.delete(target, headers=signed(bare, b"", method="DELETE"))).status_code == 401
    assert await rows(database, "select from jobs") == []


async def test_reading_needs_no_signature(signing: httpx2.AsyncClient) -> None:
    assert (await signing.get("/jobs")).status_code == 200
    assert (await signing.head("/jobs")).status_code == 200


async def test_a_large_body_is_refused_before_its_signature_is_looked_at(signing: httpx2.AsyncClient) -> None:
    body = b" " * (512 * 1024 + 1)
    assert (await signing.post("/send", content=body, headers=signed("/send", body))).status_code == 413


# --- rates -------------------------------------------------------------------------------------------------------


async def test_each_address_and_each_key_has_its_rate(database_url: str) -> None:
    async with (
        running(database_url, rate_limit_per_minute=5) as app,
        client_of(app, "192.0.2.1") as one,
        client_of(app, "192.0.2.2", x_api_key="guess") as guesser,
        client_of(app, "192.0.2.3") as other,
    ):
        statuses = [(await one.get("/jobs")).status_code for _ in range(6)]
        guesses = [(await guesser.get("/jobs")).status_code for _ in range(6)]
        same_key = await other.get("/jobs")
        health = [(await one.get("/healthz")).status_code for _ in range(6)]
    assert statuses == [200] * 5 + [429]
    assert guesses == [401] * 5 + [429]
    assert same_key.status_code == 429
    assert "of this key" in same_key.json()["detail"]
    assert 1 <= int(same_key.headers["retry-after"]) <= 60
    assert health == [200] * 6


def counted(proxies: int, *forwarded: str) -> str:
    """Return what a request from 192.0.2.1 with these lines of X-Forwarded-For is counted as."""
    headers = [(b"x-forwarded-for", line.encode()) for line in forwarded]
    return client_address(Request({"type": "http", "headers": headers, "client": ("192.0.2.1", 40000)}), proxies)


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (0, ["203.0.113.9"], "192.0.2.1"),
        (1, [], "192.0.2.1"),
        (1, ["203.0.113.9"], "203.0.113.9"),
        (1, ["10.9.9.9, 203.0.113.9"], "203.0.113.9"),
        (1, ["10.9.9.9", "203.0.113.9"], "203.0.113.9"),
        (2, ["10.9.9.9, 203.0.113.9, 198.51.100.1"], "203.0.113.9"),
        (2, ["198.51.100.1"], "198.51.100.1"),
        (2, ["10.9.9.9, 203.0.113.9:40001, 198.51.100.1:80"], "203.0.113.9"),
        # An empty entry is a proxy's word too: were it left out, the client's own words would take its place.
        (1, ["10.9.9.9, "], "unknown, by 192.0.2.1"),
        (2, ["10.9.9.9, , 198.51.100.1"], "unknown, by 198.51.100.1"),
        (2, ["10.9.9.9, unknown, 198.51.100.1:80"], "unknown, by 198.51.100.1"),
        (2, ["10.9.9.9, unknown, unknown"], "unknown, by 192.0.2.1"),
    ],
)
def test_the_address_is_what_the_trusted_proxies_saw(proxies: int, forwarded: list[str], address: str) -> None:
    assert counted(proxies, *forwarded) == address


#: how gateways write one address, and what it is counted as
WRITTEN = {
    "203.0.113.9:40001": "203.0.113.9",
    '"203.0.113.9:40001"': "203.0.113.9",
    "[203.0.113.9]:40001": "203.0.113.9",
    "203.0.113.9:": "203.0.113.9",
    "203.0.113.9.": "203.0.113.9",
    "::ffff:203.0.113.9": "203.0.113.9",
    "::FFFF:203.0.113.9": "203.0.113.9",
    "::ffff:203.0.113.9:40001": "203.0.113.9",
    "[::ffff:cb00:7109]:40001": "203.0.113.9",
    "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::",
    "2001:DB8:1:2:3:4:5:6": "2001:db8:1:2::",
    "[2001:db8:1:2::6]": "2001:db8:1:2::",
    "[2001:db8:1:2::6]:40001": "2001:db8:1:2::",
    '"[2001:db8:1:2::6]:40001"': "2001:db8:1:2::",
    "2001:db8:1:2:3:4:5:6:40001": "2001:db8:1:2::",
    "2001:db8:1:2::6:40001": "2001:db8:1:2::",  # what of it is the port cannot be told, and need not
    "2001:db8:1:2::6%eth0": "2001:db8:1:2::",
    # All that are on one link have fe80::/64.
    "fe80::1%eth0": "fe80::1",
    "[fe80::1%25eth0]:40001": "fe80::1",
}
UNKNOWN = (
    "unknown", "Unknown:40001", "_hidden", "_SEVKISEK:40001", "unix:", "client.example", "client.example:40001",
    ":40001", "[]:40001", "[", '"', "-", "203.0.113", "203.0.113.256", "203.0.113.9/32",
    "203.0.113.9:40001:1", "1" * 50_000, "[" * 50_000, ":" * 50_000, "٢٠٣.0.113.9",
)  # fmt: skip


@pytest.mark.parametrize(("entry", "address"), WRITTEN.items())
def test_an_address_is_understood_as_gateways_write_it(entry: str, address: str) -> None:
    assert counted(1, f"10.9.9.9, {entry}") == address


@pytest.mark.parametrize("entry", UNKNOWN, ids=lambda entry: entry[:20])
def test_clients_that_a_proxy_does_not_name_share_no_limit_with_others(entry: str) -> None:
    assert counted(1, f"10.9.9.9, {entry}") == "unknown, by 192.0.2.1"


async def test_behind_a_gateway_that_writes_ports_each_client_has_its_rate(database_url: str) -> None:
    async with api(database_url, rate_limit_per_minute=3, trust_proxy_hops=1) as client:
        statuses = [
            (await client.get("/qr", headers={"x-forwarded-for": f"10.0.0.{port}, {address}:{port}"})).status_code
            for address in ("198.51.100.7", "[2001:db8::1]", "198.51.100.8", "unknown")
            for port in range(4)
        ]
    assert statuses == [401, 401, 401, 429] * 4


def test_a_peer_on_a_socket_has_no_address() -> None:
    assert client_address(Request({"type": "http", "headers": [], "client": None}), 0) == "local"
