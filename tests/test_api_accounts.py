import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest
from fixtures_api import api, new_account, production, rows
from fixtures_lanes import AS, add_worker

from api.accounts import accounts
from sql.database import Database

LANE = "select open_at::text, gate_reason, attend_at <= now() from lanes"
WAKEUPS = "select lock from procrastinate_jobs where status = 'todo'"


@pytest.fixture
async def client(database: Database, database_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    await add_worker(database)
    async with api(database_url) as client:
        yield client


async def test_a_new_account_waits_to_be_connected(client: httpx2.AsyncClient, database: Database) -> None:
    answer = await client.post("/accounts", json={"name": "Shop", "transport": "sandbox"})
    account = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/accounts/{account['id']}"
    assert set(account) == {
        "id", "name", "transport", "state", "stateReason", "stateSince", "restriction", "restrictedUntil", "paused",
        "phone", "profileName", "platform", "connectedAt", "disconnectedAt", "lastOpenAt", "sentToday", "receivedToday",
        "dailyLimit", "queued", "nextSendAt", "worker", "health", "timeZone", "pace", "proxy", "linked",
    }  # fmt: skip
    assert (account["name"], account["transport"], account["state"]) == ("Shop", "sandbox", "not_started")
    assert (account["health"], account["queued"], account["dailyLimit"]) == ("healthy", 0, None)
    assert await rows(database, LANE) == [("infinity", "not_connected", None)]
    assert (await client.get(f"/accounts/{account['id']}")).json() == account
    assert (await client.get("/accounts/acc_none")).status_code == 404


async def test_a_bad_account_is_refused(client: httpx2.AsyncClient, database: Database) -> None:
    for body, field in (
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "  "}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": "Shop", "transport": "sms"}, "transport"),
        ({"name": "Shop", "state": "ready"}, "state"),
    ):
        answer = await client.post("/accounts", json=body)
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)
    assert await rows(database, "select from accounts") == await rows(database, "select from lanes") == []


async def test_an_org_has_no_more_accounts_than_it_may(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "MOST", 2)
    first = await new_account(client)
    await new_account(client)
    refused = await client.post("/accounts", json={"name": "Shop"})
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert refused.json()["detail"] == "There are 2 accounts already, and there may be 2: delete one first."
    assert (await client.delete(f"/accounts/{first}")).status_code == 202
    assert (await client.post("/accounts", json={"name": "Shop"})).status_code == 201


async def test_production_has_no_sandbox(database_url: str) -> None:
    async with api(database_url, **production(database_url)) as client:
        refused = await client.post("/accounts", json={"name": "Shop", "transport": "sandbox"})
        accepted = await client.post("/accounts", json={"name": "Shop"})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "transport")
    assert (accepted.status_code, accepted.json()["transport"]) == (201, "web")


async def test_wishes_are_written_down_and_the_lane_is_woken(client: httpx2.AsyncClient, database: Database) -> None:
    account = await new_account(client)
    opened, shut, paused = ("-infinity", None), ("infinity", "not_connected"), ("infinity", "paused")
    for wish, wanted, gate in [
        ("connect", "connected", opened),
        ("pause", "connected", paused),
        ("connect", "connected", paused),
        ("resume", "connected", opened),
        ("logout", "logged_out", shut),
        ("connect", "connected", opened),
        ("disconnect", "disconnected", shut),
        ("pause", "disconnected", shut),
        ("resume", "disconnected", shut),
    ]:
        await rows(database, "update lanes set attend_at = null returning id")
        await rows(database, "update procrastinate_jobs set status = 'succeeded' returning id")
        answer = await client.post(f"/accounts/{account}/{wish}")
        assert (answer.status_code, answer.json()["id"]) == (202, account)
        assert await rows(database, "select wanted from accounts") == [(wanted,)]
        # A pause wants nothing of the session.
        assert await rows(database, LANE) == [(*gate, None if wish == "pause" else True)]
        assert await rows(database, WAKEUPS) == ([] if wish == "pause" else [(account,)])
    assert (await client.post("/accounts/acc_none/connect")).status_code == 404
    assert (await client.post(f"/accounts/{account}/connect", json={"now": True})).status_code == 422


async def test_a_quarantine_outlives_a_pause_and_ends_with_resume(
    client: httpx2.AsyncClient, database: Database
) -> None:
    account = await new_account(client)
    await client.post(f"/accounts/{account}/connect")
    await rows(database, "update lanes set open_at = 'infinity', gate_reason = 'banned' returning id")
    await rows(database, "update accounts set state = 'banned', failures_in_a_row = 5 returning id")
    await client.post(f"/accounts/{account}/pause")
    assert (await rows(database, LANE))[0][:2] == ("infinity", "banned")
    await client.post(f"/accounts/{account}/resume")
    assert (await rows(database, LANE))[0][:2] == ("-infinity", None)
    assert await rows(database, "select paused, failures_in_a_row from accounts") == [(False, 0)]


