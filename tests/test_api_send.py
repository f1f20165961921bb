import asyncio
import itertools
import logging
from datetime import UTC, datetime, timedelta, timezone

import httpx2
import psycopg
import pytest
from fixtures_api import api, client_of, new_account, rows, running
from fixtures_lanes import AS, add_jobs, add_worker
from psycopg.sql import SQL, Identifier

from api.sending.send_request import SendRequest
from sql.database import Database

PHONE = "15551230001"


async def test_fifty_clients_with_one_key_make_one_job(database_url: str, database: Database) -> None:
    async with api(database_url) as client:
        await new_account(client)
        order = {"phone": PHONE, "message": "Hello", "idempotencyKey": "order-42"}
        answers = await asyncio.gather(*(client.post("/send", json=order) for _ in range(50)))
    assert [answer.status_code for answer in answers] == [202] * 50
    assert {answer.json()["jobId"] for answer in answers} == {"order-42"}
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    assert len(await rows(database, "select from jobs")) == 1


async def test_twenty_equal_requests_without_a_key_make_one_job(database_url: str, database: Database) -> None:
    async with api(database_url) as client:
        await new_account(client)
        order = {"phone": PHONE, "message": "Hello"}
        answers = await asyncio.gather(*(client.post("/send", json=order) for _ in range(20)))
        other = await client.post("/send", json=order | {"message": "Hello!"})
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["jobId"] for answer in answers}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    assert other.json()["jobId"] != answers[0].json()["jobId"]
    assert len(await rows(database, "select from jobs")) == 2


async def test_one_order_to_either_form_of_a_number_is_one_job(database_url: str, database: Database) -> None:
    async with api(database_url) as client:
        await new_account(client)
        for phone in ("5511987654321", "551187654321", "551132782153", "5511932782153"):
            assert (await client.post("/send", json={"phone": phone, "message": "Olá"})).status_code == 202
    sent = await rows(database, "select phone from jobs order by phone")
    assert sent == [("551132782153",), ("5511932782153",), ("5511987654321",)]


async def test_equal_requests_are_two_jobs_when_deduplication_is_off_or_long_ago(
    database_url: str, database: Database
) -> None:
    order = {"phone": PHONE, "message": "Hello"}
    async with api(database_url, dedupe_seconds=0) as client:
        await new_account(client)
        batch = await client.post("/send/batch", json={"jobs": [order, order]})
        assert len({item["jobId"] for item in batch.json()["items"]}) == 2
    await rows(database, "update recent_contents set created_at = now() - interval '11 seconds' returning job_id")
    async with api(database_url) as client:
        answer = await client.post("/send", json=order)
    assert "idempotent-replayed" not in answer.headers
    assert len(await rows(database, "select from jobs")) == 3


async def test_a_key_is_looked_up_before_account_times_and_limits(database_url: str, database: Database) -> None:
    async with api(database_url, max_queued=1) as client:
        account = await new_account(client)
        at = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        order = {"phone": PHONE, "message": "Hello", "idempotencyKey": "k", "sendAt": at, "account": account}
        assert (await client.post("/send", json=order)).status_code == 202
        await rows(database, f"update jobs set {AS['sent']}, metadata = null returning id")
        await rows(database, "update accounts set deleted_at = now() returning id")
        as_written_otherwise = order | {"phone": "+1 (555) 123-0001", "priority": "normal", "metadata": None}
        again = await client.post("/send", json=as_written_otherwise)
        other = await client.post("/send", json=order | {"message": "Bye"})
    assert (again.status_code, again.json()) == (202, {"status": "sent", "jobId": "k"})
    assert again.headers["idempotent-replayed"] == "true"
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


