"""Metrics: what waits, by why it waits; what came of requests; and who may see them."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from fixtures_api import ADMIN_KEY, client_of, running, settings
from fixtures_deliveries import add_endpoint, drain_once, make_due, receiving, send_one, working
from fixtures_history import run
from fixtures_lanes import value
from fixtures_webhooks import put_endpoint, put_events
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.responses import Response

from api.operator import metrics
from commands.worker import health_app
from sql.database import Database
from tasks.delivery.request import Answer
from tasks.delivery.request_metrics import outcome
from tasks.metrics import WORKER

FAR = "203.0.113.9"


@pytest.fixture
async def app(database_url: str) -> AsyncIterator[Starlette]:
    async with running(database_url) as app:
        yield app


def read(text: str) -> dict[str, float]:
    """Return samples by their names and labels."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={text}" for name, text in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


OLDEST = "select extract(epoch from now() - min(due_at))::float from deliveries where state = 'pending'"


async def test_what_waits_is_counted_by_why_it_waits(app: Starlette, database: Database) -> None:
    names = ("due", "later", "resting", "paused", "disabled", "deleted")
    for name in names:
        await put_endpoint(database, f"whe_{name}")
    await run(database, "update endpoints set status = 'paused' where id = 'whe_paused'")
    await put_events(database, "JobCompleted", 3)
    await run(database, "update deliveries set due_at = now() - interval '90 seconds'")
    await run(database, "update deliveries set due_at = now() + interval '1 hour' where endpoint_id = 'whe_later'")
    await run(database, "update lanes set open_at = now() + interval '1 hour' where id = 'whe_resting'")
    failed = "update deliveries set state = 'failed', last_error = 'x', ended_at = now() where endpoint_id = any (%s)"
    await run(database, failed, ["whe_disabled", "whe_deleted"])
    await run(database, "update endpoints set status = 'disabled' where id = 'whe_disabled'")
    await run(database, "update endpoints set deleted_at = now() where id = 'whe_deleted'")
    before = await value(database, OLDEST)
    async with client_of(app) as client:
        answer = await client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    seen = read(answer.text)
    waiting = {name: seen[f"postrider_webhook_deliveries_waiting{{reason={name}}}"] for name in names[:4]}
    assert waiting == {"due": 3, "later": 3, "resting": 3, "paused": 3}
    assert 90 <= before <= seen["postrider_webhook_oldest_due_seconds"] <= await value(database, OLDEST)
    endpoints = [seen[f"postrider_webhook_endpoints{{status={name}}}"] for name in ("enabled", "paused", "disabled")]
    assert endpoints == [3, 1, 1]
    assert seen["process_resident_memory_bytes"] > 1e6
    assert not [name for name in seen if "attempt" in name or "_created" in name], "a worker's"


async def test_a_backlog_is_counted_up_to_a_bound(
    app: Starlette, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "MOST_COUNTED", 7)
    await put_endpoint(database, "whe_a")
    await put_events(database, "JobCompleted", 20)
    await run(
        database,
        "update deliveries set due_at = now() + interval '1 hour' "
        "where id in (select id from deliveries order by id limit 5)",
    )
    await run(database, "update deliveries set due_at = due_at - interval '90 seconds' where due_at <= now()")
    async with client_of(app) as client:
        seen = read((await client.get("/metrics")).text)
    assert seen["postrider_webhook_deliveries_waiting{reason=due}"] == 7
    assert seen["postrider_webhook_deliveries_waiting{reason=later}"] == 5
    assert seen["postrider_unserved_work{duty=webhooks}"] == 7
    assert seen["postrider_webhook_oldest_due_seconds"] >= 90


async def test_where_nothing_waits_it_says_so(app: Starlette) -> None:
    async with client_of(app) as client:
        seen = read((await client.get("/metrics")).text)
    assert seen["postrider_webhook_deliveries_waiting{reason=due}"] == 0
    assert seen["postrider_webhook_oldest_due_seconds"] == 0


