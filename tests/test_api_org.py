import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from fixtures_api import ADMIN_KEY, api, client_of, new_account, rows, running
from fixtures_lanes import add_jobs, add_lanes, value

from crypto import hash_key
from sql.database import Database

NOTHING: dict[str, Any] = {
    "id": "org_default",
    "name": "Default",
    "paused": False,
    "stopWords": {"add": [], "ignore": []},
    "optOutReply": None,
}


def shown(answer: httpx2.Response) -> dict[str, Any]:
    """Return the org without the time at which its database was made."""
    org: dict[str, Any] = answer.json()
    assert org.pop("createdAt").startswith("20")
    return org


@pytest.fixture
async def client(database_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with api(database_url) as client:
        yield client


async def test_an_org_begins_with_the_listed_words(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/org")
    assert (answer.status_code, shown(answer)) == (200, NOTHING)


async def test_what_is_given_changes_and_the_rest_stays(client: httpx2.AsyncClient) -> None:
    words: dict[str, list[str]] = {"add": [], "ignore": []}
    for change, after in (
        ({"stopWords": {"ignore": ["Cancel", "annulla"]}}, {"ignore": ["Cancel", "annulla"]}),
        ({"stopWords": {"add": ["leave  me be ", "静かにして"]}}, {"add": ["leave me be", "静かにして"]}),
        ({"stopWords": {}}, {}),
        ({}, {}),
        ({"stopWords": {"add": None}}, {"add": []}),
        ({"stopWords": {"add": ["shush"]}}, {"add": ["shush"]}),
        ({"stopWords": None}, {"add": [], "ignore": []}),
    ):
        words |= after
        answer = await client.patch("/org", json=change)
        assert (answer.status_code, shown(answer)) == (200, NOTHING | {"stopWords": words}), change
        assert (await client.get("/org")).json() == answer.json()


async def test_a_word_is_kept_once_as_it_was_written_first(client: httpx2.AsyncClient) -> None:
    words = {"add": ["quiet", "shush", "QUIET!", "quiet", "Leave  me be"], "ignore": ["Cancel", "cancel", "CANCEL!"]}
    answer = await client.patch("/org", json={"stopWords": words})
    assert answer.json()["stopWords"] == {"add": ["quiet", "shush", "Leave me be"], "ignore": ["Cancel"]}


async def test_a_word_moves_from_one_list_to_the_other_in_one_call(client: httpx2.AsyncClient) -> None:
    await client.patch("/org", json={"stopWords": {"ignore": ["cancel"]}})
    answer = await client.patch("/org", json={"stopWords": {"add": ["cancel"], "ignore": []}})
    assert answer.json()["stopWords"] == {"add": ["cancel"], "ignore": []}


BAD: list[tuple[object, str, str]] = [
    ("stop", "stopWords", 'must be an object, not "stop"'),
    ({"drop": []}, "stopWords.drop", "is not a known field"),
    ({"add": "stop"}, "stopWords.add", 'must be a valid list, not "stop"'),
    ({"add": ["x"] * 101}, "stopWords.add", "may have 100 words and has 101"),
    ({"ignore": ["stop"] * 101}, "stopWords.ignore", "may have 100 words and has 101"),
    ({"add": ["shush", 5]}, "stopWords.add.1", "not 5"),
    ({"add": ["x" * 61]}, "stopWords.add.0", f'may have 60 characters, and has 61: "{"x" * 59}…'),
    ({"add": [""]}, "stopWords.add.0", 'must have a letter or a digit in it, not ""'),
    ({"add": ["shush", " 🛑!\n"]}, "stopWords.add.1", 'must have a letter or a digit in it, not " 🛑!\\n"'),
    ({"ignore": ["…"]}, "stopWords.ignore.0", 'must have a letter or a digit in it, not "…"'),
    ({"add": ["shush", "be\x07quiet"]}, "stopWords.add.1", "must not have a control character in it, and has U+0007"),
    ({"ignore": ["can\x7fcel"]}, "stopWords.ignore.0", "must not have a control character in it, and has U+007F"),
    ({"add": ["Thank you"]}, "stopWords.add.0", 'must be more than courtesy, not "Thank you"'),
    ({"add": ["por favor, now!"]}, "stopWords.add.0", 'must be more than courtesy, not "por favor, now!"'),
    ({"ignore": ["cancl"]}, "stopWords.ignore.0", 'must be a listed stop word, not "cancl"'),
    ({"ignore": ["please"]}, "stopWords.ignore.0", 'must be a listed stop word, not "please"'),
    ({"ignore": ["cancel", "cancel please"]}, "stopWords.ignore.1", 'must be a listed stop word, not "cancel please"'),
    ({"ignore": ["huy"]}, "stopWords.ignore.0", 'must be a listed stop word, not "huy"'),
    ({"add": ["ok"]}, "stopWords.add.0", 'must be more than courtesy, not "ok"'),
    (
        {"add": ["CANCEL!"], "ignore": ["cancel"]},
        "stopWords.ignore",
        'must not have "cancel", which is in stopWords.add',
    ),
]


@pytest.mark.parametrize(("words", "field", "why"), BAD)
async def test_a_bad_word_is_named(client: httpx2.AsyncClient, words: object, field: str, why: str) -> None:
    answer = await client.patch("/org", json={"stopWords": words})
    assert answer.status_code == 422, answer.text
    [error] = answer.json()["errors"]
    assert error["field"] == field
    assert why in error["message"]
    assert shown(await client.get("/org")) == NOTHING


async def test_what_is_kept_counts_when_a_word_is_both_added_and_ignored(client: httpx2.AsyncClient) -> None:
    await client.patch("/org", json={"stopWords": {"ignore": ["Cancel"]}})
    answer = await client.patch("/org", json={"stopWords": {"add": ["cancel"]}})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "stopWords.ignore")
    assert (await client.get("/org")).json()["stopWords"] == {"add": [], "ignore": ["Cancel"]}


async def test_as_many_and_as_long_words_as_may_be_fit_into_a_request(client: httpx2.AsyncClient) -> None:
    words = [f"{number:03}" + "\U00020000" * 57 for number in range(100)]
    body = json.dumps({"stopWords": {"add": words, "ignore": ["cancel"] * 100}}, ensure_ascii=False)
    answer = await client.patch("/org", content=body.encode(), headers={"content-type": "application/json"})
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["stopWords"]["add"]) == 100


