"""What became of deliveries, over HTTP: lists, one with its attempts, replays."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from fixtures_api import api, rows
from fixtures_deliveries import add_endpoint, drain_once, make_due, receiving, send_one, working
from fixtures_history import run, waits_for_a_lock
from fixtures_lanes import add_jobs, add_lanes, value
from fixtures_webhooks import put_endpoint, put_events, put_org, spread
from starlette.responses import Response

from sql.database import Database

FORGET = "select purge_events(now() - interval '1 day', 100)"


@pytest.fixture
async def client(database_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with api(database_url) as client:
        yield client


async def end(database: Database, state: str, *, where: str = "true") -> None:
    """Let deliveries have ended so, at their second attempt."""
    await run(
        database,
        f"""
        update deliveries
        set state = %s, attempts = 2, ended_at = now(), claim = null, claimed_by = null, last_error = %s
        where {where}
        """,  # conditions of the tests' own
        state,
        "x" if state == "failed" else None,
    )


async def pages(client: httpx2.AsyncClient, target: str, limit: int) -> list[dict[str, Any]]:
    """Go through all pages of a list."""
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = (await client.get(f"{target}{'&' if '?' in target else '?'}limit={limit}{cursor}")).json()
        assert len(page["items"]) <= limit
        found += page["items"]
        if page["nextCursor"] is None:
            return found
        cursor = f"&cursor={page['nextCursor']}"


# --- lists -------------------------------------------------------------------------------------------------------


async def test_a_list_goes_through_all_pages_by_the_time_of_events(
    client: httpx2.AsyncClient, database: Database
) -> None:
    await put_endpoint(database)
    await put_endpoint(database, "whe_2")
    for kind in ("JobCompleted", "JobFailed", "AccountStateChanged"):
        await put_events(database, kind, 6)
    await spread(database)
    some = "id in (select id from deliveries where endpoint_id = 'whe_1' order by md5(id) limit 6)"
    for state in ("delivered", "failed"):
        await end(database, state, where=f"state = 'pending' and {some}")
    # Events of one transaction happened at the same moment.
    await run(
        database,
        "with moved as (update outbox set created_at = (select max(event_at) from deliveries) where type = 'JobFailed' "
        "returning *) update deliveries set event_at = moved.created_at from moved where event_id = moved.id",
    )
    wanted = await rows(
        database,
        "select id from deliveries where endpoint_id = 'whe_1' order by event_at desc, id desc",
    )
    for limit in (1, 4, 200):
        found = [item["id"] for item in await pages(client, "/webhooks/whe_1/deliveries", limit)]
        assert found == [row[0] for row in wanted], limit


async def test_a_list_is_filtered(client: httpx2.AsyncClient, database: Database) -> None:
    await put_endpoint(database)
    await put_events(database, "JobCompleted", 3, job="job_1")
    await put_events(database, "JobFailed", 2)
    for table, column in (("deliveries", "event_at"), ("outbox", "created_at")):
        await run(database, f"update {table} set {column} = '2026-02-01T00:00:00Z' where type = 'JobFailed'")
    await end(database, "failed", where="type = 'JobFailed'")
    for query, expected in {
        "": ["JobCompleted"] * 3 + ["JobFailed"] * 2,
        "status=failed": ["JobFailed"] * 2,
        "status=sending": [],
        "type=JobCompleted": ["JobCompleted"] * 3,
        "type=JobRead": [],
        "type=*": ["JobCompleted"] * 3 + ["JobFailed"] * 2,
        "status=pending&type=JobFailed": [],
        "status=pending&type=JobCompleted": ["JobCompleted"] * 3,
        "since=2026-02-01T00:00:00.001Z": ["JobCompleted"] * 3,
        "until=2026-02-01T00:00:00.001Z": ["JobFailed"] * 2,
        "since=2026-02-01T00:00:00Z&until=2026-02-01T00:00:00Z": [],
        "since=2026-02-01T01:00:00%2B01:00&until=2026-02-02T00:00:00Z&status=failed": ["JobFailed"] * 2,
    }.items():
        page = (await client.get(f"/webhooks/whe_1/deliveries?{query}")).json()
        assert [item["type"] for item in page["items"]] == expected, query
    cursor = (await client.get("/webhooks/whe_1/deliveries?limit=1")).json()["nextCursor"]
    for until, expected in {
        "2026-02-01T00:00:00.001": ["JobFailed"] * 2,
        "2027-01-01T00:00:00": [*["JobCompleted"] * 2, *["JobFailed"] * 2],
    }.items():
        page = (await client.get(f"/webhooks/whe_1/deliveries?until={until}Z&cursor={cursor}")).json()
        assert [item["type"] for item in page["items"]] == expected, until


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("status=lost", "status"),
        ("status=failed&status=sending", "status"),
        ("type=JobLost", "type"),
        ("since=yesterday", "since"),
        ("until=2026-01-01T00:00:00", "until"),
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("cursor=abc", "cursor"),
        ("colour=red", "colour"),
    ],
)
async def test_a_bad_parameter_is_named(client: httpx2.AsyncClient, database: Database, query: str, field: str) -> None:
    await put_endpoint(database)
    answer = await client.get(f"/webhooks/whe_1/deliveries?{query}")
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)


async def test_what_belongs_to_others_is_404(client: httpx2.AsyncClient, database: Database) -> None:
    await put_org(database, "org_other")
    await put_endpoint(database, "whe_other", org="org_other")
    await put_endpoint(database)
    await put_events(database, "JobFailed", org="org_other", job="job_other")
    await end(database, "failed")
    [(delivery,)] = await rows(database, "select id from deliveries")
    for method, path, body in (
        ("GET", "/webhooks/whe_other/deliveries", None),
        ("GET", "/webhooks/whe_none/deliveries", None),
        ("GET", f"/deliveries/{delivery}", None),
        ("GET", "/deliveries/dlv_none", None),
        ("GET", "/jobs/job_other/deliveries", None),
        ("GET", "/jobs/none/deliveries", None),
        ("POST", f"/deliveries/{delivery}/replay", {}),
        ("POST", "/deliveries/dlv_none/replay", {}),
        ("POST", "/webhooks/whe_other/replay", {"deliveries": [delivery]}),
    ):
        answer = await client.request(method, path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path
    selection = await client.post("/webhooks/whe_1/replay", json={"deliveries": [delivery]})
    assert [item["status"] for item in selection.json()["items"]] == [404]
    assert await value(database, "select state from deliveries") == "failed"


async def test_the_history_of_a_deleted_endpoint_is_shown(client: httpx2.AsyncClient, database: Database) -> None:
    await put_endpoint(database)
    await put_events(database, "JobFailed")
    assert (await client.delete("/webhooks/whe_1")).status_code == 204
    [item] = (await client.get("/webhooks/whe_1/deliveries?status=failed")).json()["items"]
    shown = (await client.get(f"/deliveries/{item['id']}")).json()
    assert (shown["status"], shown["lastError"]) == ("failed", "The endpoint was deleted.")


async def test_the_deliveries_of_a_job(client: httpx2.AsyncClient, database: Database) -> None:
    await add_lanes(database, "acc_1")
    (job,) = await add_jobs(database, "acc_1")
    await run(database, "update jobs set key = %s", f"key-{job}")
    assert (await client.get(f"/jobs/{job}/deliveries")).json() == {"items": [], "nextCursor": None}
    for endpoint in ("whe_1", "whe_2"):
        await put_endpoint(database, endpoint)
    for kind in ("JobCompleted", "JobDelivered", "JobRead"):
        await put_events(database, kind, job=job)
    await put_events(database, "JobCompleted", job="job_other")
    await spread(database)
    found = await pages(client, f"/jobs/{job}/deliveries", 4)
    assert len({item["id"] for item in found}) == 6
    assert {(item["endpoint"], item["type"]) for item in found} == {
        (endpoint, kind) for endpoint in ("whe_1", "whe_2") for kind in ("JobCompleted", "JobDelivered", "JobRead")
    }
    assert {item["jobId"] for item in found} == {f"key-{job}"}
    assert [item["eventAt"] for item in found] == sorted((item["eventAt"] for item in found), reverse=True)
    assert (await client.get(f"/jobs/key-{job}/deliveries")).json()["items"] == found
    # A job goes before its last event.
    await run(database, "delete from jobs")
    assert (await client.get(f"/jobs/{job}/deliveries")).json()["items"] == found
    assert (await client.get(f"/jobs/key-{job}/deliveries")).status_code == 404


# --- one, with its attempts --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "headers", "body"),
    [
        (b"HTTP/1.1 500 No\r\nx-a: 1\r\nX-A: 2\r\ncontent-length: 2\r\n\r\nno", {"x-a": "2"}, "no"),
        (b"HTTP/1.1 500 No\r\ncontent-length: 4\r\n\r\na\0b\xff", {}, "a\ufffdb\ufffd"),
        (
            b"HTTP/1.1 500 No\r\nx-a: caf\xc3\xa9 \xff\r\n\r\n\xed\xa0\x80",
            {"x-a": "caf\u00c3\u00a9 \u00ff"},
            "\ufffd" * 3,
        ),
        (b"HTTP/1.1 500 \xff\xfe\r\ncontent-length: 0\r\n\r\n", {}, ""),
    ],
    ids=["plain", "NUL", "bytes", "reason"],
)
async def test_every_attempt_is_told_whatever_came_back(
    client: httpx2.AsyncClient, database: Database, answer: bytes, headers: dict[str, str], body: str
) -> None:
    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(receive, "127.0.0.1", 0)
    async with server, working(database) as work:
        await add_endpoint(database, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook")
        job = await send_one(database)
        await drain_once(database, work)
        await make_due(database)
        await drain_once(database, work)
    [item] = (await client.get("/webhooks/whe_1/deliveries")).json()["items"]
    shown = (await client.get(f"/deliveries/{item['id']}")).json()
    attempts, sent = shown.pop("attempts"), shown.pop("body")
    assert shown == item
    assert json.loads(sent)["data"]["jobId"] == job == item["jobId"]
    assert (item["status"], item["attemptCount"], item["lastStatus"]) == ("pending", 2, 500)
    assert (item["lastError"], item["endedAt"], item["account"]) == ("HTTP 500", None, "acc_1")
    assert item["nextAttemptAt"] > item["createdAt"] == item["eventAt"]
    assert [attempt["number"] for attempt in attempts] == [2, 1]
    for attempt in attempts:
        assert set(attempt) == {
            "number", "at", "status", "durationMs", "responseHeaders", "responseBody", "error", "counted",
        }  # fmt: skip
        assert (attempt["status"], attempt["error"], attempt["counted"]) == (500, "HTTP 500", True)
        assert attempt["durationMs"] >= 0
        assert attempt["responseBody"] == body
        assert headers.items() <= attempt["responseHeaders"].items()


async def test_what_is_under_way_and_what_did_not_count_is_told(client: httpx2.AsyncClient, database: Database) -> None:
    await put_endpoint(database)
    await put_events(database, "JobFailed")
    await run(
        database,
        """
        insert into attempts (org_id, delivery_id, endpoint_id, number, error, counts, ended_at)
        select 'org_default', id, endpoint_id, 1, error, error is null, case when error is not null then now() end
        from deliveries, unnest(array['no network', null]) with ordinality as tried (error, place)
        order by place
        """,
    )
    await run(database, "update deliveries set state = 'sending', attempts = 1")
    [item] = (await client.get("/webhooks/whe_1/deliveries?status=sending")).json()["items"]
    assert item["nextAttemptAt"] is None
    now, before = (await client.get(f"/deliveries/{item['id']}")).json()["attempts"]
    assert (now["number"], now["status"], now["error"], now["durationMs"]) == (1, None, None, None)
    assert (before["number"], before["error"], before["counted"]) == (1, "no network", False)
    assert before["responseHeaders"] == {}


async def test_a_delivery_outlives_its_event(client: httpx2.AsyncClient, database: Database) -> None:
    await put_endpoint(database)
    await put_events(database, "JobFailed", job="job_1")
    await end(database, "failed")
    await run(database, "delete from outbox")
    [item] = (await client.get("/webhooks/whe_1/deliveries?type=JobFailed")).json()["items"]
    assert (item["type"], item["jobId"]) == ("JobFailed", None)
    shown = (await client.get(f"/deliveries/{item['id']}")).json()
    assert (shown["body"], shown["attempts"]) == (None, [])


# --- replays -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [204, 500])
async def test_a_replay_is_sent_at_once_with_as_many_attempts_as_a_new_one(
    client: httpx2.AsyncClient, database: Database, code: int
) -> None:
    async with receiving(*[lambda: Response(status_code=code)] * 4) as (url, scripted), working(database) as work:
        await add_endpoint(database, url, '{"attempts": 2, "baseSeconds": 1, "factor": 1}')
        await send_one(database)
        ended = "delivered" if code == 204 else "failed"
        for replays in range(2):
            for _ in range(2):
                await drain_once(database, work)
                await make_due(database)
            [item] = (await client.get("/webhooks/whe_1/deliveries")).json()["items"]
            assert (item["status"], item["endedAt"] is None) == (ended, False)
            assert item["attemptCount"] == len(scripted.got) == (replays + 1) * (1 if code == 204 else 2)
            await run(database, "delete from procrastinate_jobs")
            answer = await client.post(f"/deliveries/{item['id']}/replay")
            assert (answer.status_code, answer.json()["status"], answer.json()["endedAt"]) == (202, "pending", None)
            assert await rows(database, "select lock from procrastinate_jobs") == [("whe_1",)]
            assert await value(database, "select due_at <= now() from deliveries")
    assert len({headers["webhook-id"] for headers, _ in scripted.got}) == 1
    numbers = [attempt["number"] for attempt in (await client.get(f"/deliveries/{item['id']}")).json()["attempts"]]
    assert numbers == list(range(len(scripted.got), 0, -1))


async def test_what_cannot_be_replayed_is_409_and_says_why(client: httpx2.AsyncClient, database: Database) -> None:
    await put_endpoint(database)
    await put_events(database, "JobFailed")
    [(delivery,)] = await rows(database, "select id from deliveries")

    async def refused(*words: str) -> None:
        before = await rows(database, "select deliveries::text from deliveries")
        one = await client.post(f"/deliveries/{delivery}/replay")
        assert (one.status_code, one.json()["code"]) == (409, "conflict")
        some = await client.post("/webhooks/whe_1/replay", json={"deliveries": [delivery]})
        assert (some.status_code, some.json()["items"][0]["status"]) == (200, 409)
        for detail in (one.json()["detail"], some.json()["items"][0]["detail"]):
            assert all(word in detail for word in words), detail
        assert await rows(database, "select deliveries::text from deliveries") == before

    await refused(delivery, "is pending")
    await end(database, "sending")
    await refused(delivery, "is sending")
    await end(database, "failed")
    await run(database, "update endpoints set status = 'disabled'")
    await refused("whe_1", "is disabled", "enable it first")
    await run(database, "update endpoints set status = 'enabled', deleted_at = now()")
    await refused("whe_1", "is deleted")
    await run(database, "update endpoints set deleted_at = null")
    await run(database, "delete from outbox")
    await refused("evt_", "past its retention")


async def test_one_of_a_paused_endpoint_waits(client: httpx2.AsyncClient, database: Database) -> None:
    await put_endpoint(database)
    await put_events(database, "JobFailed")
    await end(database, "delivered")
    await run(database, "update endpoints set status = 'paused'")
    [(delivery,)] = await rows(database, "select id from deliveries")
    assert (await client.post(f"/deliveries/{delivery}/replay")).status_code == 202


async def test_of_many_replays_at_once_one_is_done(client: httpx2.AsyncClient, database: Database) -> None:
    await put_endpoint(database)
    await put_events(database, "JobFailed")
    await end(database, "failed")
    [(delivery,)] = await rows(database, "select id from deliveries")
    answers = await asyncio.gather(*(client.post(f"/deliveries/{delivery}/replay") for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [202] + [409] * 7


async def test_a_selection_is_answered_one_by_one(client: httpx2.AsyncClient, database: Database) -> None:
    await put_endpoint(database)
    await put_endpoint(database, "whe_2")
    await put_events(database, "JobFailed", 4)
    await end(database, "failed")
    (waiting,), *some = await rows(database, "select id from deliveries where endpoint_id = 'whe_1'")
    failed = [row[0] for row in some]
    [(other,)] = await rows(database, "select min(id) from deliveries where endpoint_id = 'whe_2'")
    await run(database, "update deliveries set state = 'pending', ended_at = null where id = %s", waiting)
    wanted = [failed[2], waiting, other, failed[0], "dlv_none", failed[0]]
    answer = await client.post("/webhooks/whe_1/replay", json={"deliveries": wanted})
    items = answer.json()["items"]
    assert [item["status"] for item in items] == [202, 409, 404, 202, 404, 202]
    assert [item.get("deliveryId") for item in items] == [failed[2], None, None, failed[0], None, failed[0]]
    assert set(items[1]) == {"status", "code", "detail", "errors"}
    assert other in items[2]["detail"]
    again = await rows(database, "select id from deliveries where state = 'pending' order by id")
    assert [row[0] for row in again] == sorted([waiting, failed[2], failed[0]])


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "deliveries"),
        ({"deliveries": []}, "deliveries"),
        ({"deliveries": "dlv_1"}, "deliveries"),
        ({"deliveries": [1]}, "deliveries.0"),
        ({"deliveries": ["x" * 101]}, "deliveries.0"),
        ({"deliveries": [f"dlv_{number:032}" for number in range(1001)]}, "deliveries"),
        ({"deliveries": ["dlv_1"], "force": True}, "force"),
    ],
    ids=["missing", "empty", "text", "number", "long", "1001", "unknown"],
)
async def test_a_bad_selection_is_refused(
    client: httpx2.AsyncClient, database: Database, body: dict[str, object], field: str
) -> None:
    await put_endpoint(database)
    answer = await client.post("/webhooks/whe_1/replay", json=body)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)


async def test_the_largest_selection_fits(client: httpx2.AsyncClient, database: Database) -> None:
    await put_endpoint(database)
    await put_events(database, "JobFailed", 1000)
    await end(database, "failed")
    wanted = [row[0] for row in await rows(database, "select id from deliveries")]
    answer = await client.post("/webhooks/whe_1/replay", json={"deliveries": wanted})
    assert {item["status"] for item in answer.json()["items"]} == {202}
    assert await value(database, "select count(*) from deliveries where state = 'pending'") == 1000


# --- replays and retention ---------------------------------------------------------------------------------------


async def old_one(database: Database) -> str:
    """Have a failed delivery whose event is over age; return its id."""
    await put_endpoint(database)
    await put_events(database, "JobFailed")
    await end(database, "failed")
    for column in ("outbox set created_at", "deliveries set event_at"):
        await run(database, f"update {column} = date_trunc('month', now()) - interval '2 days'")
    return str(await value(database, "select id from deliveries"))


async def test_retention_leaves_the_event_of_a_replay_alone(client: httpx2.AsyncClient, database: Database) -> None:
    delivery = await old_one(database)
    async with database.transaction() as tx:
        await tx.all("replay_deliveries", org="org_default", endpoint=None, deliveries=[delivery])
        assert await value(database, FORGET) == 0, "it is locked"
    assert await value(database, FORGET) == 0, "it is to be delivered"
    assert await value(database, "select count(*) from outbox") == 1
    assert (await client.get(f"/deliveries/{delivery}")).json()["status"] == "pending"


async def test_a_replay_waits_for_retention_and_then_is_refused(client: httpx2.AsyncClient, database: Database) -> None:
    delivery = await old_one(database)
    async with asyncio.TaskGroup() as group, database.transaction() as tx:
        cursor = await tx.connection.execute(FORGET)
        assert await cursor.fetchone() == (1,)
        replay = group.create_task(client.post(f"/deliveries/{delivery}/replay"))
        await waits_for_a_lock(database)
    assert (replay.result().status_code, "past its retention" in replay.result().json()["detail"]) == (409, True)
    assert await value(database, "select state from deliveries") == "failed"
