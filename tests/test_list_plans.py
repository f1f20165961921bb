"""Plans of lists: each filter, and each pair of them, is a merge of indexes that reads about a page."""

import itertools
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from fixtures_api import client_of, settings
from fixtures_history import run
from fixtures_lanes import add_lanes, value
from fixtures_postgres import own_database
from psycopg.rows import tuple_row

from api.http.pagination import Page
from sql import scope
from sql.database import Database
from sql.loader import queries
from sql.roles import Role
from sql.scope import Scope
from wiring.api import create_app

PAGE = 51  # rows that a list of 50 asks for
MOST = 700  # rows that a page may read: in `jobs`, ten for each of a page whose status a tenth has
EMPTY = {"status": None, "account": None, "phone": None, "since": "-infinity", "after_at": "infinity", "after_id": ""}
#: The middle of what FILL makes.
LATER = {"after_at": "2026-06-15T00:00:00Z", "after_id": "z"}

#: Account `a` has most jobs, `b` a third, none of them read, `r` almost none. One number in two forms has 6 %.
FILL = """
    insert into {table} (
        id, org_id, account_id, content_hash, phone, message, state, due_at, send_at, expires_at, created_at, ended_at,
        sent_at, seq, priority, attempts, sequence, timeline) overriding system value
    select 'job_' || lpad(number::text, 6, '0'), 'org_default', account, '',
           case when number % 33 = 1 then '5511987654321' when number % 33 = 2 then '551187654321'
                when number % 9000 = 3 then '15550000009' else '1556' || lpad((number % 4001)::text, 7, '0') end,
           'Hi', state, at, at, at, at, case when state <> 'queued' then at + interval '1 minute' end,
           case when state in ('sent', 'delivered', 'read') then at + interval '1 minute' end, number, 0, 0, 0, '[]'
    from (
        select number, timestamptz '2026-08-01' + (number - 35000) * interval '4 minutes' as at,
               case when number % 3000 = 11 then 'r' when number % 3 = 0 then 'b' else 'a' end as account
        from generate_series({first}, {last}) as number
    ) as numbered, lateral (
        select case when number > 34900 then 'queued'
                    when number % 7000 = 13 or number % 97 = 5 and account <> 'b' then 'failed'
                    when number % 397 = 7 and account <> 'b' then 'cancelled'
                    when number % 10 = 8 then 'sent'
                    when account = 'b' or number % 10 < 3 then 'delivered' else 'read' end as state
    ) as jobs
"""
PARTITION = "create table jobs_history_{0} partition of jobs_history for values from ('2026-{0}-01') to ('2026-{1}-01')"
FILL_INCOMING = """
    insert into incoming (id, org_id, account_id, bubble, phone, chat, text, created_at)
    select id, org_id, account_id, id, phone, 'x', message, created_at from all_jobs
"""

STATES = [None, "read", "sent", "failed", "cancelled", "queued"]
ACCOUNTS = [None, "a", "b", "r", "none"]
PHONES = [None, "15550000009", "15560000123", "15550000000", "5511987654321", "551187654321"]
PAGES = [pytest.param({}, id="first"), pytest.param(LATER, id="later")]
#: Pairs of what is common, and so rare together that a page goes through all of one: of `b`, no message was ever read,
#: and none went to that number.
BOUNDED = [("read", "b", None), (None, "b", "5511987654321"), (None, "b", "551187654321")]


@pytest.fixture(scope="module")
async def filled(postgres: str) -> AsyncIterator[Database]:
    """A database with 30,000 jobs in three partitions of the history, 5,000 others, and as many incoming messages."""
    with own_database(postgres) as url:
        async with Database(url) as database:
            await add_lanes(database, "a", "b", "r")
            for month in (5, 6, 7):
                await run(database, PARTITION.format(f"{month:02}", f"{month + 1:02}"))
            await run(database, FILL.format(table="jobs_history", first=1, last=30_000))
            await run(database, FILL.format(table="jobs", first=30_001, last=35_000))
            await run(database, FILL_INCOMING)
            await run(database, "analyze")
            yield database


