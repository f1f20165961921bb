"""Endpoints that a person pauses, disables and tests, and those that their receivers disable."""

import json
import logging
from collections.abc import AsyncIterator

import httpx2
import psycopg
import pytest
from fixtures_api import api, rows
from fixtures_deliveries import receiving
from fixtures_endpoints import deliver, delivering, happen, register
from fixtures_history import run
from fixtures_lanes import value
from fixtures_webhooks import put_endpoint, put_events, put_org
from starlette.responses import Response

from api.webhooks import endpoints
from sql.database import Database
from tasks.delivery.lane import DeliveryWork
from tasks.pulse import Pulse

STATES = "select string_agg(state || coalesce(': ' || last_error, ''), ', ' order by created_at, id) from deliveries"
WOKEN = """
    select coalesce(array_agg(queueing_lock order by queueing_lock collate "C"), '{}')
    from procrastinate_jobs where status = 'todo'
"""
GATE = "select case when open_at <= now() then 'open' else open_at || ' ' || gate_reason end from lanes where id = %s"
FORGET_WAKEUPS = "delete from procrastinate_jobs returning id"


@pytest.fixture
async def client(database_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with api(database_url) as client:
        yield client


@pytest.fixture
async def work(database: Database) -> AsyncIterator[DeliveryWork]:
    async with delivering(database) as work:
        yield work


async def beat(database_url: str) -> None:
    """Let the pulse beat once."""
    pulse = Pulse(database_url, 900)
    await pulse.run_once()
    await pulse.close()


# --- by a person -------------------------------------------------------------------------------------------------

#: status before, what is asked for, status after; or the words with which it is refused.
STEPS = [
    ("enabled", "pause", "paused", None),
    ("enabled", "resume", "enabled", None),
    ("enabled", "disable", "disabled", None),
    ("enabled", "enable", "enabled", None),
    ("paused", "pause", "paused", None),
    ("paused", "resume", "enabled", None),
    ("paused", "disable", "disabled", None),
    ("paused", "enable", "paused", "is paused: resume it instead."),
    ("disabled", "pause", "disabled", "is disabled: enable it first."),
    ("disabled", "resume", "disabled", "is disabled: enable it instead."),
    ("disabled", "disable", "disabled", None),
    ("disabled", "enable", "enabled", None),
]
REASONS = {"enabled": None, "paused": "It was paused by hand.", "disabled": "It was disabled by hand."}
GATES = {"enabled": "open", "paused": "infinity paused", "disabled": "infinity disabled"}
WAYS = {"enabled": [], "paused": ["pause"], "disabled": ["pause", "disable"]}


async def test_each_step_leads_where_the_table_says(client: httpx2.AsyncClient, database: Database) -> None:
    for before, step, after, refused in STEPS:
        endpoint = await register(client)
        path = f"/webhooks/{endpoint['id']}"
        for way in WAYS[before]:
            assert (await client.post(f"{path}/{way}")).status_code == 200
        await rows(database, FORGET_WAKEUPS)
        answer = await client.post(f"{path}/{step}")
        shown = (await client.get(path)).json()
        assert (shown["status"], shown["statusReason"]) == (after, REASONS[after]), (before, step)
        assert await value(database, GATE, endpoint["id"]) == GATES[after]
        if refused:
            assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
            assert answer.json()["detail"] == f"{endpoint['id']} {refused}"
        else:
            assert (answer.status_code, answer.json()) == (200, shown)
        assert await value(database, WOKEN) == ([endpoint["id"]] if after == "enabled" else [])
    assert await rows(database, "select from outbox") == [], "nobody is told of what a person did"


async def test_a_switch_of_nothing_or_with_a_body_is_refused(client: httpx2.AsyncClient) -> None:
    endpoint = await register(client)
    for step in ("pause", "resume", "disable", "enable", "test"):
        assert (await client.post(f"/webhooks/whe_none/{step}")).status_code == 404
        refused = await client.post(f"/webhooks/{endpoint['id']}/{step}", json={"reason": "x"})
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "reason")
    assert (await client.get(f"/webhooks/{endpoint['id']}")).json()["status"] == "enabled"


async def test_events_wait_while_an_endpoint_is_paused(
    client: httpx2.AsyncClient, database: Database, database_url: str, work: DeliveryWork
) -> None:
    async with receiving() as (url, scripted):
        endpoint = (await register(client, url))["id"]
        await happen(client, "before")
        await client.post(f"/webhooks/{endpoint}/pause")
        await rows(database, FORGET_WAKEUPS)
        await happen(client, "meanwhile")
        await beat(database_url)
        assert await value(database, WOKEN) == []
        assert await deliver(database, work, endpoint) == 0
        assert await value(database, STATES) == "pending, pending"
        await client.post(f"/webhooks/{endpoint}/resume")
        assert await value(database, WOKEN) == [endpoint]
        assert await deliver(database, work, endpoint) == 2
    assert [json.loads(body)["data"]["jobId"] for _, body in scripted.got] == ["before", "meanwhile"]