async def test_health_is_about_what_is_wanted(client: httpx2.AsyncClient, database: Database) -> None:
    account = await new_account(client)
    for wanted, state, health in (
        ("disconnected", "disconnected", "healthy"),
        ("connected", "ready", "healthy"),
        ("connected", "hibernated", "healthy"),
        ("connected", "qr_pending", "warning"),
        ("connected", "starting", "warning"),
        ("connected", "disconnected", "critical"),
        ("connected", "banned", "critical"),
        ("connected", "circuit_open", "critical"),
    ):
        async with database.transaction() as tx:
            await tx.connection.execute("update accounts set wanted = %s, state = %s", [wanted, state])
        assert (await client.get(f"/accounts/{account}")).json()["health"] == health


async def test_an_account_says_that_resuming_brings_back_a_login_that_is_kept(
    client: httpx2.AsyncClient, database: Database
) -> None:
    account = await new_account(client)
    path = f"/accounts/{account}"
    await rows(
        database,
        "update accounts set state = 'auth_failed', state_reason = 'It was logged out.', phone = '1555' returning id",
    )
    await client.post(f"{path}/connect")
    assert (await client.get(path)).json()["stateReason"] == "It was logged out."
    await rows(
        database,
        "insert into profiles (account_id, org_id, generation, whole, sealed, raw_bytes, worker, kept_since) "
        "select id, org_id, 1, false, 'x', 1, 'wrk_1', now() from accounts returning account_id",
    )
    kept = "Its last login is kept: resume goes back to it, connect links a phone anew."
    assert (await client.get(path)).json()["stateReason"] == f"It was logged out. {kept}"
    [reason] = (await client.get(f"{path}/health")).json()["reasons"]
    assert reason["detail"] == f"The account should be connected and is auth_failed. {kept}"

    # A phone has taken a new code, and a worker loads its history.
    await rows(database, "update accounts set linked = true, lease_until = now() + interval '9 s' returning id")
    assert (await client.get(path)).json()["stateReason"] == "It was logged out."
    await client.post(f"{path}/resume")
    assert await rows(database, "select kept_since is not null from profiles") == [(True,)]
    await rows(
        database, "update accounts set linked = false, wanted = 'disconnected', state_reason = null returning id"
    )
    assert (await client.get(path)).json()["stateReason"] == kept
    resumed = (await client.post(f"{path}/resume")).json()
    assert (resumed["linked"], resumed["stateReason"]) == (True, None)
    assert (await rows(database, LANE))[0][:2] == ("-infinity", None)


async def test_what_waits_and_what_went_is_counted(client: httpx2.AsyncClient, database: Database) -> None:
    account = await new_account(client)
    jobs = [{"phone": "15551230001", "message": f"{n}", "idempotencyKey": f"k{n}"} for n in range(4)]
    await client.post("/send/batch", json={"jobs": jobs})
    await rows(database, f"update jobs set {AS['read']} where key = 'k0' returning id")
    await rows(
        database,
        "update jobs set state = 'sent', sent_at = now() - interval '1 day', ended_at = now() where key = 'k1'"
        " returning id",
    )
    await rows(database, "update accounts set leased_by = 'wrk_1', lease_until = now() + interval '9 s' returning id")
    shown = (await client.get(f"/accounts/{account}")).json()
    assert (shown["queued"], shown["sentToday"], shown["nextSendAt"], shown["worker"]) == (2, 1, None, "wrk_1")
    await rows(database, "update lanes set open_at = '-infinity' returning id")
    await rows(database, "update accounts set lease_until = now() returning id")
    shown = (await client.get(f"/accounts/{account}")).json()
    assert shown["nextSendAt"] == (await client.get("/jobs/k2")).json()["sendAt"]
    assert shown["worker"] is None
    await rows(database, "update lanes set open_at = '2999-01-01T00:00:00Z' returning id")
    assert (await client.get(f"/accounts/{account}")).json()["nextSendAt"] == "2999-01-01T00:00:00.000Z"


async def test_accounts_are_listed_by_pages_oldest_first(client: httpx2.AsyncClient) -> None:
    accounts = [await new_account(client, str(number)) for number in range(3)]
    first = (await client.get("/accounts?limit=2")).json()
    second = (await client.get(f"/accounts?limit=2&cursor={first['nextCursor']}")).json()
    assert [account["id"] for account in first["items"] + second["items"]] == accounts
    assert second["nextCursor"] is None


# --- deletion ----------------------------------------------------------------------------------------------------


