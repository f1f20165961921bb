"""Endpoints and events in a database, without receivers."""

import json

from fixtures_history import run
from fixtures_lanes import value

from sql.database import Database


async def put_org(database: Database, org: str) -> None:
    await run(database, "insert into orgs (org_id, name) values (%s, 'Other')", org)


async def put_endpoint(
    database: Database,
    endpoint: str = "whe_1",
    *events: str,
    org: str = "org_default",
    url: str = "http://receiver.test/hook?token=x",
) -> str:
    """Register an endpoint for these types of events, or for all."""
    await run(
        database,
        "insert into lanes (id, org_id, kind, queue) values (%s, %s, 'endpoint', 'endpoint')", endpoint, org,
    )  # fmt: skip
    await run(
        database,
        "insert into endpoints (id, org_id, url, events, secret) values (%s, %s, %s, %s, '')",
        endpoint, org, url, list(events) or ["*"],
    )  # fmt: skip
    return endpoint


async def put_events(
    database: Database, kind: str, count: int = 1, *, org: str = "org_default", job: str | None = None
) -> None:
    """Let events happen, of a job if one is named."""
    await run(
        database,
        "select record_event(%s, %s, %s, %s, null, n) from generate_series(1, %s) as n",
        org, kind, json.dumps({"jobId": f"key-{job}"} if job else {}), job, count,
    )  # fmt: skip


async def spread(database: Database) -> None:
    """Let everything have happened within the last hour, at moments of its own, in the order of ids."""
    await run(
        database,
        """
        with numbered as (
            select id, row_number() over (order by id) as number, count(*) over () as count from outbox
        ), moved as (
            update outbox set created_at = now() - interval '1 hour' * (1 - number / (count + 1.0))
            from numbered
            where outbox.id = numbered.id
            returning outbox.id, outbox.created_at
        )
        update deliveries set event_at = moved.created_at, created_at = moved.created_at
        from moved
        where event_id = moved.id
        """,
    )


async def states(database: Database) -> dict[str, int]:
    """Return how many deliveries are in each state."""
    found = await value(
        database,
        "select jsonb_object_agg(state, count) from (select state, count(*) from deliveries group by state) as counted",
    )
    return dict(found or {})