async def test_none_are_kept_while_an_endpoint_is_disabled(
    client: httpx2.AsyncClient, database: Database, work: DeliveryWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints, "FAILED_AT_ONCE", 2)
    async with receiving() as (url, scripted):
        endpoint, other = [(await register(client, url))["id"] for _ in range(2)]
        await happen(client, *"abcde")
        await client.post(f"/webhooks/{endpoint}/disable")
        failed = "select count(*) from deliveries where endpoint_id = %s and state = 'failed' and ended_at <= now()"
        assert await value(database, failed, endpoint) == 5
        assert await value(database, failed, other) == 0
        errors = "select distinct last_error from deliveries where endpoint_id = %s"
        assert await value(database, errors, endpoint) == "The endpoint is disabled. It was disabled by hand."
        await happen(client, "f")
        await client.post(f"/webhooks/{endpoint}/enable")
        await happen(client, "g")
        assert await deliver(database, work, endpoint) == 1
        assert await deliver(database, work, other) == 7
    assert json.loads(scripted.got[0][1])["data"]["jobId"] == "g"


@pytest.mark.parametrize("step", ["disable", "delete"])
async def test_an_event_that_is_being_written_meanwhile_has_failed_soon(
    client: httpx2.AsyncClient, database: Database, database_url: str, work: DeliveryWork, step: str
) -> None:
    endpoint = (await register(client))["id"]
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        await connection.execute("select record_event('org_default', 'JobFailed', '{}', null, null, 0)")
        answer = await (client.delete(f"/webhooks/{endpoint}") if step == "delete" else _post(client, endpoint, step))
        assert answer.is_success
        await connection.commit()
    assert await deliver(database, work, endpoint) == 0
    await beat(database_url)
    reason = "was deleted." if step == "delete" else "is disabled. It was disabled by hand."
    assert await value(database, STATES) == f"failed: The endpoint {reason}"


async def _post(client: httpx2.AsyncClient, endpoint: str, step: str) -> httpx2.Response:
    return await client.post(f"/webhooks/{endpoint}/{step}")


async def test_what_waited_when_it_was_disabled_does_not_go_out_when_it_is_enabled(
    client: httpx2.AsyncClient, database: Database, work: DeliveryWork
) -> None:
    endpoint = (await register(client))["id"]
    await _post(client, endpoint, "disable")
    await rows(database, "update endpoints set status = 'enabled' returning id")
    await happen(client, "late")
    await rows(database, "update endpoints set status = 'disabled' returning id")
    await _post(client, endpoint, "enable")
    assert await deliver(database, work, endpoint) == 0
    assert str(await value(database, STATES)).startswith("failed")


async def test_an_endpoint_of_another_org_is_not_touched(client: httpx2.AsyncClient, database: Database) -> None:
    await put_org(database, "org_other")
    await put_endpoint(database, "whe_other", org="org_other")
    await put_events(database, "JobFailed", org="org_other")
    await run(database, "update endpoints set status = 'disabled' where id = 'whe_other'")
    for step in ("pause", "resume", "disable", "enable", "test"):
        assert (await _post(client, "whe_other", step)).status_code == 404
    assert await value(database, STATES) == "pending"


# --- test events -------------------------------------------------------------------------------------------------


async def test_a_test_event_goes_to_this_endpoint_alone(
    client: httpx2.AsyncClient, database: Database, work: DeliveryWork
) -> None:
    async with receiving() as (url, scripted):
        endpoint = (await register(client, url, events=["JobFailed"]))["id"]
        await register(client, url)
        await rows(database, FORGET_WAKEUPS)
        answer = await _post(client, endpoint, "test")
        assert answer.status_code == 202
        assert await value(database, WOKEN) == [endpoint]
        written = "select event_id, id, endpoint_id, state from deliveries"
        assert await rows(database, written) == [
            (answer.json()["eventId"], answer.json()["deliveryId"], endpoint, "pending")
        ]
        assert await deliver(database, work, endpoint) == 1
    [(headers, body)] = scripted.got
    event = json.loads(body)
    assert headers["webhook-id"] == answer.json()["eventId"]
    assert (event["type"], event["data"]) == ("WebhookTest", {"endpoint": endpoint})
    assert body == json.dumps(event, separators=(",", ":")).encode(), "minified"


async def test_a_test_event_waits_with_the_others_and_is_refused_when_none_are_kept(
    client: httpx2.AsyncClient, database: Database, work: DeliveryWork
) -> None:
    endpoint = (await register(client))["id"]
    await _post(client, endpoint, "pause")
    assert (await _post(client, endpoint, "test")).status_code == 202
    assert await deliver(database, work, endpoint) == 0
    await _post(client, endpoint, "disable")
    refused = await _post(client, endpoint, "test")
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert "enable it first" in refused.json()["detail"]
    assert len(await rows(database, "select from outbox")) == 1


