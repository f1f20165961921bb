import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest
from fixtures_api import ENCRYPTION_KEY, api, new_account, production, rows

from api.webhooks import endpoints
from api.webhooks.custom_headers import opened
from crypto import Sealer, decode_secret
from sql.database import Database

SEALER = Sealer.from_text(ENCRYPTION_KEY)
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
RECEIVER = "http://receiver.test/hook?x=1"


@pytest.fixture
async def client(database_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with api(database_url) as client:
        yield client


async def stored(database: Database) -> list[tuple[dict[str, str], dict[str, float]]]:
    """Return the extra headers and the retry policy of each endpoint, opened."""
    found = await rows(database, "select id, headers, retry from endpoints")
    assert not any(text and not text.startswith("sealed:") for _, headers, _ in found for text in headers.values())
    return [(opened(SEALER, endpoint, headers), retry) for endpoint, headers, retry in found]


async def test_a_secret_is_shown_once_and_sealed_at_rest(client: httpx2.AsyncClient, database: Database) -> None:
    answer = await client.post("/webhooks", json={"url": RECEIVER, "description": "Orders"})
    endpoint = answer.json()
    secret = endpoint.pop("secret")
    assert answer.status_code == 201
    assert len(decode_secret(secret)) == 32
    assert set(endpoint) == {
        "id", "url", "events", "description", "status", "statusReason", "signature", "publicKey", "oldSecretsUntil",
        "headerNames", "retry", "perSecond", "createdAt",
    }  # fmt: skip
    assert (endpoint["url"], endpoint["events"], endpoint["status"]) == (RECEIVER, ["*"], "enabled")
    assert (endpoint["signature"], endpoint["publicKey"], endpoint["oldSecretsUntil"]) == ("v1", None, None)
    assert endpoint["retry"] == {"attempts": 12, "baseSeconds": 5, "factor": 3, "capSeconds": 43200}
    assert (await client.get(answer.headers["location"])).json() == endpoint
    assert (await client.get("/webhooks")).json() == {"items": [endpoint], "nextCursor": None}
    [(sealed,)] = await rows(database, "select secret from endpoints")
    assert secret.encode() not in sealed
    assert SEALER.open(sealed, endpoint["id"].encode()).decode() == secret
    lanes = "select kind, queue, open_at <= now() from lanes"
    assert await rows(database, lanes) == [("endpoint", "endpoint-slow", True)]


async def test_what_is_set_is_kept(client: httpx2.AsyncClient, database: Database) -> None:
    given = {
        "url": RECEIVER,
        "events": ["JobCompleted", "JobFailed"],
        "headers": {"authorization": "Bearer x", "X-Team": ""},
        "retry": {"attempts": 4, "baseSeconds": 2, "factor": 2},
        "perSecond": 0.1,
    }
    shown = (await client.post("/webhooks", json=given)).json()
    assert shown["events"] == given["events"]
    assert shown["headerNames"] == ["X-Team", "authorization"]
    assert shown["retry"] == {"attempts": 4, "baseSeconds": 2, "factor": 2, "capSeconds": 43200}
    assert shown["perSecond"] == 0.1
    for changes, rate in (({"perSecond": 5}, 5), ({"description": "x"}, 5), ({"perSecond": None}, None)):
        changed = await client.patch(f"/webhooks/{shown['id']}", json=changes)
        assert changed.json()["perSecond"] == rate
    assert await stored(database) == [(given["headers"], {"attempts": 4, "baseSeconds": 2, "factor": 2})]


async def test_a_bad_endpoint_is_refused(client: httpx2.AsyncClient, database: Database) -> None:
    urls: list[object] = [
        "", "receiver", "//receiver.test/", "ftp://receiver.test/", "javascript:alert(1)", "http://", "http:///path",
        "http://user@receiver.test/", "http://:secret@receiver.test/", "http://receiver.test/#part",
        "http://receiver.test:99999/", "http://receiver.test:x/", "http://receiver.test/ x", "http://réceiver.test/",
        "http\u017f://receiver.test/", "http://a[b/", "http://receiver\u212a.test/",
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
        ("headers.a", {"a": 1}),
        ("headers.a", {"a": None}),
        ("headers", None),
        ("retry", None),
        ("description", None),
        ("description", "x" * 501),
        ("signature", "v2"),
        ("signature", None),
        ("status", "paused"),
        ("retry.attempts", {"attempts": 0}),
        ("retry.baseSeconds", {"baseSeconds": 0}),
        ("retry.factor", {"factor": 0.5}),
        ("retry.cap", {"cap": 1}),
        ("perSecond", 0),
        ("perSecond", 1001),
        ("secret", SECRET),
    ):
        answer = await client.post("/webhooks", json={"url": RECEIVER, field.partition(".")[0]: value})
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field), (field, value)
    assert await rows(database, "select from lanes") == []


