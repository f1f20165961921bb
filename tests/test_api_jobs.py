import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx2
import pytest
from fixtures_api import api, new_account, rows
from fixtures_lanes import AS

from api.sending import jobs
from sql.database import Database, Transaction

PHONE = "15551230001"


@pytest.fixture
async def client(database_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with api(database_url) as client:
        await new_account(client)
        yield client


async def send(client: httpx2.AsyncClient, key: str, **fields: object) -> None:
    order = {"phone": PHONE, "message": "Hello", "idempotencyKey": key, **fields}
    assert (await client.post("/send", json=order)).status_code == 202


async def test_a_job_shows_everything_by_key_and_by_id(client: httpx2.AsyncClient, database: Database) -> None:
    await send(client, "k", priority="high", metadata={"order": 42})
    [(job_id,)] = await rows(database, "select id from jobs")
    job = (await client.get("/jobs/k")).json()
    assert (await client.get(f"/jobs/{job_id}")).json() == job
    assert set(job) == {
        "jobId", "status", "account", "phone", "message", "priority", "createdAt", "sendAt", "expiresAt", "startedAt",
        "sentAt", "deliveredAt", "readAt", "attempts", "error", "evidence", "metadata", "timeline",
    }  # fmt: skip
    assert (job["jobId"], job["status"], job["priority"], job["metadata"]) == ("k", "queued", "high", {"order": 42})
    assert (job["error"], job["attempts"]) == (None, 0)
    assert [(step["status"], step["detail"]) for step in job["timeline"]] == [("queued", None)]
    assert job["evidence"] is None
    await rows(
        database,
        f"""
        update jobs set {AS["failed"]}, error_code = 'page_hung', error_detail = 'It hung.', evidence = 'acc/x'
        returning id
        """,
    )
    job = (await client.get("/jobs/k")).json()
    assert (job["error"], job["evidence"]) == ({"code": "page_hung", "detail": "It hung."}, "acc/x")
    assert (await client.get("/jobs/other")).status_code == 404


async def test_a_list_goes_through_all_pages_newest_first(client: httpx2.AsyncClient, database: Database) -> None:
    for number in range(5):
        await send(client, f"k{number}")
    await rows(database, "update jobs set created_at = '2026-01-01' where key in ('k1', 'k2') returning id")
    seen, target = [], "/jobs?limit=2"
    while target:
        page = (await client.get(target)).json()
        seen += [job["jobId"] for job in page["items"]]
        target = page["nextCursor"] and f"/jobs?limit=2&cursor={page['nextCursor']}"
    assert seen[:3] == ["k4", "k3", "k0"]
    assert sorted(seen[3:]) == ["k1", "k2"]


async def test_a_list_is_filtered(client: httpx2.AsyncClient, database: Database) -> None:
    other = await new_account(client, "Other")
    await send(client, "old", account=other)
    await rows(database, f"update jobs set created_at = '2026-01-01T00:00:00Z', {AS['sent']} returning id")
    await send(client, "new", account=other)
    for query, expected in {
        "status=sent": ["old"],
        f"account={other}": ["new", "old"],
        "account=acc_none": [],
        f"phone={PHONE}": ["new", "old"],
        "phone=%2B1 (555) 123-0001&status=sent": ["old"],
        "phone=15551230009": [],
        "since=2026-02-01T00:00:00Z": ["new"],
        "until=2026-02-01T00:00:00%2B01:00": ["old"],
        "since=2026-01-01T00:00:00Z&until=2026-01-01T00:00:00Z": [],
    }.items():
        page = (await client.get(f"/jobs?{query}")).json()
        assert [job["jobId"] for job in page["items"]] == expected, query


async def test_jobs_to_both_forms_of_a_number_are_one_list(client: httpx2.AsyncClient, database: Database) -> None:
    longer, shorter = "5511987654321", "551187654321"
    for number in range(7):
        await send(client, f"k{number}", phone=(longer, shorter, PHONE)[number % 3])
    for phone in (longer, shorter):
        target, seen = f"/jobs?limit=2&phone={phone}", []
        while target:
            page = (await client.get(target)).json()
            seen.append([job["jobId"] for job in page["items"]])
            target = page["nextCursor"] and f"/jobs?limit=2&phone={phone}&cursor={page['nextCursor']}"
        assert seen == [["k6", "k4"], ["k3", "k1"], ["k0"]], phone
    assert len(await rows(database, "select from jobs where phone = '551187654321'")) == 2, "stored as it was given"


async def test_the_end_of_a_period_and_the_place_of_a_page_hold_together(
    client: httpx2.AsyncClient, database: Database
) -> None:
    for number in range(4):
        await send(client, f"k{number}")
    await rows(database, "update jobs set created_at = '2026-01-01'::date + right(key, 1)::int returning id")
    page = (await client.get("/jobs?limit=1")).json()
    for until, expected in {
        "2026-01-02": ["k0"],
        "2026-01-04": ["k2", "k1", "k0"],
        "2027-01-01": ["k2", "k1", "k0"],
    }.items():
        rest = (await client.get(f"/jobs?until={until}T00:00:00Z&cursor={page['nextCursor']}")).json()
        assert [job["jobId"] for job in rest["items"]] == expected, until


async def test_a_queued_job_is_cancelled_with_its_event(client: httpx2.AsyncClient, database: Database) -> None:
    webhook = (await client.post("/webhooks", json={"url": "http://receiver.test/"})).json()["id"]
    await send(client, "k")
    answer = await client.delete("/jobs/k")
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    assert [step["status"] for step in answer.json()["timeline"]] == ["queued", "cancelled"]
    [(kind, sequence, body)] = await rows(database, "select type, sequence, body::json -> 'data' from outbox")
    assert (kind, sequence, body["jobId"], body["status"]) == ("JobCancelled", 1, "k", "cancelled")
    assert await rows(database, "select lock from procrastinate_jobs") == [(webhook,)]
    assert await rows(database, "select ended_at is not null from jobs") == [(True,)]
    again = await client.delete("/jobs/k")
    assert (again.status_code, again.json()["code"]) == (409, "conflict")
    assert "this one is cancelled" in again.json()["detail"]
    assert len(await rows(database, "select from outbox")) == 1
    assert (await client.delete("/jobs/none")).status_code == 404


async def test_a_job_is_cancelled_once_by_many(client: httpx2.AsyncClient, database: Database) -> None:
    await send(client, "k")
    answers = await asyncio.gather(*(client.delete("/jobs/k") for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 7
    assert len(await rows(database, "select from outbox")) == 1


async def test_all_that_wait_are_cancelled(client: httpx2.AsyncClient, database: Database) -> None:
    other = await new_account(client, "Other")
    accounts = [account["id"] for account in (await client.get("/accounts")).json()["items"]]
    jobs = [{"phone": PHONE, "message": f"{number}", "account": accounts[0]} for number in range(1000)]
    await client.post("/send/batch", json={"jobs": jobs})
    await send(client, "a", account=accounts[0])
    await send(client, "b", account=other)
    await send(client, "c", account=other)
    await rows(database, f"update jobs set {AS['sending']} where key = 'c' returning id")
    assert (await client.delete(f"/jobs?status=queued&account={accounts[0]}")).json() == {"cancelled": 1001}
    assert (await client.delete("/jobs?status=queued")).json() == {"cancelled": 1}
    assert (await client.delete("/jobs?status=queued")).json() == {"cancelled": 0}
    assert (await client.get("/jobs/c")).json()["status"] == "sending"
    assert await rows(database, "select count(*) from outbox where type = 'JobCancelled'") == [(1002,)]


async def test_a_failed_job_is_queued_anew(client: httpx2.AsyncClient, database: Database) -> None:
    await send(client, "k")
    await rows(
        database,
        f"""
        update jobs set {AS["failed"]}, attempts = 5, error_code = 'page_hung', error_detail = 'It hung.',
            anchor = 'x', bubble = 'y', expires_at = now() - interval '1 second', claimed_by = 'wrk_1'
        returning id
        """,
    )
    await rows(database, "update lanes set open_at = '-infinity' returning id")
    answer = await client.post("/jobs/k/retry")
    job = answer.json()
    assert (answer.status_code, job["status"], job["attempts"], job["error"]) == (202, "queued", 0, None)
    assert job["expiresAt"] > job["createdAt"]
    assert [step["status"] for step in job["timeline"]] == ["queued", "queued"]
    columns = "select claim, claimed_by, anchor, bubble, ended_at, due_at <= now() from jobs"
    assert await rows(database, columns) == [(None, None, None, None, None, True)]
    assert len(await rows(database, "select from procrastinate_jobs")) == 1


async def test_a_job_of_a_deleted_account_is_not_queued_anew(client: httpx2.AsyncClient, database: Database) -> None:
    await send(client, "k")
    await rows(database, "update jobs set state = 'failed', error_code = 'page_hung', ended_at = now() returning id")
    account = (await client.get("/jobs/k")).json()["account"]
    assert (await client.delete(f"/accounts/{account}")).status_code == 202
    answer = await client.post("/jobs/k/retry")
    assert (answer.status_code, "was deleted" in answer.json()["detail"]) == (409, True)
    assert (await client.get("/jobs/k")).json()["status"] == "failed"


async def test_a_round_that_cancels_fewer_than_it_may_is_the_last(
    client: httpx2.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another client sends as fast as jobs are cancelled."""
    monkeypatch.setattr(jobs, "CANCELLED_AT_ONCE", 2)
    account = (await client.get("/accounts")).json()["items"][0]["id"]
    for number in range(5):
        await send(client, str(number))
    scoped = database.of("org_default")
    transact, rounds = scoped.transact, 0

    async def transact_and_send(work: Callable[[Transaction], Awaitable[int]]) -> int:
        nonlocal rounds
        rounds += 1
        found = await transact(work)
        await send(client, f"later-{rounds}")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(scoped, "transact", transact_and_send)
        cancelled = await jobs.cancel_queued(scoped, account)
    assert (rounds, cancelled) == (5, 9), "each round cancels two, and one is sent meanwhile"


async def test_only_a_failed_job_is_queued_anew(client: httpx2.AsyncClient) -> None:
    await send(client, "k")
    answer = await client.post("/jobs/k/retry")
    assert (answer.status_code, "this one is queued" in answer.json()["detail"]) == (409, True)
    assert (await client.post("/jobs/none/retry")).status_code == 404


async def test_an_unknown_outcome_is_sent_again_only_by_force(client: httpx2.AsyncClient, database: Database) -> None:
    await send(client, "k")
    await rows(database, f"update jobs set {AS['failed']}, error_code = 'outcome_unknown' returning id")
    for body in ({}, {"force": False}):
        answer = await client.post("/jobs/k/retry", json=body)
        assert (answer.status_code, '{"force": true}' in answer.json()["detail"]) == (409, True)
    for wrong in ({"force": 1}, {"force": "true"}, {"forced": True}):
        assert (await client.post("/jobs/k/retry", json=wrong)).status_code == 422
    assert (await client.post("/jobs/k/retry", json={"force": True})).status_code == 202