async def explained(database: Database, name: str, **values: object) -> dict[str, Any]:
    """Run a list as the API does, bound by policies, with values and unprepared, and return what Postgres did."""
    async with database.transaction() as tx:
        await tx.connection.execute(f"set local role {Role.API}")
        await tx.connection.execute(scope.SET, Scope("org_default").values)
        cursor = tx.connection.cursor(row_factory=tuple_row)
        statement = b"explain (analyze, buffers, timing off, format json) " + queries()[name]
        await cursor.execute(statement, {"org": "org_default", "limit": PAGE, **EMPTY, **values}, prepare=False)
        [(plan,)] = await cursor.fetchall()
        found: dict[str, Any] = plan[0]["Plan"]
        return found


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)


def rows_read(plan: dict[str, Any]) -> int:
    """Return how many rows of tables were looked at, those that did not fit included."""
    return sum(
        round(node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)))
        for node in nodes(plan)
        if "Relation Name" in node
    )


def rows_sorted(plan: dict[str, Any]) -> int:
    return sum(
        round(part["Actual Loops"] * part["Actual Rows"])
        for node in nodes(plan)
        if node["Node Type"] in {"Sort", "Incremental Sort"}
        for part in node["Plans"]
    )


def pages_read(plan: dict[str, Any]) -> int:
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


async def check(database: Database, name: str, most: int = MOST, /, **values: str | None) -> None:
    """Check that a list reads at most so many rows, a few blocks for each, and sorts no more than two pages."""
    plan = await explained(database, name, **values)
    read, sorted_, blocks = rows_read(plan), rows_sorted(plan), pages_read(plan)
    assert read <= most, (values, read)
    assert sorted_ <= 2 * PAGE, (values, sorted_)
    assert blocks <= most, (values, blocks)


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("status", STATES)
async def test_jobs_by_each_filter_and_pair_of_filters_are_a_merge_of_indexes(
    filled: Database, status: str | None, page: dict[str, str]
) -> None:
    for account, phone in itertools.product(ACCOUNTS, PHONES):
        if None in {status, account, phone} and (status, account, phone) not in BOUNDED:
            await check(filled, "list_jobs", status=status, account=account, phone=phone, **page)


@pytest.mark.parametrize("filters", BOUNDED)
async def test_what_no_index_has_is_bounded_by_an_account_s_newest_jobs_or_a_number_s_own(
    filled: Database, filters: tuple[str | None, ...]
) -> None:
    """Of `jobs`, which holds three days, one account's; of the history, one number's. Pace bounds both."""
    status, account, phone = filters
    few = (
        "select count(*) from all_jobs where phone = any (phone_forms(%s))"
        if phone
        else "select count(*) from jobs where account_id = %s"
    )
    most = await value(filled, few, phone or account)
    assert MOST < most < 2500, "it would be no exception otherwise"
    await check(filled, "list_jobs", most + PAGE, status=status, account=account, phone=phone)


@pytest.mark.parametrize("page", PAGES)
async def test_incoming_messages_by_each_filter_and_both_are_a_merge_of_indexes(
    filled: Database, page: dict[str, str]
) -> None:
    for account, phone in itertools.product(ACCOUNTS, PHONES):
        if (None, account, phone) not in BOUNDED:
            await check(filled, "list_incoming", account=account, phone=phone, **page)


async def test_a_late_page_reads_no_more_than_the_first(filled: Database) -> None:
    """Also with the end of a period: an index begins at the nearer one of the two."""
    first = await explained(filled, "list_jobs", account="a")
    june, december = (datetime(2026, month, 15, tzinfo=UTC) for month in (6, 12))
    for place, until in (((june, "z"), None), ((june, "z"), december), (None, june)):
        bounds = Page.model_construct(limit=PAGE - 1, cursor=place).values(until)
        later = await explained(filled, "list_jobs", account="a", **bounds)
        assert pages_read(later) <= pages_read(first) + PAGE, bounds
        assert later["Actual Rows"] == PAGE


async def test_a_list_is_planned_for_its_values_however_often_it_is_asked_for(database_url: str) -> None:
    """Postgres would plan a prepared statement for all values after some calls, and no index has `is null or`."""
    database = Database(database_url, Role.API, size=1)
    app = create_app(settings(), database)
    async with app.router.lifespan_context(app), client_of(app) as client:
        for path in ("/jobs?account=a", "/incoming?phone=15551230001") * 12:
            assert (await client.get(path)).status_code == 200
        async with database.transaction() as tx:
            cursor = await tx.connection.execute("select statement from pg_prepared_statements")
            statements = [statement for (statement,) in await cursor.fetchall()]
    assert statements
    assert [each for each in statements if "from all_jobs" in each or "from incoming" in each] == []