async def test_a_repeated_request_whose_time_has_passed_is_still_the_same(
    database_url: str, database: Database
) -> None:
    past = (datetime.now(UTC) - timedelta(minutes=5)).isoformat()
    order = {"phone": PHONE, "message": "Hello", "idempotencyKey": "k"}
    async with api(database_url) as client:
        await new_account(client)
        await client.post("/send", json=order)
        hashed = SendRequest.model_validate(order | {"sendAt": past}).content
        for table, column in (("jobs", "id"), ("job_keys", "job_id")):
            change = SQL("update {} set content_hash = {} returning {}")
            await rows(database, change.format(Identifier(table), hashed, Identifier(column)))
        again = await client.post("/send", json=order | {"sendAt": past})
    assert (again.status_code, again.headers["idempotent-replayed"]) == (202, "true")


async def test_up_to_a_minute_past_counts_as_now(database_url: str) -> None:
    async with api(database_url) as client:
        await new_account(client)
        past = (datetime.now(UTC) - timedelta(seconds=50)).isoformat()
        answer = await client.post("/send", json={"phone": PHONE, "message": "Hello", "sendAt": past})
        job = (await client.get(f"/jobs/{answer.json()['jobId']}")).json()
    assert job["sendAt"] == job["createdAt"]


async def test_what_is_stored_is_what_was_ordered(database_url: str, database: Database) -> None:
    async with api(database_url) as client:
        account = await new_account(client)
        order = {
            "phone": "+49 (0)151 / 2345-6789",
            "message": "שלום 👋\nline",
            "idempotencyKey": "a.b_c:d~e-f",
            "account": account,
            "sendAt": (datetime.now(UTC) + timedelta(days=1)).isoformat(),
            "expiresAt": (datetime.now(UTC) + timedelta(days=2)).isoformat(),
            "priority": "high",
            "metadata": {"ä": [1, 2.5, {"big": 12345678901234567890}], "n": None},
        }
        answer = await client.post("/send", json=order, headers={"x-request-id": "trace-1"})
        job = (await client.get("/jobs/a.b_c:d~e-f")).json()
    assert (answer.status_code, answer.json()) == (202, {"status": "queued", "jobId": "a.b_c:d~e-f"})
    assert job["phone"] == "4915123456789"
    assert {name: job[name] for name in ("message", "metadata", "account", "priority")} == {
        name: order[name] for name in ("message", "metadata", "account", "priority")
    }
    [(metadata, request)] = await rows(database, "select metadata::text, request_id from jobs")
    assert metadata == '{"ä":[1,2.5,{"big":12345678901234567890}],"n":null}'
    assert request == "trace-1"


async def test_only_open_lanes_with_something_due_are_woken(database_url: str, database: Database) -> None:
    async with api(database_url) as client:
        account = await new_account(client)
        later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        wakeups = "select lock from procrastinate_jobs where status = 'todo'"
        await client.post("/send", json={"phone": PHONE, "message": "closed"})
        assert await rows(database, wakeups) == []
        await rows(database, "update lanes set open_at = '-infinity' returning id")
        await client.post("/send", json={"phone": PHONE, "message": "later", "sendAt": later})
        assert await rows(database, wakeups) == []
        await client.post("/send", json={"phone": PHONE, "message": "now"})
        await client.post("/send", json={"phone": PHONE, "message": "and again"})
        assert await rows(database, wakeups) == [(account,)]


async def test_the_account_may_be_left_out_when_there_is_exactly_one(database_url: str) -> None:
    order = {"phone": PHONE, "message": "Hello"}
    async with api(database_url) as client:
        none = await client.post("/send", json=order)
        account = await new_account(client)
        one = await client.post("/send", json=order)
        await new_account(client, "Other")
        several = await client.post("/send", json=order | {"message": "Again"})
        unknown = await client.post("/send", json=order | {"account": "acc_none"})
        assert (await client.get(f"/jobs/{one.json()['jobId']}")).json()["account"] == account
    for answer in (none, several):
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == "account"
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")


async def test_more_than_max_queued_are_refused(database_url: str, database: Database) -> None:
    async with api(database_url, max_queued=3) as client:
        await new_account(client)
        jobs = [{"phone": PHONE, "message": f"{number}"} for number in range(5)]
        batch = (await client.post("/send/batch", json={"jobs": jobs})).json()["items"]
        full = await client.post("/send", json={"phone": PHONE, "message": "one more"})
        await client.delete("/jobs?status=queued")
        again = await client.post("/send", json={"phone": PHONE, "message": "one more"})
    assert [item["status"] for item in batch] == [202, 202, 202, 429, 429]
    assert (full.status_code, full.json()["code"], full.headers["retry-after"]) == (429, "queue_full", "60")
    assert again.status_code == 202
    assert len(await rows(database, "select from jobs")) == 4