WHO = [
    ("127.0.0.1", {}, 200),
    ("::1", {}, 200),
    ("127.0.0.1", {"x-forwarded-for": FAR}, 401),
    ("127.0.0.1", {"forwarded": f"for={FAR}"}, 401),
    ("127.0.0.1", {"via": "1.1 proxy"}, 401),
    (FAR, {}, 401),
    (FAR, {"x-admin-key": "wrong"}, 401),
    (FAR, {"x-forwarded-for": "127.0.0.1"}, 401),
    (FAR, {"x-admin-key": ADMIN_KEY}, 200),
    ("127.0.0.1", {"x-forwarded-for": FAR, "x-admin-key": ADMIN_KEY}, 200),
    ("testclient", {}, 401),
]


@pytest.mark.parametrize(("address", "headers", "status"), WHO)
async def test_they_are_for_the_operator(app: Starlette, address: str, headers: dict[str, str], status: int) -> None:
    worker = health_app(None, settings())  # type: ignore[arg-type]  # its metrics need none
    for served in (app, worker):
        async with client_of(served, address) as client:
            answer = await client.get("/metrics", headers=headers)
        assert answer.status_code == status
        assert answer.headers["x-request-id"]


async def test_the_oldest_row_of_each_table_is_shown(app: Starlette, database: Database) -> None:
    await put_endpoint(database, "whe_a")
    await put_events(database, "JobCompleted", 1)
    for table, column in (("outbox", "created_at"), ("deliveries", "event_at")):
        await run(database, f"update {table} set {column} = {column} - interval '1 hour'")
    async with client_of(app) as client:
        seen = read((await client.get("/metrics")).text)
    oldest = {name: seconds for name, seconds in seen.items() if name.startswith("postrider_oldest_row_seconds")}
    assert list(oldest) == ["postrider_oldest_row_seconds{table=outbox}"]
    assert 3600 <= oldest["postrider_oldest_row_seconds{table=outbox}"] < 3700


async def test_behind_a_proxy_everybody_is_on_this_machine_and_needs_the_key(database_url: str) -> None:
    worker = health_app(None, settings(trust_proxy_hops=1))  # type: ignore[arg-type]  # as above
    async with running(database_url, trust_proxy_hops=1) as app:
        for served in (app, worker):
            async with client_of(served) as client:
                assert (await client.get("/metrics")).status_code == 401
                assert (await client.get("/metrics", headers={"x-admin-key": ADMIN_KEY})).status_code == 200


async def test_without_admin_key_only_this_machine_sees_them(database_url: str) -> None:
    async with running(database_url, admin_key=None) as app:
        for address, status in (("127.0.0.1", 200), (FAR, 403)):
            async with client_of(app, address) as client:
                assert (await client.get("/metrics")).status_code == status


def counted() -> dict[str, float]:
    return {
        f"{sample.name} {' '.join(sample.labels.values())}".strip(): sample.value
        for family in WORKER.collect()
        for sample in family.samples
        if sample.name.endswith(("_total", "_count", "_sum"))
    }


async def test_a_worker_counts_what_came_of_its_requests(database: Database) -> None:
    before = counted()
    failing = [lambda: Response(status_code=500), lambda: Response(status_code=404)]
    async with receiving(*failing) as (url, _), working(database) as work:
        await add_endpoint(database, url)
        await send_one(database)
        for _ in range(3):
            await drain_once(database, work)
            await make_due(database)
    after = counted()
    grown: dict[str, Any] = {name: count - before.get(name, 0) for name, count in after.items()}
    assert grown["postrider_webhook_attempts_total 5xx"] == 1
    assert grown["postrider_webhook_attempts_total 4xx"] == 1
    assert grown["postrider_webhook_attempts_total 2xx"] == 1
    assert grown["postrider_webhook_deliveries_ended_total delivered"] == 1
    assert grown["postrider_webhook_attempt_seconds_count"] == 3
    assert grown["postrider_webhook_lag_seconds_count"] == 1, "of the first request alone"
    age = await value(database, "select extract(epoch from now() - created_at)::float from outbox")
    assert 0 <= grown["postrider_webhook_lag_seconds_sum"] <= age


def test_each_outcome_has_a_name() -> None:
    answers = [
        Answer(204, None), Answer(302, "HTTP 302"), Answer(404, "HTTP 404"), Answer(503, "HTTP 503"),
        Answer(None, "timeout", timed_out=True), Answer(None, "ReadError"), Answer(None, "no network", counts=False),
    ]  # fmt: skip
    assert [outcome(answer) for answer in answers] == [
        "2xx", "3xx", "4xx", "5xx", "timeout", "no_answer", "own_fault",
    ]  # fmt: skip