HEADERS: list[tuple[dict[str, str], str | None]] = [
    ({"Authorization": "Bearer " + "x" * 2000, "X-Api-Key": "k", "x-empty": "", "accept": "*/*"}, None),
    ({f"x-{number}": "" for number in range(20)}, None),
    ({f"x-{number}": "" for number in range(21)}, "may have 20 headers and has 21"),
    ({"x" * 100: "y" * 4096, "z": "y" * 3995}, None),
    ({"x" * 100: "y" * 4096, "z": "y" * 3996}, "may have 8,192 bytes in all and has 8,193"),
    ({"a": "y" * 4097}, "4,096 printable ASCII"),
    ({"x" * 101: ""}, "1 to 100 of"),
    ({"": "x"}, "1 to 100 of"),
    ({"a b": "x"}, "1 to 100 of"),
    ({"a:": "x"}, "1 to 100 of"),
    ({"ä": "x"}, "1 to 100 of"),
    ({"a": "x\r\nb: y"}, "printable ASCII"),
    ({"a": "\t"}, "printable ASCII"),
    ({"a": "é"}, "printable ASCII"),
    ({"a": " x"}, "no space before or after"),
    ({"a": "x "}, "no space before or after"),
    ({"X-Team": "a", "x-team": "b"}, "each header once"),
    *(
        ({name: "x"}, f'must not have the header "{name}"')
        for name in (
            "Host", "webhook-id", "Webhook-Signature", "Content-Type", "CONTENT-LENGTH", "cookie", "Cookie2",
            "Set-Cookie", "User-Agent", "Keep-Alive", "Proxy-Authorization", "te", "trailers", "Transfer-Encoding",
            "upgrade", "expect",
            "age", "cache-control", "clear-site-data", "expires", "pragma", "warning", "accept-encoding", "connection",
            "X-Amz-Date", "x-amzn-trace-id", "X-Goog-Iap", "x-google-x", "x-gfe-x", "x-azure-ref", "x-fd-healthprobe",
            "svix-id", "X-Svix-Id", "X-Forwarded-For", "X_Forwarded_For", "X_HTTP_Method_Override",
            "Transfer_Encoding", "Forwarded", "x-real-ip", "cf-connecting-ip",
            "x-http-method-override", "Metadata-Flavor", "Metadata", "X-aws-ec2-metadata-token-ttl-seconds",
            "x-postrider-x",
        )
    ),
]  # fmt: skip


async def test_headers_that_are_not_an_endpoints_to_choose_are_refused(client: httpx2.AsyncClient) -> None:
    for headers, fault in HEADERS:
        answer = await client.post("/webhooks", json={"url": RECEIVER, "headers": headers})
        if fault is None:
            assert (answer.status_code, answer.json()["headerNames"]) == (201, sorted(headers))
        else:
            [error] = answer.json()["errors"]
            assert (answer.status_code, error["field"]) == (422, "headers"), headers
            assert fault in error["message"]


async def test_production_wants_https(database_url: str) -> None:
    async with api(database_url, **production(database_url)) as client:
        accepted = await client.post("/webhooks", json={"url": RECEIVER.replace("http:", "HTTPS:")})
        assert accepted.status_code == 201
        for refused in (
            await client.post("/webhooks", json={"url": RECEIVER}),
            await client.patch(accepted.headers["location"], json={"url": RECEIVER}),
        ):
            assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "url")
            assert "https in production" in refused.json()["detail"]


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
    assert await rows(database, "select open_at = 'infinity' from lanes where kind = 'endpoint'") == [(True,)]