async def test_the_bound_holds_for_many_that_come_to_several_processes(database_url: str, database: Database) -> None:
    """What is accepted at the same time may come on top: at most one request of each connection."""
    most, waiting, size = 1100, 1000, 20
    async with (
        running(database_url, (), max_queued=most) as one,
        running(database_url, (), max_queued=most) as two,
        client_of(one) as first,
        client_of(two) as second,
    ):
        accounts = [await new_account(first, name) for name in ("a", "b")]
        for account in accounts:
            await add_jobs(database, account, waiting, wake=False)

        def orders(name: str) -> list[dict[str, str]]:
            # Two accounts in either order: no two requests wait for each other.
            return [
                {"phone": PHONE, "message": f"{name} {n} {account}", "account": account}
                for n in range(size)
                for account in accounts[:: (-1) ** len(name)]
            ]

        names = ("x", "yy", "z", "zz", "w", "ww", "v", "vv")
        answers = await asyncio.gather(
            *(
                client.post("/send/batch", json={"jobs": orders(name)})
                for client, name in zip(itertools.cycle((first, second)), names, strict=False)
            )
        )
        full = [await client.post("/send", json=orders("late")[0]) for client in (first, second)]
    statuses = [item["status"] for answer in answers for item in answer.json()["items"]]
    assert set(statuses) <= {202, 429}
    assert [(answer.status_code, answer.headers["retry-after"]) for answer in full] == [(429, "60")] * 2
    for _, queued in await rows(database, "select account_id, count(*) from jobs group by account_id"):
        assert most <= queued <= most + (len(names) - 1) * size


async def test_max_queued_0_is_no_bound(database_url: str) -> None:
    async with api(database_url, max_queued=0) as client:
        await new_account(client)
        assert (await client.post("/send", json={"phone": PHONE, "message": "Hello"})).status_code == 202


async def test_a_batch_takes_the_valid_ones_in_order(database_url: str, database: Database) -> None:
    async with api(database_url) as client:
        account = await new_account(client)
        jobs: list[object] = [
            {"phone": PHONE, "message": "first", "idempotencyKey": "z"},
            {"phone": "123", "message": "never"},
            {"phone": PHONE, "message": "second", "idempotencyKey": "a"},
            {"phone": PHONE, "message": "first", "idempotencyKey": "z"},
            {"phone": PHONE, "message": "other", "idempotencyKey": "z"},
            {"phone": PHONE, "message": "lost", "account": "acc_none"},
            "no object",
            {"phone": PHONE, "message": "third"},
            {"phone": PHONE, "message": "third"},
        ]
        answer = await client.post("/send/batch", json={"jobs": jobs})
    items = answer.json()["items"]
    assert answer.status_code == 200
    assert [item["status"] for item in items] == [202, 422, 202, 202, 422, 404, 422, 202, 202]
    assert [item.get("jobId") for item in items[:4]] == ["z", None, "a", "z"]
    assert items[1]["errors"] == [
        {"field": "phone", "message": "must be a phone number with its country code: 123 is too short"}
    ]
    assert items[4]["code"] == "idempotency_key_reused"
    assert items[7] == items[8]
    assert await rows(database, "select message, account_id from jobs order by seq") == [
        ("first", account),
        ("second", account),
        ("third", account),
    ]