async def test_a_deleted_account_is_gone_at_once_and_logged_out_later(
    client: httpx2.AsyncClient, database: Database
) -> None:
    endpoint = (await client.post("/webhooks", json={"url": "http://receiver.test/"})).json()["id"]
    kept, account = [await new_account(client, name) for name in ("kept", "deleted")]
    await client.post(f"/accounts/{account}/connect")
    for sender in (kept, account):
        jobs = [{"phone": "15551230001", "message": f"{sender} {n}", "account": sender} for n in range(3)]
        await client.post("/send/batch", json={"jobs": jobs})
    await rows(database, f"update jobs set {AS['sent']} where message like '%deleted 0' or seq = 4 returning id")
    await rows(database, "update procrastinate_jobs set status = 'succeeded' returning id")
    answer = await client.delete(f"/accounts/{account}")
    assert (answer.status_code, answer.json()["id"], answer.json()["queued"]) == (202, account, 0)
    states = await rows(database, "select state, count(*) from jobs group by account_id, state order by 1, 2")
    assert states == [("cancelled", 2), ("queued", 3), ("sent", 1)]
    assert await rows(database, "select count(*) from outbox where type = 'JobCancelled'") == [(2,)]
    assert await rows(database, WAKEUPS + " order by lock") == [(account,), (endpoint,)]
    gone = await rows(database, "select id, wanted from accounts where deleted_at is not null")
    assert gone == [(account, "logged_out")]
    assert await rows(database, f"{LANE} where id = '{account}'") == [("infinity", "not_connected", True)]
    assert [item["id"] for item in (await client.get("/accounts")).json()["items"]] == [kept]
    order = {"phone": "15551230001", "message": "late", "account": account}
    assert (await client.post("/send", json=order)).status_code == 404
    for method, path in (
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("POST", "/connect"),
        ("GET", "/qr"),
        ("POST", "/logout"),
    ):
        assert (await client.request(method, f"/accounts/{account}{path}", json=None)).status_code == 404, path
    # What is sent without a name goes to the one that is left.
    assert (await client.post("/send", json={"phone": "15551230001", "message": "late"})).status_code == 202


async def test_an_interrupted_deletion_can_be_asked_for_again(client: httpx2.AsyncClient, database: Database) -> None:
    account = await new_account(client)
    await client.post("/send/batch", json={"jobs": [{"phone": "15551230001", "message": f"{n}"} for n in range(3)]})
    async with database.transaction() as tx:
        # As the API leaves it that dies after the first step.
        await tx.one("log_out_account", account=account, org="org_default")
    statuses = await asyncio.gather(*(client.delete(f"/accounts/{account}") for _ in range(4)))
    assert sorted({answer.status_code for answer in statuses}) in ([202], [202, 404])
    assert await rows(database, "select count(*) from outbox where type = 'JobCancelled'") == [(3,)]


# --- QR ----------------------------------------------------------------------------------------------------------


PENDING = (
    "update accounts set state = 'qr_pending', qr = '2@abc,def', qr_expires_at = now() + interval '20 s' returning id"
)


async def test_the_code_comes_in_the_form_that_is_asked_for(client: httpx2.AsyncClient, database: Database) -> None:
    path = f"/accounts/{await new_account(client)}/qr"
    await rows(database, PENDING)
    for accept, kind, begins in (
        ("*/*", "application/json", b'{"qr":"2@abc,def","expiresAt":"20'),
        ("application/json", "application/json", b"{"),
        ("image/png", "image/png", b"\x89PNG\r\n"),
        ("image/*", "image/png", b"\x89PNG\r\n"),
        ("image/svg+xml", "image/svg+xml", b"<?xml"),
        ("image/png;q=0.5, image/svg+xml", "image/svg+xml", b"<?xml"),
        ("text/html, text/plain;q=0.9, */*;q=0.1", "text/plain; charset=utf-8", "█".encode()),
        ("image/png;q=0, text/plain;q=x", "application/json", b"{"),
        ("text/html", "application/json", b"{"),
    ):
        answer = await client.get(path, headers={"accept": accept})
        assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
        assert answer.content.lstrip().startswith(begins)
        assert answer.headers["vary"] == "accept"


async def test_there_is_no_code_when_none_is_pending(client: httpx2.AsyncClient, database: Database) -> None:
    path = f"/accounts/{await new_account(client)}/qr"
    await rows(database, PENDING)
    await rows(database, "update accounts set qr_expires_at = now() returning id")
    expired = await client.get(path)
    await rows(database, "update accounts set state = 'ready' returning id")
    linked = await client.get(path)
    await rows(database, "update accounts set state = 'qr_pending', qr = null returning id")
    not_yet = await client.get(path)
    assert (expired.status_code, expired.json()["code"]) == (410, "gone")
    assert (linked.status_code, "ready" in linked.json()["detail"]) == (409, True)
    assert not_yet.status_code == 409
    assert (await client.get("/accounts/acc_none/qr")).status_code == 404