# --- change ------------------------------------------------------------------------------------------------------


async def test_what_is_given_is_changed_and_the_rest_stays(client: httpx2.AsyncClient, database: Database) -> None:
    first = {
        "url": RECEIVER, "events": ["JobFailed"], "description": "Orders",
        "headers": {"Authorization": "a", "X-B": "b"}, "retry": {"attempts": 4, "baseSeconds": 2},
    }  # fmt: skip
    created = (await client.post("/webhooks", json=first)).json()
    path = f"/webhooks/{created['id']}"
    same = created | {"secret": None}
    changes: list[tuple[dict[str, object], dict[str, object], tuple[object, object]]] = [
        ({}, {}, (first["headers"], first["retry"])),
        ({"url": "https://other.test/"}, {"url": "https://other.test/"}, (first["headers"], first["retry"])),
        (
            {"events": ["*"], "description": ""},
            {"events": ["*"], "description": ""},
            (first["headers"], first["retry"]),
        ),
        (
            {"headers": {"authorization": "c", "x-b": None, "x-none": None, "X-D": ""}},
            {"headerNames": ["X-D", "authorization"]},
            ({"authorization": "c", "X-D": ""}, first["retry"]),
        ),
        (
            {"retry": {"attempts": 5, "baseSeconds": None, "capSeconds": 60}},
            {"retry": {"attempts": 5, "baseSeconds": 5, "factor": 3, "capSeconds": 60}},
            ({"authorization": "c", "X-D": ""}, {"attempts": 5, "capSeconds": 60}),
        ),
        (
            {"headers": None, "retry": None},
            {"headerNames": [], "retry": {"attempts": 12, "baseSeconds": 5, "factor": 3, "capSeconds": 43200}},
            ({}, {}),
        ),
        ({"signature": "v1"}, {}, ({}, {})),
    ]
    [(sealed,)] = await rows(database, "select secret from endpoints")
    for given, otherwise, kept in changes:
        answer = await client.patch(path, json=given)
        same |= otherwise
        assert (answer.status_code, answer.json()) == (200, same), given
        assert (await client.get(path)).json() == {name: value for name, value in same.items() if name != "secret"}
        assert await stored(database) == [kept], given
    assert await rows(database, "select secret from endpoints") == [(sealed,)]


async def test_a_bad_change_names_its_field_and_changes_nothing(client: httpx2.AsyncClient, database: Database) -> None:
    headers = {f"x-{number}": "" for number in range(19)}
    path = (await client.post("/webhooks", json={"url": RECEIVER, "headers": headers})).headers["location"]
    whole = "select endpoints::text from endpoints"
    before = await rows(database, whole)
    for field, value in (
        ("url", None), ("url", "ftp://receiver.test/"), ("url", ""), ("events", None), ("events", []),
        ("description", None), ("description", 1), ("signature", None), ("signature", "v3"), ("headers", []),
        ("headers", {"cookie": None}), ("headers", {"y-1": "", "y-2": ""}), ("headers", {"a": "\n"}),
        ("headers", {"a": "x" * 4096, "x-0": "x" * 4090}),
        ("retry.attempts", {"attempts": 0}), ("retry.attempts", {"attempts": "5"}), ("retry.none", {"none": None}),
        ("status", "enabled"), ("secret", SECRET), ("id", "whe_1"), ("statusReason", None), ("createdAt", None),
    ):  # fmt: skip
        answer = await client.patch(path, json={"url": "http://other.test/", field.partition(".")[0]: value})
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field), (field, value)
    assert (await client.patch(path, content=b"[]", headers={"content-type": "application/json"})).status_code == 422
    assert (await client.patch("/webhooks/whe_none", json={})).status_code == 404
    assert await rows(database, whole) == before
    exchanged = await client.patch(path, json={"headers": {"y-1": "", "y-2": "", "X-0": None}})
    assert (exchanged.status_code, len(exchanged.json()["headerNames"])) == (200, 20), "20 in all, as it is in the end"


