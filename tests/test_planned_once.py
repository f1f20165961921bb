"""What is asked for each message is planned once per connection, however differently accounts use the service."""

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fixtures_history import run
from fixtures_lanes import add_lanes
from fixtures_postgres import own_database

from sql.database import Database
from sql.loader import queries
from sql.pace_limits import PaceLimits

TIMES = 12  # psycopg prepares a statement after five, and Postgres compares plans after five more

LIMITS = PaceLimits(20, 100, 1000, 50, 50, 2000, per_recipient_hour=10, gap_seconds=(3, 8), quiet_hours=None)

CLAIM = "00000000-0000-0000-0000-000000000000"
VALUES: dict[str, Any] = {
    "account": "a", "lane": "a", "phone": "15550000001", "job": "job_1", "claim": CLAIM, "epoch": 7, "worker": "wrk_1",
    "anchor": None, "generation": 1, "pressed_on": "x", "margin": 10.0, "look": 5.0, "limits": LIMITS.wire(),
    "longest": 60.0, "per_hour": 10, "bubble": None, "code": "x", "detail": None, "reason": None,
}  # fmt: skip
#: put_off_recipient is not: a plan for any recipient would cost as much as to plan it for each.
FOR_EACH = ["pace_of", "take_job", "opted_out", "submit_job", "job_sent", "job_failed"]

#: Account `b` has most of what waits, fifty others what has ended; every third job that waits was tried before.
FILL = """
    insert into jobs (
        id, org_id, account_id, content_hash, phone, message, state, due_at, send_at, expires_at, created_at,
        started_at, submitted_at, sent_at, ended_at, timeline)
    select 'job_' || number, 'org_default', case when state = 'queued' then 'b' else 'acc_' || number % 50 end, '',
           '1555' || number, 'Hi', state, at, at, at + interval '9 days', at, case when number % 3 = 0 then at end, at,
           case when state = 'sent' then at end, case when state <> 'queued' then at end, '[]'
    from (
        select number, now() - (20000 - number) * interval '10 seconds' as at,
               case when number > 8000 then 'queued' when number % 97 = 1 then 'failed' else 'sent' end as state
        from generate_series(1, 20000) as number
    ) as jobs
"""
#: blocks that a question about one account may read
FEW = 30


@pytest.fixture(scope="module")
async def filled(postgres: str) -> AsyncIterator[Database]:
    """A database with 20,000 jobs, most of them of one account."""
    with own_database(postgres) as url:
        async with Database(url, size=1) as database:
            await add_lanes(database, "a", "b", *(f"acc_{number}" for number in range(50)))
            await run(database, FILL)
            await run(database, "analyze")
            yield database


@pytest.mark.parametrize("name", FOR_EACH)
async def test_a_statement_of_each_message_is_planned_once(filled: Database, name: str) -> None:
    text = queries()[name].decode()
    values = {given: VALUES[given] for given in set(re.findall(r"%\((\w+)\)s", text))}
    async with filled.transaction() as tx:
        for _ in range(TIMES):
            await tx.all(name, **values)
        cursor = await tx.connection.execute(
            "select generic_plans from pg_prepared_statements where statement like %s", (text[:60] + "%",)
        )
        assert (await cursor.fetchall())[0][0] > 0


@pytest.mark.parametrize("account", ["a", "acc_7"])
async def test_what_an_account_has_submitted_is_read_by_its_own_index(filled: Database, account: str) -> None:
    async with filled.transaction() as tx:
        cursor = await tx.connection.execute(
            "explain (analyze, buffers, format json) select * from submitted_since(%s, now() - interval '1 minute')",
            (account,),
        )
        plan = (await cursor.fetchall())[0][0][0]["Plan"]
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < FEW
