"""Orgs, as the operator makes and lists them, over HTTP and by `postrider orgs`."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from fixtures_api import ADMIN_KEY, client_of, new_account, rows, running

from commands import environment, keys, orgs, why
from errors import OperatorError, SettingsWrong
from sql.database import Database


@pytest.fixture
async def admin(database_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with running(database_url) as app, client_of(app, x_admin_key=ADMIN_KEY) as client:
        yield client


async def test_an_org_is_made_with_a_key_that_sees_nothing_of_others(
    admin: httpx2.AsyncClient, database: Database
) -> None:
    await new_account(admin, "Shop")
    answer = await admin.post("/admin/orgs", json={"name": "Bakery"})
    made = answer.json()
    assert answer.status_code == 201
    assert made.keys() == {"id", "name", "key", "createdAt"}
    bakery = {"x-api-key": made["key"]}
    assert (await admin.get("/accounts", headers=bakery)).json()["items"] == []
    account = await admin.post("/accounts", json={"name": "Oven", "transport": "sandbox"}, headers=bakery)
    assert account.status_code == 201
    assert (await admin.get(f"/accounts/{account.json()['id']}")).status_code == 404
    shown = (await admin.get("/org", headers=bakery)).json()
    assert (shown["id"], shown["name"]) == (made["id"], "Bakery")
    kept = str(await rows(database, "select api_keys::text from api_keys"))
    assert made["key"] not in kept
    listed = (await admin.get("/admin/orgs")).json()["items"]
    assert [(org["id"], org["accounts"], org["keys"]) for org in listed] == [("org_default", 1, 1), (made["id"], 1, 1)]


async def test_orgs_are_listed_page_by_page(admin: httpx2.AsyncClient) -> None:
    made = [(await admin.post("/admin/orgs", json={"name": f"Org {number}"})).json()["id"] for number in range(5)]
    found, cursor = [], None
    while True:
        page = (await admin.get("/admin/orgs", params={"limit": 2, **({"cursor": cursor} if cursor else {})})).json()
        assert len(page["items"]) <= 2
        found += [org["id"] for org in page["items"]]
        cursor = page["nextCursor"]
        if cursor is None:
            break
    assert found == ["org_default", *made]


async def test_an_org_that_is_made_while_all_are_stopped_is_stopped_too(admin: httpx2.AsyncClient) -> None:
    await admin.post("/admin/pause")
    key = (await admin.post("/admin/orgs", json={"name": "Late"})).json()["key"]
    assert (await admin.get("/org", headers={"x-api-key": key})).json()["paused"] is True
    await admin.post("/admin/resume")
    assert (await admin.get("/org", headers={"x-api-key": key})).json()["paused"] is False


async def test_orgs_that_are_made_while_all_are_being_stopped_are_stopped(admin: httpx2.AsyncClient) -> None:
    for _ in range(5):
        made, _ = await asyncio.gather(admin.post("/admin/orgs", json={"name": "Now"}), admin.post("/admin/pause"))
        key = {"x-api-key": made.json()["key"]}
        assert (await admin.get("/org", headers=key)).json()["paused"] is True
        await admin.post("/admin/resume")


@pytest.mark.parametrize("body", [{}, {"name": ""}, {"name": " "}, {"name": 5}, {"name": "x" * 201}])
async def test_a_bad_name_is_refused_and_nothing_is_made(
    admin: httpx2.AsyncClient, database: Database, body: dict[str, object]
) -> None:
    answer = await admin.post("/admin/orgs", json=body)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "name")
    assert await rows(database, "select org_id from orgs") == [("org_default",)]


async def test_orgs_and_their_keys_are_made_by_commands(
    database: Database, database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of = environment.load(database_url=database_url, data_dir=tmp_path)
    assert await asyncio.to_thread(keys.create, of, "alone", signed=False) == 0
    assert await asyncio.to_thread(orgs.create, of, "Bakery") == 0
    said = capsys.readouterr().out
    (org,) = re.findall(r"^org +(org_\S+)$", said, re.MULTILINE)
    with pytest.raises(OperatorError, match="There are several orgs: name one with --org"):
        await asyncio.to_thread(keys.create, of, "whose", signed=False)
    with pytest.raises(OperatorError, match="There is no org org_none: see `postrider orgs list`"):
        await asyncio.to_thread(keys.create, of, "whose", signed=False, org="org_none")
    for wrong in ("", " ", "x" * 201):
        with pytest.raises(OperatorError, match=r"^name must"):
            await asyncio.to_thread(orgs.create, of, wrong)
    with pytest.raises(OperatorError, match="several orgs"):
        await asyncio.to_thread(why.run_why, of, "job_1")
    assert await asyncio.to_thread(keys.create, of, "another", signed=True, org=org) == 0
    assert await asyncio.to_thread(orgs.show, of) == 0
    listed = capsys.readouterr().out
    assert re.search(rf"{org} +Bakery .* 0 accounts +0 webhooks +2 keys", listed)
    assert re.search(r"org_default +Default .* 1 keys", listed)
    assert await asyncio.to_thread(keys.show, of) == 0
    assert re.search(rf"key_\S+ +{org} +another", capsys.readouterr().out)
    owners = await rows(database, "select org_id, count(*) from api_keys group by 1 order by 1")
    assert owners == sorted([("org_default", 1), (org, 2)])


@pytest.mark.parametrize("revoked", [False, True])
async def test_the_key_of_another_org_is_not_taken_for_api_key(
    admin: httpx2.AsyncClient, database: Database, database_url: str, revoked: bool
) -> None:
    """The key that `postrider orgs create` prints may well be put into the settings."""
    made = (await admin.post("/admin/orgs", json={"name": "Bakery"})).json()
    if revoked:
        await rows(database, "update api_keys set revoked_at = now() where name = 'first key' returning id")
    before = await rows(database, "select api_keys::text from api_keys order by 1")
    with pytest.raises(SettingsWrong, match=r"API_KEY is a key of another org.*set another API_KEY"):
        async with running(database_url, api_key=made["key"]):
            pass
    assert await rows(database, "select api_keys::text from api_keys order by 1") == before