async def test_changes_that_meet_lose_nothing(client: httpx2.AsyncClient, database: Database) -> None:
    path = (await client.post("/webhooks", json={"url": RECEIVER})).headers["location"]
    answers = await asyncio.gather(*(client.patch(path, json={"headers": {f"x-{n}": "y"}}) for n in range(10)))
    assert {answer.status_code for answer in answers} == {200}
    [(headers,)] = await rows(database, "select headers from endpoints")
    assert set(headers) == {f"x-{n}" for n in range(10)}


# --- the endpoint of the settings --------------------------------------------------------------------------------


async def test_what_the_settings_say_is_not_changed_by_http(database_url: str) -> None:
    path = "/webhooks/whe_bootstrap"
    async with api(database_url, webhook_url=RECEIVER, webhook_secret=SECRET) as client:
        refused = [
            await client.patch(path, json={"url": "http://other.test/"}),
            await client.patch(path, json={"signature": "v1a"}),
            await client.post(f"{path}/rotate-secret"),
        ]
        changed = await client.patch(path, json={"events": ["JobFailed"], "headers": {"x-a": "b"}})
    for answer, field in zip(refused, ("url", "signature", "secret"), strict=True):
        assert answer.status_code == 409
        assert answer.json()["detail"].startswith(f"{field} of whe_bootstrap cannot be changed here")
    assert changed.status_code == 200
    async with api(database_url, webhook_url=RECEIVER, webhook_secret=SECRET) as client:
        assert (await client.get(path)).json()["events"] == ["JobFailed"], "what the settings do not say stays"


async def test_the_endpoint_of_the_settings_follows_the_settings(database_url: str, database: Database) -> None:
    kept = """
        select url, status, deleted_at is not null, case when open_at <= now() then 'open' else gate_reason end
        from endpoints join lanes using (id)
    """
    async with api(database_url, webhook_url=RECEIVER, webhook_secret=SECRET) as client:
        [endpoint] = (await client.get("/webhooks")).json()["items"]
    [(sealed,)] = await rows(database, "select secret from endpoints")
    assert (endpoint["id"], endpoint["url"], endpoint["events"]) == ("whe_bootstrap", RECEIVER, ["*"])
    assert SEALER.open(sealed, b"whe_bootstrap").decode() == SECRET
    async with api(database_url, webhook_url=RECEIVER, webhook_secret=SECRET) as client:
        assert (await client.post("/webhooks/whe_bootstrap/disable")).status_code == 200
    async with api(database_url, webhook_url=RECEIVER, webhook_secret=SECRET):
        assert await rows(database, kept) == [(RECEIVER, "disabled", False, "disabled")]
    async with api(database_url):
        assert await rows(database, kept) == [(RECEIVER, "disabled", True, "deleted")]
    async with api(database_url, webhook_url="http://other.test/", webhook_secret=SECRET) as client:
        assert await rows(database, kept) == [("http://other.test/", "enabled", False, "open")]
        assert (await client.post("/webhooks/whe_bootstrap/pause")).status_code == 200
    async with api(database_url, webhook_url="http://other.test/", webhook_secret=SECRET):
        assert await rows(database, kept) == [("http://other.test/", "paused", False, "paused")]
    async with api(database_url):
        pass
    async with api(database_url, webhook_url=RECEIVER, webhook_secret=SECRET):
        assert await rows(database, kept) == [(RECEIVER, "enabled", False, "open")]


async def test_an_org_has_no_more_endpoints_than_it_may(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints, "MOST", 2)
    first = (await client.post("/webhooks", json={"url": RECEIVER})).json()["id"]
    assert (await client.post("/webhooks", json={"url": RECEIVER})).status_code == 201
    refused = await client.post("/webhooks", json={"url": RECEIVER})
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert (await client.delete(f"/webhooks/{first}")).status_code == 204
    assert (await client.post("/webhooks", json={"url": RECEIVER})).status_code == 201
