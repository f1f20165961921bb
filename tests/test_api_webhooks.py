from collections.abc import AsyncIterator

import httpx2
import pytest
from fixtures_api import ENCRYPTION_KEY, api, new_account, production, rows

from crypto import Sealer, decode_secret
from sql.database import Database

SEALER = Sealer.from_text(ENCRYPTION_KEY)
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
RECEIVER = "http://receiver.test/hook?x=1"


@pytest.fixture
async def client(database_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with api(database_url) as client:
        yield client


async def test_a_secret_is_shown_once_and_sealed_at_rest(client: httpx2.AsyncClient, database: Database) -> None:
    answer = await client.post("/webhooks", json={"url": RECEIVER, "description": "Orders"})
    endpoint = answer.json()
    secret = endpoint.pop("secret")
    assert answer.status_code == 201
    assert len(decode_secret(secret)) == 32
    assert set(endpoint) == {"id", "url", "events", "description", "status", "statusReason", "retry", "createdAt"}
    assert (endpoint["url"], endpoint["events"], endpoint["status"]) == (RECEIVER, ["*"], "enabled")
    assert endpoint["retry"] == {"attempts": 12, "baseSeconds": 5, "factor": 3, "capSeconds": 43200}
    assert (await client.get(answer.headers["location"])).json() == endpoint
    assert (await client.get("/webhooks")).json() == {"items": [endpoint], "nextCursor": None}
    [(sealed,)] = await rows(database, "select secret from endpoints")
    assert secret.encode() not in sealed
    assert SEALER.open(sealed, endpoint["id"].encode()).decode() == secret
    lanes = "select kind, queue, open_at <= now() from lanes"
    assert await rows(database, lanes) == [("endpoint", "endpoint", True)]


async def test_what_is_set_is_kept(client: httpx2.AsyncClient, database: Database) -> None:
    given = {
        "url": RECEIVER,
        "events": ["JobCompleted", "JobFailed"],
        "headers": {"authorization": "Bearer x", "X-Team": ""},
        "retry": {"attempts": 4, "baseSeconds": 2, "factor": 2},
    }
    shown = (await client.post("/webhooks", json=given)).json()
    assert shown["events"] == given["events"]
    assert shown["retry"] == {"attempts": 4, "baseSeconds": 2, "factor": 2, "capSeconds": 43200}
    stored = "select headers, retry from endpoints"
    assert await rows(database, stored) == [(given["headers"], {"attempts": 4, "baseSeconds": 2, "factor": 2})]


async def test_a_bad_endpoint_is_refused(client: httpx2.AsyncClient, database: Database) -> None:
    urls: list[object] = [
        "", "receiver", "//receiver.test/", "ftp://receiver.test/", "javascript:alert(1)", "http://", "http:///path",
        "http://user@receiver.test/", "http://:secret@receiver.test/", "http://receiver.test/#part",
        "http://receiver.test:99999/", "http://receiver.test:x/", "http://receiver.test/ x", "http://réceiver.test/",
        "http://[::1/", "http://receiver.test/\n", "http://receiver.test/" + "x" * 2048, 5, None,
    ]  # fmt: skip
    for url in urls:
        answer = await client.post("/webhooks", json={"url": url})
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "url"), url
    for field, value in (
        ("events", []),
        ("events", ["*", "JobFailed"]),
        ("events", ["JobFailed", "JobFailed"]),
        ("events.0", ["JobLost"]),
        ("events", "*"),
        ("headers", {"Host": "x"}),
        ("headers", {"webhook-id": "x"}),
        ("headers", {"Content-Type": "text/plain"}),
        ("headers", {"a b": "x"}),
        ("headers", {"a": "x\r\nb: y"}),
        ("headers.a", {"a": 1}),
        ("headers", {f"x-{number}": "" for number in range(21)}),
        ("retry.attempts", {"attempts": 0}),
        ("retry.baseSeconds", {"baseSeconds": 0}),
        ("retry.factor", {"factor": 0.5}),
        ("retry.cap", {"cap": 1}),
        ("secret", SECRET),
    ):
        answer = await client.post("/webhooks", json={"url": RECEIVER, field.partition(".")[0]: value})
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field), (field, value)
    assert await rows(database, "select from lanes") == []


async def test_production_wants_https(database_url: str) -> None:
    async with api(database_url, **production(database_url)) as client:
        refused = await client.post("/webhooks", json={"url": RECEIVER})
        accepted = await client.post("/webhooks", json={"url": RECEIVER.replace("http:", "HTTPS:")})
    assert (refused.status_code, "https in production" in refused.json()["detail"]) == (422, True)
    assert accepted.status_code == 201


async def test_a_deleted_endpoint_gets_nothing_more(client: httpx2.AsyncClient, database: Database) -> None:
    account = await new_account(client)
    endpoint = (await client.post("/webhooks", json={"url": RECEIVER})).json()["id"]
    for key in ("before", "after"):
        order = {"phone": "15551230001", "message": "x", "idempotencyKey": key, "account": account}
        await client.post("/send", json=order)
    await client.delete("/jobs/before")
    assert await rows(database, "select state from deliveries") == [("pending",)]
    assert (await client.delete(f"/webhooks/{endpoint}")).status_code == 204
    await client.delete("/jobs/after")
    assert await rows(database, "select state, last_error, ended_at <= now() from deliveries") == [
        ("failed", "The endpoint was deleted.", True)
    ]
    assert len(await rows(database, "select from outbox")) == 2
    for answer in (await client.get(f"/webhooks/{endpoint}"), await client.delete(f"/webhooks/{endpoint}")):
        assert answer.status_code == 404
    assert (await client.get("/webhooks")).json()["items"] == []


async def test_the_endpoint_of_the_settings_follows_the_settings(database_url: str, database: Database) -> None:
    kept = "select url, status, deleted_at is not null from endpoints where id = 'whe_bootstrap'"
    async with api(database_url, webhook_url=RECEIVER, webhook_secret=SECRET) as client:
        [endpoint] = (await client.get("/webhooks")).json()["items"]
    [(sealed,)] = await rows(database, "select secret from endpoints")
    assert (endpoint["id"], endpoint["url"], endpoint["events"]) == ("whe_bootstrap", RECEIVER, ["*"])
    assert SEALER.open(sealed, b"whe_bootstrap").decode() == SECRET
    await rows(database, "update endpoints set status = 'disabled' returning id")
    async with api(database_url, webhook_url=RECEIVER, webhook_secret=SECRET):
        assert await rows(database, kept) == [(RECEIVER, "disabled", False)]
    async with api(database_url):
        assert await rows(database, kept) == [(RECEIVER, "disabled", True)]
    async with api(database_url, webhook_url="http://other.test/", webhook_secret=SECRET):
        assert await rows(database, kept) == [("http://other.test/", "enabled", False)]
