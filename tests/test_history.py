"""Ended jobs move to the history, and whoever asks for one does not notice."""

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest
from fixtures_api import api, new_account, rows
from fixtures_deliveries import take
from fixtures_history import PHONE, PLACES, again_until, end, keep_up, run, waits_for_a_lock
from fixtures_lanes import AS, add_jobs, add_lanes, value

from sql.database import Database
from tasks.lanes import Drain


@pytest.fixture
async def client(database_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with api(database_url) as client:
        await new_account(client)
        yield client


def order(key: str, **fields: object) -> dict[str, object]:
    return {"phone": PHONE, "message": "Hello", "idempotencyKey": key, **fields}


async def send(client: httpx2.AsyncClient, *keys: str, **fields: object) -> None:
    for key in keys:
        assert (await client.post("/send", json=order(key, **fields))).status_code == 202


# --- what moves --------------------------------------------------------------------------------------------------


async def test_what_ended_three_days_ago_moves_and_what_is_open_never_does(database: Database) -> None:
    await add_lanes(database, "a")
    for state in ("sent", "delivered", "read", "failed", "cancelled"):
        await add_jobs(database, "a")
        await end(database, state, days=3.01)
    await add_jobs(database, "a")
    await end(database, "sent", days=2.99)
    for state in ("submitting", "sending", "queued"):
        await add_jobs(database, "a")
        await run(database, f"update jobs set {AS[state]}, created_at = '2020-01-01' where state = 'queued'")
    await keep_up(database, days=0)
    assert await rows(database, "select state from jobs order by seq") == [
        ("sent",), ("submitting",), ("sending",), ("queued",)
    ]  # fmt: skip
    assert await value(database, "select count(distinct state) from jobs_history") == 5


async def test_everything_moves_with_a_job_and_comes_back_with_it(database: Database) -> None:
    await add_lanes(database, "a")
    await add_jobs(database, "a", 3)
    await end(database, "failed")
    before = await rows(database, "select to_jsonb(jobs) from jobs order by id")
    await keep_up(database, batch=2)
    assert await value(database, PLACES) == "0/3"
    assert await rows(database, "select to_jsonb(jobs_history) from jobs_history order by id") == before
    for ((job,),) in zip(before, strict=True):
        assert await database.one("bring_back", org="org_default", job=job["id"]) == {"id": job["id"]}
    assert await rows(database, "select to_jsonb(jobs) from jobs order by id") == before
    assert await value(database, PLACES) == "3/0"


async def test_the_task_table_and_the_history_have_the_same_columns_in_the_same_order(database: Database) -> None:
    columns = (
        "select array_agg(attname || ' ' || format_type(atttypid, atttypmod) order by attnum) from pg_attribute "
        "where attrelid = %s::regclass and attnum > 0 and not attisdropped"
    )
    jobs, history, both = [await value(database, columns, name) for name in ("jobs", "jobs_history", "all_jobs")]
    assert [*jobs, "in_history boolean"] == [*history, "in_history boolean"] == both


async def test_a_turn_ends_in_time_and_the_next_goes_on(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "tasks.upkeep")
    await add_lanes(database, "a")
    await add_jobs(database, "a", 10)
    await end(database)
    await keep_up(database, turn=0)
    assert await value(database, PLACES) == "10/0"
    assert "upkeep goes on in its next run: move_ended_jobs" in caplog.text
    await keep_up(database, batch=3)
    assert await value(database, PLACES) == "0/10"


async def test_a_job_that_waits_for_a_tick_stays_where_ticks_look(database: Database) -> None:
    await add_lanes(database, "a")
    (unknown,) = await add_jobs(database, "a")
    await end(database, "failed", code="outcome_unknown", days=2.99)
    (sent,) = await add_jobs(database, "a")
    await end(database, "sent", days=2.98)
    await add_jobs(database, "a")
    await end(database, "sent", days=3.01)
    await keep_up(database)
    waiting = await database.all("awaiting_ticks", accounts=["a"])
    assert [row["id"] for row in waiting] == [sent, unknown]
    assert (
        await value(database, "select array_agg(id) from jobs_history where submitted_at > now() - interval '3 days'")
        is None
    )
    await database.all("late_tick", job=unknown)
    await database.all("job_read", job=sent)
    assert await rows(database, "select state, bubble is null from jobs order by seq") == [
        ("failed", True),
        ("read", False),
    ]


async def test_a_delivery_goes_on_when_its_job_has_moved_and_is_forgotten(
    client: httpx2.AsyncClient, database: Database
) -> None:
    webhook = (await client.post("/webhooks", json={"url": "http://receiver.test/"})).json()["id"]
    await send(client, "k")
    await client.delete("/jobs/k")
    await run(database, "update jobs set ended_at = now() - interval '4 days'")
    for days, places in ((90, "0/1"), (1, "0/0")):
        await keep_up(database, days=days)
        assert await value(database, PLACES) == places
    (drain,) = await database.read(Drain, "begin_drain", lane=webhook, worker="w", wakeup=1)
    (taken,) = await take(database, drain)
    assert (taken["type"], '"jobId":"k"' in taken["body"]) == ("JobCancelled", True)


# --- asking for one ----------------------------------------------------------------------------------------------


async def test_a_job_is_shown_the_same_by_id_and_key_wherever_it_stands(
    client: httpx2.AsyncClient, database: Database
) -> None:
    await send(client, "k", metadata={"order": 42})
    await end(database)
    [(job_id,)] = await rows(database, "select id from jobs")
    before = (await client.get("/jobs/k")).json()
    await keep_up(database)
    assert await value(database, PLACES) == "0/1"
    assert (await client.get("/jobs/k")).json() == before
    assert (await client.get(f"/jobs/{job_id}")).json() == before
    assert before["status"] == "sent"


async def test_an_ended_job_is_not_cancelled_and_its_state_is_told(
    client: httpx2.AsyncClient, database: Database
) -> None:
    await send(client, "k")
    await end(database, "read")
    await keep_up(database)
    answer = await client.delete("/jobs/k")
    assert (answer.status_code, "this one is read" in answer.json()["detail"]) == (409, True)
    assert (await client.delete("/jobs?status=queued")).json() == {"cancelled": 0}


async def test_a_list_goes_through_both_in_order(client: httpx2.AsyncClient, database: Database) -> None:
    other = await new_account(client, "Other")
    [(account,)] = await rows(database, "select id from accounts where name = 'Shop'")
    for number in range(6):
        await send(client, f"k{number}", account=(account, other)[number % 2])
        # They end in another order than that in which they were accepted, in several months and in the task table.
        await run(
            database,
            """
            update jobs
            set created_at = now() - %s * interval '40 days', ended_at = now() - %s * interval '30 days',
                state = case when key = 'k2' then 'failed' else 'sent' end,
                sent_at = case when key <> 'k2' then now() end
            where key = %s
            """,
            number + 1, (number * 5 + 1) % 6, f"k{number}",
        )  # fmt: skip
    await keep_up(database, days=0)
    assert await value(database, PLACES) == "1/5"
    await send(client, "new", account=account)

    async def pages(query: str) -> list[str]:
        seen, cursor = [], ""
        while cursor is not None:
            page = (await client.get(f"/jobs?limit=2{query}{cursor and '&cursor=' + cursor}")).json()
            seen += [job["jobId"] for job in page["items"]]
            cursor = page["nextCursor"]
        return seen

    assert await pages("") == ["new", "k0", "k1", "k2", "k3", "k4", "k5"]
    assert await pages("&status=sent") == ["k0", "k1", "k3", "k4", "k5"]
    assert await pages("&status=failed") == ["k2"]
    assert await pages(f"&account={other}") == ["k1", "k3", "k5"]
    [(since, until)] = await rows(
        database, "select iso(min(created_at)), iso(max(created_at)) from all_jobs where key in ('k1', 'k4')"
    )
    # The times on the wire have milliseconds: k4 was accepted within the first of them.
    assert await pages(f"&since={since}&until={until}") == ["k2", "k3", "k4"]


async def test_a_chat_is_known_by_a_message_that_was_sent_long_ago(database: Database) -> None:
    await add_lanes(database, "a")
    (job,) = await add_jobs(database, "a")
    await end(database, days=40)
    await keep_up(database)
    assert await database.all("phone_of_chat", account="a", ids=[f"b{job}"], bubbles=[]) == [{"phone": "15551"}]


async def test_reports_count_the_history(database: Database) -> None:
    await add_lanes(database, "a")
    await add_jobs(database, "a", 2)
    await end(database, "failed", code="page_hung")
    await keep_up(database)
    await add_jobs(database, "a")
    volume = "select string_agg(format('%s/%s/%s', accepted, failed, open), ' ' order by day) from report.daily_volume"
    assert await value(database, volume) == "2/2/0 1/0/1"
    assert await value(database, "select error_code || jobs from report.failure_reasons") == "page_hung2"
    assert await value(database, "select count(*) from report.jobs") == 3


# --- a key lives as long as its job --------------------------------------------------------------------------------


async def test_a_key_is_known_as_long_as_its_job_wherever_that_stands(
    client: httpx2.AsyncClient, database: Database
) -> None:
    await send(client, "k")
    await end(database, "delivered")
    await keep_up(database)
    again = await client.post("/send", json=order("k"))
    assert (again.status_code, again.json()) == (202, {"status": "delivered", "jobId": "k"})
    assert again.headers["idempotent-replayed"] == "true"
    other = await client.post("/send", json=order("k", message="Bye"))
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    batch = (
        await client.post("/send/batch", json={"jobs": [order("k"), order("l"), order("k", message="Bye")]})
    ).json()
    assert [item["status"] for item in batch["items"]] == [202, 202, 422]
    assert await value(database, "select count(*) from all_jobs") == 2
    await keep_up(database, days=3.5)
    anew = await client.post("/send", json=order("k"))
    assert (anew.status_code, "idempotent-replayed" in anew.headers) == (202, False)


async def test_a_key_is_known_while_its_job_is_being_moved(client: httpx2.AsyncClient, database: Database) -> None:
    await send(client, "k")
    await end(database)
    async with database.transaction() as tx:
        assert await tx.one("move_ended_jobs", days=3, most=10) == {"rows": 1}
        during = await client.post("/send", json=order("k"))
        shown = await client.get("/jobs/k")
    after = await client.post("/send", json=order("k"))
    for answer in (during, after):
        assert (answer.json()["status"], answer.headers["idempotent-replayed"]) == ("sent", "true")
    assert shown.json()["status"] == "sent"
    assert await value(database, PLACES) == "0/1"


@pytest.mark.long
async def test_no_key_is_accepted_twice_while_its_job_moves_to_and_fro(
    client: httpx2.AsyncClient, database: Database
) -> None:
    keys = [f"k{number}" for number in range(8)]
    await send(client, *keys)
    await end(database, "failed")
    done = asyncio.Event()
    answers: list[httpx2.Response] = []

    async def move() -> None:
        await database.all("move_ended_jobs", days=3, most=5)

    async def bring_back() -> None:
        for key in keys:
            await database.all("bring_back", org="org_default", job=key)

    async def accept() -> None:
        batch = client.post("/send/batch", json={"jobs": [order(key) for key in reversed(keys)]})
        answers.extend(await asyncio.gather(batch, *(client.post("/send", json=order(key)) for key in keys)))

    async def accept_often() -> None:
        for _ in range(25):
            await accept()
        done.set()

    moved, brought, *_ = await asyncio.gather(
        again_until(done, move), again_until(done, bring_back), accept_often(), accept_often()
    )
    assert min(moved, brought) > 5, "it was a race"
    assert {answer.status_code for answer in answers} <= {200, 202}
    replayed = [answer for answer in answers if answer.status_code == 202]
    assert {answer.headers.get("idempotent-replayed") for answer in replayed} == {"true"}
    assert {answer.json()["status"] for answer in replayed} == {"failed"}
    assert await value(database, "select array_agg(key order by key) from all_jobs") == keys


# --- sending it again ----------------------------------------------------------------------------------------------


async def test_a_failed_job_comes_back_from_the_history_to_be_tried_again(
    client: httpx2.AsyncClient, database: Database
) -> None:
    await send(client, "k", "l")
    await run(database, "update lanes set open_at = '-infinity'")
    await end(database, "failed", code="page_hung")
    await keep_up(database)
    answers = await asyncio.gather(*(client.post("/jobs/k/retry") for _ in range(6)))
    assert sorted(answer.status_code for answer in answers) == [202] + [409] * 5
    assert {"this one is queued" in answer.text for answer in answers if answer.status_code == 409} == {True}
    job = (await client.get("/jobs/k")).json()
    assert (job["status"], job["attempts"], job["error"]) == ("queued", 0, None)
    assert await rows(database, "select key, ended_at, bubble, expires_at > now() from jobs") == [
        ("k", None, None, True)
    ]
    assert await rows(database, "select key from jobs_history") == [("l",)]
    assert await value(database, "select count(*) from procrastinate_jobs") == 1


async def test_only_what_failed_comes_back_and_what_is_unknown_by_force(
    client: httpx2.AsyncClient, database: Database
) -> None:
    await send(client, "unknown")
    await end(database, "failed", code="outcome_unknown")
    await send(client, "sent", message="Another")
    await end(database, "sent")
    await keep_up(database)
    refused = await client.post("/jobs/sent/retry", json={"force": True})
    assert (refused.status_code, "this one is sent" in refused.json()["detail"]) == (409, True)
    unforced = await client.post("/jobs/unknown/retry")
    assert (unforced.status_code, '{"force": true}' in unforced.json()["detail"]) == (409, True)
    assert await value(database, PLACES) == "0/2"
    assert (await client.post("/jobs/unknown/retry", json={"force": True})).status_code == 202
    assert await value(database, PLACES) == "1/1"


async def test_a_job_that_is_moved_this_moment_is_tried_again_all_the_same(
    client: httpx2.AsyncClient, database: Database
) -> None:
    await send(client, "k")
    await end(database, "failed", code="page_hung")
    async with asyncio.TaskGroup() as group, database.transaction() as tx:
        await tx.all("move_ended_jobs", days=3, most=10)
        retry = group.create_task(client.post("/jobs/k/retry"))
        await waits_for_a_lock(database)
    assert (retry.result().status_code, retry.result().json()["status"]) == (202, "queued")
    assert await value(database, PLACES) == "1/0"


async def test_a_job_that_is_tried_again_this_moment_does_not_move(
    client: httpx2.AsyncClient, database: Database
) -> None:
    await send(client, "k")
    await end(database, "failed", code="page_hung")
    async with database.transaction() as tx:
        await tx.all("retry_job", org="org_default", job="k", force=False, ttl="1 day")
        assert await database.one("move_ended_jobs", days=3, most=10) == {"rows": 0}
    assert await database.one("move_ended_jobs", days=3, most=10) == {"rows": 0}
    assert (await client.get("/jobs/k")).json()["status"] == "queued"
