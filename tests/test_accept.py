"""door.accept: each order of a statement has the outcome that it would have alone, whoever sends the others."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fixtures_api import client_of, new_account, rows, running, settings
from fixtures_history import run
from fixtures_lanes import value
from fixtures_webhooks import put_org

from api.sending.acceptance import Acceptance, Accepted, Answer, Order
from api.sending.send_request import SendRequest
from crypto import hash_key
from sql.database import Database
from sql.roles import Role
from tasks.upkeep import Upkeep
from wiring.api import make_acceptance

OURS, THEIRS = b"ours", b"theirs"
PHONE = "15551230001"


@pytest.fixture
async def acceptance(database_url: str, database: Database) -> AsyncIterator[Acceptance]:
    """Acceptance as the API has it, for two orgs that have a key and an account each."""
    await put_org(database, "org_other")
    for org, key, account in (("org_default", OURS, "acc_ours"), ("org_other", THEIRS, "acc_theirs")):
        await database.all("create_key", id=f"key_{org}", org=org, name="x", hash=key, signing_secret=None)
        await run(
            database, "insert into lanes (id, org_id, kind, queue) values (%s, %s, 'account', 'account')", account, org
        )
        await run(
            database, "insert into accounts (id, org_id, name, transport) values (%s, %s, 'x', 'sandbox')", account, org
        )
    async with Database(database_url, Role.API) as api:
        yield make_acceptance(settings(max_queued=3), api)


def order(key: bytes = OURS, signature: bytes | None = None, **fields: Any) -> Order:
    request = {"phone": PHONE, "message": "Hello", **fields}
    return Order(SendRequest.model_validate(request), key, "req_1", signature)


def told(answers: list[Answer]) -> list[str]:
    """Return what each client is told, in short."""
    return [
        ("again " if answer.replayed else "") + answer.job_id if isinstance(answer, Accepted) else answer.code
        for answer in answers
    ]


async def names(database: Database) -> tuple[list[str], list[str]]:
    """Return the jobs, and the jobs of all names, each sorted."""
    named = "select job_id from job_keys union all select job_id from recent_contents order by 1"
    found = [await rows(database, query) for query in ("select id from jobs order by 1", named)]
    jobs, names = ([job for (job,) in each] for each in found)
    return jobs, names


async def test_each_order_has_its_own_outcome(acceptance: Acceptance, database: Database) -> None:
    past = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    orders = [
        order(idempotencyKey="a"),
        order(b"none", idempotencyKey="b"),
        order(idempotencyKey="a"),
        order(idempotencyKey="a", message="other"),
        order(idempotencyKey="c", account="acc_none"),
        order(idempotencyKey="d", sendAt=past),
        order(idempotencyKey="e", expiresAt=past),
        order(idempotencyKey="f", sendAt=(datetime.now(UTC) + timedelta(days=400)).isoformat()),
        order(signature=b"1", idempotencyKey="g"),
        order(signature=b"1", idempotencyKey="h"),
        order(THEIRS, idempotencyKey="a", message="other"),
        order(idempotencyKey="i"),
        order(idempotencyKey="j"),
        order(THEIRS, idempotencyKey="k", account="acc_ours"),
    ]
    assert told(await acceptance.accept(orders)) == [
        "a", "unauthorized", "again a", "idempotency_key_reused", "not_found", "invalid", "invalid", "invalid", "g",
        "unauthorized", "a", "i", "queue_full", "not_found",
    ]  # fmt: skip
    jobs, named = await names(database)
    assert jobs == named == sorted(orders[place].id for place in (0, 8, 10, 11))
    stored = await rows(database, "select org_id, account_id, key, request_id, state from jobs order by seq")
    assert stored == [
        ("org_default", "acc_ours", "a", "req_1", "queued"),
        ("org_default", "acc_ours", "g", "req_1", "queued"),
        ("org_other", "acc_theirs", "a", "req_1", "queued"),
        ("org_default", "acc_ours", "i", "req_1", "queued"),
    ]


async def test_a_repeated_order_takes_no_room_and_needs_none(acceptance: Acceptance) -> None:
    assert told(await acceptance.accept([order(idempotencyKey=name) for name in "ab"])) == ["a", "b"]
    repeated = [order(idempotencyKey=name) for name in "abac"]
    assert told(await acceptance.accept(repeated)) == ["again a", "again b", "again a", "c"]
    assert told(await acceptance.accept(repeated)) == ["again a", "again b", "again a", "again c"]
    assert told(await acceptance.accept([order(idempotencyKey="d")])) == ["queue_full"]


async def test_the_name_of_a_refused_order_is_free(acceptance: Acceptance, database: Database) -> None:
    for _ in range(2):
        refused = [order(idempotencyKey="a", account="acc_none"), order(account="acc_none")]
        assert told(await acceptance.accept(refused)) == ["not_found"] * 2
        assert await names(database) == ([], [])
    assert told(await acceptance.accept([order(idempotencyKey="a")])) == ["a"]


async def test_an_order_behind_a_refused_one_of_its_name_is_judged_by_itself(acceptance: Acceptance) -> None:
    """As if they had come one after the other."""
    orders = [order(idempotencyKey="a", account="acc_none"), order(idempotencyKey="a"), order(idempotencyKey="a")]
    assert told(await acceptance.accept(orders)) == ["not_found", "a", "again a"]


async def test_equal_orders_are_refused_alike_however_many(acceptance: Acceptance) -> None:
    for name in (None, "a"):
        refused = [order(account="acc_none", idempotencyKey=name) for _ in range(6)]
        assert told(await acceptance.accept(refused)) == ["not_found"] * 6


async def test_an_order_that_is_tried_again_needs_its_signature_once(acceptance: Acceptance) -> None:
    orders = [
        order(signature=b"1", idempotencyKey="a", account="acc_none"),
        order(signature=b"2", idempotencyKey="a"),
    ]
    assert told(await acceptance.accept(orders)) == ["not_found", "a"]
    assert told(await acceptance.accept([order(signature=b"2", idempotencyKey="b")])) == ["unauthorized"]


async def test_a_repeated_order_without_a_key_holds_nobody_up(acceptance: Acceptance, database: Database) -> None:
    first = order()
    await acceptance.accept([first])
    async with database.transaction() as tx:
        row = order().row.decode().replace("%", "%%")
        terms = {"ttl": timedelta(days=1), "within": timedelta(seconds=10), "most": 9, "patience": "0"}
        assert [each["outcome"] for each in await tx.all("accept", orders=f"[{row}]", **terms)] == ["known"]
        assert told(await asyncio.wait_for(acceptance.accept([order()]), 1)) == [f"again {first.id}"]


async def test_equal_orders_without_a_key_are_one_job_for_a_while(acceptance: Acceptance, database: Database) -> None:
    first, second = order(), order()
    assert told(await acceptance.accept([first, second])) == [first.id, f"again {first.id}"]
    assert told(await acceptance.accept([order(THEIRS), order()]))[1] == f"again {first.id}"
    await run(database, "update recent_contents set created_at = now() - interval '11 seconds'")
    assert told(await acceptance.accept([second])) == [second.id]
    assert told(await acceptance.accept([order()])) == [f"again {second.id}"]


async def test_a_repeated_order_is_told_the_state_of_its_job(acceptance: Acceptance, database: Database) -> None:
    await acceptance.accept([order(idempotencyKey="a")])
    await run(database, "update jobs set state = 'failed', ended_at = now() - interval '4 days'")
    (answer,) = await acceptance.accept([order(idempotencyKey="a")])
    assert answer == Accepted("a", "failed", replayed=True)
    assert (await database.all("move_ended_jobs", days=3, most=10))[0]["rows"] == 1
    (answer,) = await acceptance.accept([order(idempotencyKey="a")])
    assert answer == Accepted("a", "failed", replayed=True)


async def test_a_name_that_another_transaction_holds_is_waited_for(acceptance: Acceptance, database: Database) -> None:
    """Nobody is refused whose equal order is about to be accepted elsewhere."""
    async with database.transaction() as tx:
        await tx.connection.execute(
            "insert into job_keys (org_id, key_hash, job_id, content_hash)"
            " values ('org_default', sha256('a'), 'job_x', '')"
        )
        waiting = asyncio.create_task(acceptance.accept([order(idempotencyKey="a", account="acc_none")]))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        await tx.connection.execute("rollback")
    assert told(await waiting) == ["not_found"]


async def test_many_with_the_same_names_at_once_make_one_job_each(acceptance: Acceptance, database: Database) -> None:
    acceptance = make_acceptance(settings(), acceptance.database)
    calls = [[order(idempotencyKey=f"k{(n * step) % 31}") for n in range(31)] for step in range(1, 11)]
    answers = await asyncio.gather(*(acceptance.accept(call) for call in calls))
    assert all(isinstance(answer, Accepted) for each in answers for answer in each)
    assert await value(database, "select count(*) from jobs") == 31
    fresh = [answer for each in answers for answer in each if isinstance(answer, Accepted) and not answer.replayed]
    assert sorted(answer.job_id for answer in fresh) == sorted(f"k{n}" for n in range(31))


async def test_a_message_has_any_text_that_json_can_have(acceptance: Acceptance, database: Database) -> None:
    text = "quotes \" and ' \\ tabs \t, lines\n, emoji 👩‍👩‍👧‍👧, {braces}, %(percent)s, \x7f"
    await acceptance.accept([order(message=text, metadata={"a": [1.5, {"ü": text}]})])
    ((message, metadata),) = await rows(database, "select message, metadata from jobs")
    assert (message, metadata) == (text, {"a": [1.5, {"ü": text}]})


async def test_a_revoked_key_sends_nothing_from_that_moment(database_url: str, database: Database) -> None:
    """Although the process has looked it up a moment ago."""
    await database.all(
        "create_key", id="key_o", org="org_default", name="", hash=hash_key("other"), signing_secret=None
    )
    async with running(database_url) as app, client_of(app, x_api_key="other") as client:
        await new_account(client)
        assert (await client.post("/send", json={"phone": PHONE, "message": "Hello"})).status_code == 202
        await run(database, "update api_keys set revoked_at = now() where id = 'key_o'")
        order = {"phone": PHONE, "message": "Hello again"}
        for path, body in (("/send", order), ("/send/batch", {"jobs": [order]}), ("/accounts", {"name": "x"})):
            refused = await client.post(path, json=body)
            assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized")
            assert refused.headers["www-authenticate"] == "ApiKey"
    assert await value(database, "select count(*) from jobs") == 1


async def test_the_old_api_key_sends_nothing_once_it_was_replaced(database_url: str, database: Database) -> None:
    async with running(database_url) as app, client_of(app) as client:
        await new_account(client)
        async with running(database_url, api_key="another-key-0123456789"):
            refused = await client.post("/send", json={"phone": PHONE, "message": "Hello"})
    assert refused.status_code == 401
    assert await value(database, "select count(*) from jobs") == 0


# --- jobs that are inserted in other ways ------------------------------------------------------------------------

INSERTED = """
    insert into jobs (id, org_id, account_id, key, content_hash, phone, message, due_at, send_at, expires_at)
    values (%s, 'org_default', 'acc_ours', %s, %s, '1555', 'x', now(), now(), now() + interval '1 day')