# --- by its receiver ---------------------------------------------------------------------------------------------


async def test_410_disables_an_endpoint_and_the_others_are_told(
    client: httpx2.AsyncClient,
    database: Database,
    database_url: str,
    work: DeliveryWork,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    async with receiving(lambda: Response(status_code=410)) as (url, scripted):
        gone = (await register(client, url))["id"]
        told, paused, disabled, unasked = [
            (await register(client, url, events=[type_]))["id"] for type_ in ("WebhookDisabled", "*", "*", "JobFailed")
        ]
        await _post(client, paused, "pause")
        await _post(client, disabled, "disable")
        await rows(database, "insert into orgs (org_id, name) values ('org_other', 'Other') returning org_id")
        await rows(
            database,
            "with lane as (insert into lanes (id, org_id, kind, queue) values ('whe_x', 'org_other', 'endpoint', 'x')) "
            "insert into endpoints (id, org_id, url, events, secret) values ('whe_x', 'org_other', 'x', '{*}', '') "
            "returning id",
        )
        await happen(client, "a", "b")
        await rows(database, FORGET_WAKEUPS)
        await rows(database, "update endpoints set in_flight = 1 returning id")
        assert await deliver(database, work, gone) == 1, "its gate is closed"
        assert await value(database, WOKEN) == [told]
        await beat(database_url)
        assert await deliver(database, work, told) == 1
    event = json.loads(scripted.got[-1][1])
    assert event["type"] == "WebhookDisabled"
    assert event["data"] == {"endpoint": gone, "reason": "It answered 410 Gone."}
    assert await rows(
        database,
        "select endpoint_id from deliveries join outbox on outbox.id = event_id where outbox.type = 'WebhookDisabled' "
        'order by endpoint_id collate "C"',
    ) == [(one,) for one in sorted([told, paused])], f"not {gone}, {disabled}, {unasked}, nor another org's"
    shown = (await client.get(f"/webhooks/{gone}")).json()
    assert (shown["status"], shown["statusReason"]) == ("disabled", "It answered 410 Gone.")
    assert await value(database, GATE, gone) == "infinity disabled"
    waiting = (
        "select string_agg(state || ' ' || last_error, ', ' order by last_error) from deliveries where endpoint_id = %s"
    )
    assert await value(database, waiting, gone) == (
        "failed HTTP 410, failed The endpoint is disabled. It answered 410 Gone."
    )
    assert f"endpoint {gone} is disabled: It answered 410 Gone." in caplog.text
    changed = await client.patch(f"/webhooks/{gone}", json={"url": "http://other.test/"})
    assert (changed.json()["url"], changed.json()["status"]) == ("http://other.test/", "disabled")


@pytest.mark.parametrize("meanwhile", ["disable", "change", "delete"])
async def test_a_410_that_is_late_changes_nothing(
    client: httpx2.AsyncClient, database: Database, work: DeliveryWork, meanwhile: str
) -> None:
    """Somebody was faster, or it was the answer of an URL that is the endpoint's no more."""
    other = await register(client, events=["WebhookDisabled"])
    status: list[object] = []

    async def act() -> None:
        await {
            "disable": lambda: _post(client, endpoint, "disable"),
            "change": lambda: client.patch(f"/webhooks/{endpoint}", json={"url": "http://new.test/"}),
            "delete": lambda: client.delete(f"/webhooks/{endpoint}"),
        }[meanwhile]()
        status.extend(await rows(database, f"select status, status_reason from endpoints where id = '{endpoint}'"))

    async with receiving(lambda: Response(status_code=410)) as (url, scripted):
        endpoint = (await register(client, url))["id"]
        await happen(client, "a")
        scripted.meanwhile = act
        assert await deliver(database, work, endpoint) == 1
    assert await rows(database, f"select status, status_reason from endpoints where id = '{endpoint}'") == status
    assert await rows(database, "select from outbox where type = 'WebhookDisabled'") == []
    assert await value(database, "select count(*) from deliveries where endpoint_id = %s", other["id"]) == 0


async def test_an_endpoint_is_disabled_and_told_of_in_one_transaction(
    client: httpx2.AsyncClient, database: Database, work: DeliveryWork, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    async with receiving(lambda: Response(status_code=410)) as (url, _):
        endpoint = (await register(client, url))["id"]
        await register(client)
        await happen(client, "a")
        async with database.transaction() as tx:
            await tx.connection.execute(
                "alter table outbox add constraint no_more check (type <> 'WebhookDisabled') not valid"
            )
        with pytest.raises(psycopg.errors.CheckViolation):
            await deliver(database, work, endpoint)
    assert (await client.get(f"/webhooks/{endpoint}")).json()["status"] == "enabled"
    assert await value(database, GATE, endpoint) == "open"