async def test_each_org_has_its_own(database_url: str, database: Database) -> None:
    async with running(database_url) as app, client_of(app) as client, client_of(app, x_api_key="other") as other:
        await rows(database, "insert into orgs (org_id, name) values ('org_other', 'Other') returning org_id")
        async with database.transaction() as tx:
            values = {"id": "key_o", "org": "org_other", "name": "", "hash": hash_key("other"), "signing_secret": None}
            await tx.all("create_key", **values)
        await other.patch("/org", json={"stopWords": {"add": ["shush"]}})
        assert shown(await client.get("/org")) == NOTHING
        theirs = {"id": "org_other", "name": "Other", "stopWords": {"add": ["shush"], "ignore": []}}
        assert shown(await other.get("/org")) == NOTHING | theirs


async def test_the_confirmation_is_set_kept_and_taken_away(client: httpx2.AsyncClient) -> None:
    reply = "You will get no more messages from us. 🙏"
    long = "不" * 999 + "🙏"
    for change, after in (
        ({"optOutReply": long}, long),
        ({"optOutReply": reply}, reply),
        ({"stopWords": {"add": []}}, reply),
        ({}, reply),
        ({"optOutReply": None}, None),
    ):
        answer = await client.patch("/org", json=change)
        assert (answer.status_code, shown(answer)) == (200, NOTHING | {"optOutReply": after}), change
        assert (await client.get("/org")).json() == answer.json()


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ("x" * 1001, "may have 1,000 characters and has 1,001"),
        ("不" * 30_000, "may have 1,000 characters and has 30,000"),
        ("x" * 65_536, "may have 1,000 characters and has 65,536"),
        (" \n", 'something to read in it, not " \\n"'),
        ("", 'not ""'),
        (5, "not 5"),
        (["bye"], "not a list"),
    ],
)
async def test_a_bad_confirmation_is_named(client: httpx2.AsyncClient, reply: object, why: str) -> None:
    answer = await client.patch("/org", json={"optOutReply": reply, "stopWords": {"add": ["shush"]}})
    assert answer.status_code == 422
    [error] = answer.json()["errors"]
    assert (error["field"], why in error["message"]) == ("optOutReply", True)
    assert shown(await client.get("/org")) == NOTHING


async def test_an_org_is_paused_and_resumed_and_the_operator_s_stop_is_another(database_url: str) -> None:
    async with running(database_url) as app, client_of(app, x_admin_key=ADMIN_KEY) as client:
        for path, paused in (
            ("/org/pause", True),
            ("/org/pause", True),
            ("/org/resume", False),
            ("/org/resume", False),
            ("/admin/pause", True),
            ("/org/resume", True),
            ("/org/pause", True),
            ("/admin/resume", True),
            ("/org/resume", False),
        ):
            assert (await client.post(path)).status_code == 200
            assert (await client.get("/org")).json()["paused"] == paused, path
            account = await new_account(client, path)
            health = (await client.get(f"/accounts/{account}/health")).json()
            assert (health["nextSendReason"] == "org_paused") == paused, path


async def test_a_paused_org_sends_nothing_and_goes_on_by_itself(database: Database, database_url: str) -> None:
    await add_lanes(database, "acc_1")
    await add_jobs(database, "acc_1", 1)
    due = "select lane_due(lanes) = 'infinity' from lanes"
    async with api(database_url) as client:
        assert await value(database, due) is False
        await client.post("/org/pause")
        assert await value(database, due) is True
        assert await value(database, "select count(*) from fenced_if_open('acc_1', 0)") == 0
        await rows(database, "delete from lane_marks returning lane_id")
        await client.post("/org/resume")
        assert await value(database, due) is False
        assert await value(database, "select count(*) from fenced_if_open('acc_1', 0)") == 1
        assert await value(database, "select lane_id from lane_marks where due_at <= now()") == "acc_1"
