import json
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import httpx2
import pytest
from fixtures_api import ADMIN_KEY, api, client_of, new_account, production, rows, running

from app import OPERATIONS
from sql.database import Database

ADMIN = [operation for operation in OPERATIONS if operation.admin]
TOKEN = "/admin/generate-qr-token"


@pytest.fixture
async def admin(database_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with running(database_url) as app, client_of(app, x_admin_key=ADMIN_KEY) as client:
        yield client


# --- who may -----------------------------------------------------------------------------------------------------


async def test_only_the_admin_key_opens_admin_calls(database_url: str) -> None:
    assert {operation.path for operation in ADMIN} == {TOKEN, "/admin/pause", "/admin/resume", "/admin/orgs"}
    async with api(database_url) as client:
        for operation in ADMIN:
            for key in (b"", b"wrong", ADMIN_KEY.encode() + b" x", ADMIN_KEY.upper().encode(), b"\xff"):
                headers = {b"x-admin-key": key}
                answer = await client.request(operation.method, operation.path, headers=headers)
                assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
                assert "x-admin-key" in answer.json()["detail"]


async def test_without_an_admin_key_nobody_may(database_url: str) -> None:
    async with api(database_url, admin_key=None, **production(database_url)) as client:
        for operation in ADMIN:
            for key in ("", ADMIN_KEY):
                answer = await client.request(operation.method, operation.path, headers={"x-admin-key": key})
                assert answer.status_code == 403
                assert "ADMIN_KEY is not set" in answer.json()["detail"]


# --- stop and start ----------------------------------------------------------------------------------------------


async def test_all_sending_is_stopped_and_started(
    admin: httpx2.AsyncClient, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    await rows(database, "insert into orgs (org_id, name) values ('org_other', 'Other') returning org_id")
    first = await admin.post("/admin/pause", json={"reason": "a wave of complaints"})
    again = await admin.post("/admin/pause")
    assert (first.status_code, first.json()["paused"]) == (200, True)
    assert first.json() == again.json()
    stopped = await rows(database, 'select to_char(paused_at, \'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"\') from orgs')
    assert stopped == [(first.json()["since"],)] * 2
    for _ in range(2):
        answer = await admin.post("/admin/resume")
        assert (answer.status_code, answer.json()) == (200, {"paused": False, "since": None})
    assert await rows(database, "select paused_at from orgs") == [(None,)] * 2
    assert "all sending is stopped: a wave of complaints" in caplog.text
    assert [record.levelno for record in caplog.records if "all sending" in record.message] == [logging.WARNING] * 4


# --- tokens for the page /qr -------------------------------------------------------------------------------------


async def test_a_token_is_made_and_only_its_hash_is_kept(admin: httpx2.AsyncClient, database: Database) -> None:
    account = await new_account(admin)
    named = (await admin.post(TOKEN, json={"account": account})).json()
    alone = (await admin.post(TOKEN)).json()
    token = named["qrAccessToken"]
    assert named == {"qrAccessToken": token, "expiresInSeconds": 60, "url": f"/qr?token={token}"}
    assert len(token) >= 43
    assert alone["qrAccessToken"] != token
    kept = await rows(
        database, "select account_id, qr_tokens::text, extract(epoch from expires_at - now()) from qr_tokens"
    )
    assert [row[0] for row in kept] == [account] * 2
    assert all(50 < row[2] <= 60 for row in kept)
    assert token not in json.dumps([row[1] for row in kept])


async def test_which_account_must_be_clear(admin: httpx2.AsyncClient, database: Database) -> None:
    none = await admin.post(TOKEN)
    await rows(database, "insert into orgs (org_id, name) values ('org_other', 'Other') returning org_id")
    first, second = [await new_account(admin, name) for name in "ab"]
    two = await admin.post(TOKEN, json={})
    unknown = await admin.post(TOKEN, json={"account": "acc_none"})
    await admin.delete(f"/accounts/{second}")
    one = await admin.post(TOKEN)
    for answer, status, why in (
        (none, 422, "not exactly one account"),
        (two, 422, "not exactly one account"),
        (unknown, 404, '"acc_none"'),
    ):
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (status, "account")
        assert why in answer.json()["detail"]
    assert one.status_code == 200
    assert await rows(database, "select account_id from qr_tokens") == [(first,)]


async def test_an_address_gets_five_tokens_an_hour(database_url: str) -> None:
    async with AsyncExitStack() as stack:
        app = await stack.enter_async_context(running(database_url, trust_proxy_hops=1))
        near = await stack.enter_async_context(client_of(app, "192.0.2.1", x_admin_key=ADMIN_KEY))
        await new_account(near)
        wrong = [(await near.post(TOKEN, headers={"x-admin-key": "wrong"})).status_code for _ in range(6)]
        far = {"x-forwarded-for": "10.9.9.9, 203.0.113.9"}
        statuses = [(await near.post(TOKEN, headers=far)).status_code for _ in range(6)]
        refused = await near.post(TOKEN, headers={"x-forwarded-for": "10.1.1.1, 203.0.113.9"})
        other = await near.post(TOKEN, headers={"x-forwarded-for": "203.0.113.9, 198.51.100.7"})
        await near.post("/admin/pause", headers=far)
    assert wrong == [401] * 6
    assert statuses == [200] * 5 + [429]
    assert (refused.status_code, other.status_code) == (429, 200)
    assert "5 tokens an hour of this address" in refused.json()["detail"]
    assert 0 < int(refused.headers["retry-after"]) <= 3600, "the count of an hour goes down with the next one"


# --- bad input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        (TOKEN, {"account": 1}, "account"),
        (TOKEN, {"account": ["acc_1"]}, "account"),
        (TOKEN, {"accounts": "acc_1"}, "accounts"),
        ("/admin/pause", {"reason": ""}, "reason"),
        ("/admin/pause", {"reason": "x" * 501}, "reason"),
        ("/admin/pause", {"reason": 5}, "reason"),
        ("/admin/resume", {"why": "done"}, "why"),
    ],
)
async def test_a_bad_field_is_named(admin: httpx2.AsyncClient, path: str, body: dict[str, object], field: str) -> None:
    answer = await admin.post(path, json=body)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)


async def test_what_is_not_well_formed_is_refused(admin: httpx2.AsyncClient, database: Database) -> None:
    for operation in (each for each in ADMIN if each.method == "POST"):
        for body, status in ((b"{", 400), (b'{"reason": "\\u0000"}', 400), (b"[]", 422), (b'"x"', 422)):
            headers = {"content-type": "application/json"}
            answer = await admin.request(operation.method, operation.path, content=body, headers=headers)
            assert answer.status_code == status
        assert (await admin.request(operation.method, operation.path + "?now=1")).status_code == 422
        assert (await admin.put(operation.path)).status_code == 405
    assert await rows(database, "select paused_at from orgs") == [(None,)]