"""


async def test_the_names_of_jobs_that_are_inserted_by_hand_are_known(
    acceptance: Acceptance, database: Database
) -> None:
    keyed, bare = order(idempotencyKey="a"), order(message="bare")
    await run(database, INSERTED, "job_1", "a", keyed.request.content)
    await run(database, INSERTED, "job_2", None, bare.request.content)
    assert told(await acceptance.accept([keyed, bare])) == ["again a", "again job_2"]


async def test_a_job_whose_key_nobody_has_written_down_keeps_its_key(
    acceptance: Acceptance, database: Database
) -> None:
    keyed = order(idempotencyKey="a")
    await run(database, INSERTED, "job_1", "a", keyed.request.content)
    for stale in ("delete from job_keys", "update job_keys set job_id = 'job_none'"):
        await run(database, stale)
        orders = [order(idempotencyKey="a"), order(idempotencyKey="a", message="other"), order(THEIRS)]
        assert told(await acceptance.accept(orders))[:2] == ["again a", "idempotency_key_reused"]
    assert await rows(database, "select job_id, content_hash from job_keys") == [("job_1", keyed.request.content)]


@pytest.mark.usefixtures("acceptance")
async def test_a_key_that_is_left_over_goes_to_the_next_job_that_is_inserted(database: Database) -> None:
    await run(database, INSERTED, "job_1", "a", b"1")
    await run(database, "delete from jobs")
    await run(database, INSERTED, "job_2", "a", b"2")
    assert await rows(database, "select job_id, content_hash from job_keys") == [("job_2", b"2")]


async def test_upkeep_deletes_keys_without_a_job(acceptance: Acceptance, database: Database) -> None:
    acceptance = make_acceptance(settings(), acceptance.database)
    await acceptance.accept([order(idempotencyKey=f"k{number}") for number in range(30)])
    await run(database, "delete from jobs where right(key, 1) in ('3', '7')")
    upkeep = Upkeep(database, keepalive_days=7, retention_days=0, batch=4)
    await upkeep.run_once()
    jobs, named = await names(database)
    assert jobs == named
    assert len(jobs) == 24


async def test_a_name_whose_job_an_older_version_has_deleted_is_free(
    acceptance: Acceptance, database: Database
) -> None:
    orders = [order(idempotencyKey="a"), order(idempotencyKey="b"), order()]
    await acceptance.accept(orders)
    await run(database, "delete from jobs where key is distinct from 'b'")
    again = [order(idempotencyKey="a"), order(idempotencyKey="b"), order()]
    assert told(await acceptance.accept(again)) == ["a", "again b", again[2].id]


async def test_an_older_api_that_overlooked_an_equal_order_tries_again(
    acceptance: Acceptance, database: Database
) -> None:
    bare = order()
    await acceptance.accept([bare])
    async with database.transaction() as tx:
        await tx.connection.execute("set local application_name = 'postrider api'")
        with pytest.raises(Exception, match="an equal request has just been accepted"):
            await tx.connection.execute(INSERTED, ["job_2", None, bare.request.content])
    await run(database, "update recent_contents set created_at = now() - interval '2 seconds'")
    async with database.transaction() as tx:
        await tx.connection.execute("set local application_name = 'postrider api'")
        await tx.connection.execute(INSERTED, ["job_3", None, bare.request.content])
        await tx.connection.execute("rollback")
    assert await value(database, "select count(*) from jobs") == 1
