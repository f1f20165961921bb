from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import httpx2
import pytest
from fixtures_api import api, rows
from fixtures_lanes import AS, add_jobs, add_worker

from sql.database import Database

LIMITS = {"pace_per_minute": 5, "pace_per_hour": 8, "pace_per_day": 10, "pace_ramp_start": 0}
#: Where it is about noon, so that no midnight comes within a test.
ZONE = f"Etc/GMT{datetime.now(UTC).hour - 12:+d}"


@pytest.fixture
async def client(database: Database, database_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    await add_worker(database)
    async with api(database_url, **LIMITS) as client:
        yield client


async def new_account(client: httpx2.AsyncClient, **fields: str) -> str:
    answer = await client.post("/accounts", json={"name": "Shop", "timeZone": ZONE, **fields})
    assert answer.status_code == 201, answer.text
    await client.post(f"/accounts/{answer.json()['id']}/connect")
    return str(answer.json()["id"])


async def change(database: Database, statement: str, *values: object) -> None:
    async with database.transaction() as tx:
        await tx.connection.execute(statement, values or None)


async def add_sent(database: Database, account: str, count: int) -> None:
    """Add messages that were submitted right now."""
    for job in await add_jobs(database, account, count, wake=False):
        await change(database, f"update jobs set {AS['sent']}, submitted_at = now() where id = %s", job)


async def health(client: httpx2.AsyncClient, account: str) -> dict[str, Any]:
    answer = await client.get(f"/accounts/{account}/health")
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


async def test_health_tells_what_is_used_and_left_and_when_the_next_message_may_go(
    client: httpx2.AsyncClient, database: Database
) -> None:
    account = await new_account(client)
    await change(database, "update accounts set state = 'ready'")
    await add_sent(database, account, 3)
    await change(database, "update jobs set submitted_at = now() - interval '61 s' where phone = '15551'")
    shown = await health(client, account)
    resets_at = shown["pace"]["day"].pop("resetsAt")
    next_send_at = shown.pop("nextSendAt")
    assert shown == {
        "account": account, "health": "healthy", "reasons": [], "state": "ready",
        "restriction": None, "restrictedUntil": None, "nextSendReason": None,
        "pace": {
            "enabled": True, "timeZone": ZONE, "quietHours": None,
            "minute": {"limit": 5, "used": 2, "left": 3},
            "hour": {"limit": 8, "used": 3, "left": 5},
            "day": {"limit": 10, "used": 3, "left": 7},
        },
    }  # fmt: skip
    midnight = datetime.fromisoformat(resets_at).astimezone(ZoneInfo(ZONE))
    assert (midnight.hour, midnight.minute, midnight.second) == (0, 0, 0)
    now, sent_at = (await rows(database, "select now(), max(submitted_at) from jobs"))[0]
    assert sent_at <= datetime.fromisoformat(next_send_at).astimezone(sent_at.tzinfo).replace(microsecond=999999)
    assert datetime.fromisoformat(next_send_at) <= now


async def test_a_full_window_is_named_with_its_end(client: httpx2.AsyncClient, database: Database) -> None:
    account = await new_account(client)
    await add_sent(database, account, 5)
    (job,) = await add_jobs(database, account, phone="1777", wake=False)
    shown = await health(client, account)
    (opens,) = await rows(
        database, "select iso(min(submitted_at) + interval '1 minute') from jobs where state = 'sent'"
    )
    assert (shown["nextSendAt"], shown["nextSendReason"]) == (opens[0], "pace_minute")
    assert shown["pace"]["minute"] == {"limit": 5, "used": 5, "left": 0}
    # No worker has closed the gate yet: the account says so all the same.
    assert (await client.get(f"/accounts/{account}")).json()["nextSendAt"] == opens[0]
    await change(database, "update jobs set due_at = '9999-01-01' where id = %s", job)
    assert (await client.get(f"/accounts/{account}")).json()["nextSendAt"] == "9999-01-01T00:00:00.000Z"


async def test_a_closed_gate_is_named_before_a_window_that_opens_earlier(
    client: httpx2.AsyncClient, database: Database
) -> None:
    account = await new_account(client)
    await add_sent(database, account, 5)
    await add_jobs(database, account, phone="1777", wake=False)
    await change(database, "update lanes set open_at = '9999-01-01', gate_reason = 'offline'")
    shown = await health(client, account)
    assert (shown["nextSendAt"], shown["nextSendReason"]) == ("9999-01-01T00:00:00.000Z", "offline")
    await client.post(f"/accounts/{account}/pause")
    shown = await health(client, account)
    assert (shown["nextSendAt"], shown["nextSendReason"]) == (None, "paused")
    await client.post(f"/accounts/{account}/resume")
    await change(database, "update orgs set paused_at = now()")
    shown = await health(client, account)
    assert (shown["nextSendAt"], shown["nextSendReason"]) == (None, "org_paused")
    assert (await client.get(f"/accounts/{account}")).json()["nextSendAt"] is None


@pytest.mark.parametrize(("used", "level"), [(6, "healthy"), (7, "warning"), (9, "warning"), (10, "critical")])
async def test_health_warns_from_70_percent_and_is_critical_above_90(
    client: httpx2.AsyncClient, database: Database, used: int, level: str
) -> None:
    account = await new_account(client)
    await change(database, "update accounts set state = 'hibernated'")
    await add_sent(database, account, used)
    shown = await health(client, account)
    assert shown["health"] == level
    assert [reason["code"] for reason in shown["reasons"]] == ([] if level == "healthy" else ["daily_limit"])
    if shown["reasons"]:
        assert f"has sent {used} of the 10 messages" in shown["reasons"][0]["detail"]
    account_shown = (await client.get(f"/accounts/{account}")).json()
    assert (account_shown["health"], account_shown["dailyLimit"]) == (level, 10)


async def test_health_is_critical_when_an_account_should_be_connected_and_is_not(
    client: httpx2.AsyncClient, database: Database
) -> None:
    account = await new_account(client)
    await add_sent(database, account, 7)
    for state in ("disconnected", "auth_failed", "suspected_ban", "banned", "circuit_open"):
        await change(database, "update accounts set state = %s", state)
        shown = await health(client, account)
        assert shown["health"] == "critical"
        assert [reason["health"] for reason in shown["reasons"]] == ["critical", "warning"]
        assert state in shown["reasons"][0]["detail"]
    await change(database, "update accounts set wanted = 'disconnected'")
    assert (await health(client, account))["health"] == "warning"


async def test_without_pace_nothing_limits(client: httpx2.AsyncClient, database: Database) -> None:
    account = await new_account(client, transport="sandbox")
    await change(database, "update accounts set state = 'ready'")
    await add_sent(database, account, 20)
    shown = await health(client, account)
    assert shown["health"] == "healthy"
    assert shown["pace"]["enabled"] is False
    assert shown["pace"]["minute"] == {"limit": None, "used": 20, "left": None}
    assert (await client.get(f"/accounts/{account}")).json()["dailyLimit"] is None


async def test_quiet_hours_are_shown(database_url: str, database: Database) -> None:
    async with api(database_url, **LIMITS, quiet_hours="00:00-23:59") as client:
        account = await new_account(client)
        shown = await health(client, account)
        quiet = shown["pace"]["quietHours"]
        (until,) = await rows(database, "select iso(quiet_until(now(), '00:00', '23:59', time_zone)) from accounts")
        assert quiet == {"begin": "00:00", "end": "23:59", "until": until[0]}
        assert (shown["nextSendAt"], shown["nextSendReason"]) == (until[0], "quiet_hours")
        await client.patch(f"/accounts/{account}", json={"pace": "off"})
        assert (await health(client, account))["pace"]["quietHours"] is None


async def test_today_is_the_accounts_own_day(client: httpx2.AsyncClient, database: Database) -> None:
    account = await new_account(client)
    await add_sent(database, account, 2)
    (began,) = (await rows(database, "select midnight((now() at time zone time_zone)::date, time_zone) from accounts"))[
        0
    ]
    yesterday = began - timedelta(seconds=1)
    for phone, at in (("15551", yesterday), ("15552", began)):
        await change(database, "update jobs set submitted_at = %s, sent_at = %s where phone = %s", at, at, phone)
    for number, at in enumerate((began, began, yesterday)):
        await change(
            database,
            "insert into incoming (id, org_id, account_id, bubble, chat, text, created_at) "
            "values (%s, 'org_default', %s, %s, 'x', 'x', %s)",
            f"msg_{number}", account, str(number), at,
        )  # fmt: skip
    shown = (await client.get(f"/accounts/{account}")).json()
    assert (shown["sentToday"], shown["receivedToday"]) == (1, 2)
    assert (await health(client, account))["pace"]["day"]["used"] == 1


async def test_the_ramp_is_in_the_accounts_limit(database_url: str, database: Database) -> None:
    await add_worker(database)
    async with api(database_url, pace_per_day=1000, pace_ramp_start=100, pace_ramp_step=50) as client:
        account = await new_account(client)
        assert (await client.get(f"/accounts/{account}")).json()["dailyLimit"] == 100
        await change(database, "update accounts set first_ready_at = now() - interval '48 hours'")
        listed = (await client.get("/accounts")).json()["items"][0]
        assert (listed["dailyLimit"], listed["health"]) == (200, "warning")


async def test_an_account_that_is_not_there_has_no_health(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/accounts/acc_none/health")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    described = (await client.get("/openapi.json")).json()
    operation = described["paths"]["/accounts/{id}/health"]["get"]
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/AccountHealth"}
    assert set(described["components"]["schemas"]["AccountHealth"]["properties"]) == {
        "account", "health", "reasons", "state", "restriction", "restrictedUntil", "pace", "nextSendAt",
        "nextSendReason",
    }  # fmt: skip