async def test_two_batches_with_the_same_keys_in_opposite_orders_both_go_through(
    database_url: str, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sql.database")
    async with api(database_url) as client:
        accounts = [await new_account(client, str(number)) for number in range(2)]
        await rows(database, "update lanes set open_at = '-infinity' returning id")
        keyed = [
            {"phone": PHONE, "message": f"{n}", "idempotencyKey": f"k{n}", "account": accounts[n % 2]}
            for n in range(200)
        ]
        keyless = [{"phone": PHONE, "message": f"{n}", "account": accounts[n % 2]} for n in range(200)]
        batches = [jobs for jobs in (keyed, keyless) for _ in range(3)]
        answers = await asyncio.gather(
            *(client.post("/send/batch", json={"jobs": jobs[:: (-1) ** place]}) for place, jobs in enumerate(batches))
        )
    assert {answer.status_code for answer in answers} == {200}
    assert {item["status"] for answer in answers for item in answer.json()["items"]} == {202}
    assert len(await rows(database, "select from jobs")) == 400
    assert "again after" not in caplog.text


async def test_a_batch_has_at_most_a_thousand(database_url: str, database: Database) -> None:
    async with api(database_url) as client:
        await new_account(client)
        jobs = [{"phone": PHONE, "message": f"{number}"} for number in range(1001)]
        over = await client.post("/send/batch", json={"jobs": jobs})
        full = await client.post("/send/batch", json={"jobs": jobs[:1000]})
        none = await client.post("/send/batch", json={"jobs": []})
    assert (over.status_code, over.json()["errors"][0]["field"]) == (422, "jobs")
    assert [item["status"] for item in full.json()["items"]] == [202] * 1000
    assert (none.status_code, none.json()) == (200, {"items": []})
    assert len(await rows(database, "select from jobs")) == 1000


async def test_connections_that_break_never_leave_a_202_without_its_row(database_url: str) -> None:
    async with api(database_url) as client:
        await new_account(client)
        kill = "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> %s"

        async def breaking() -> None:
            async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
                for _ in range(20):
                    await connection.execute(kill, [connection.info.backend_pid])

        async def sending() -> list[httpx2.Response]:
            answers: list[httpx2.Response] = []
            for wave in range(30):
                orders = ({"phone": PHONE, "message": "Hello", "idempotencyKey": f"k{wave}_{n}"} for n in range(5))
                answers += await asyncio.gather(*(client.post("/send", json=order) for order in orders))
            return answers

        answers, _ = await asyncio.gather(sending(), breaking())
    assert {answer.status_code for answer in answers} <= {202, 503}
    assert all("retry-after" in answer.headers for answer in answers if answer.status_code == 503)
    promised = {answer.json()["jobId"] for answer in answers if answer.status_code == 202}
    # By a pool that came later: every connection of then was ended.
    async with Database(database_url) as database:
        assert promised <= {key for (key,) in await rows(database, "select key from jobs")}
    assert promised


async def test_times_are_the_same_in_any_zone(database_url: str) -> None:
    async with api(database_url) as client:
        await new_account(client)
        at = (datetime.now(UTC) + timedelta(days=2)).replace(microsecond=0)
        text = at.strftime("%Y-%m-%dT%H:%M:%S")
        order = {"phone": PHONE, "message": "Hello", "idempotencyKey": "k", "sendAt": text + "Z"}
        await client.post("/send", json=order)
        elsewhere = at.astimezone(timezone(timedelta(hours=5.5))).isoformat()
        again = await client.post("/send", json=order | {"sendAt": elsewhere})
        job = (await client.get("/jobs/k")).json()
    assert again.headers["idempotent-replayed"] == "true"
    assert job["sendAt"] == text + ".000Z"
    assert job["expiresAt"] == (at + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%S.000Z")


async def test_an_account_that_is_held_takes_messages(database_url: str, database: Database) -> None:
    """A worker holds its account's row for each change of state, and for as long as it is frozen meanwhile."""
    async with api(database_url) as client:
        account = await new_account(client)
        await add_worker(database, "wrk_a")
        await rows(
            database, "update accounts set leased_by = 'wrk_a', lease_until = now() + interval '1 minute' returning id"
        )
        async with database.transaction() as tx, asyncio.timeout(5):
            assert await tx.one("held_account", account=account, worker="wrk_a")
            assert (await client.post("/send", json={"phone": PHONE, "message": "Hello"})).status_code == 202
