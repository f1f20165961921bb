"""Plans of the API's queries: with the policies, Postgres looks up the same indexes as without them."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from fixtures_postgres import numbered, own_database
from fixtures_tenancy import OF_NO_ORG, OURS, add, fill, parameters, queries_of_the_api
from psycopg.sql import SQL, Identifier

from sql import scope
from sql.loader import queries
from sql.roles import POSTGRES_16, Role
from sql.scope import Scope

#: Queries that Postgres plans in another way from run to run, with and without policies, since it makes no difference.
EITHER_WAY = {
    "why_not_retried": "one account, where there are few",
}
QUERIES = [name for name in queries_of_the_api() if name not in OF_NO_ORG]

Access = tuple[str, str]


#: Give each org as much as makes an index worth its while.
FILL = """
    insert into lanes (id, org_id, kind, queue)
    select id || '__' || n, org_id, kind, queue from lanes, generate_series(1, 20) as n;
    insert into accounts (id, org_id, name, transport)
    select id || '__' || n, org_id, name, transport from accounts, generate_series(1, 20) as n;
    insert into endpoints (id, org_id, url, events, secret)
    select id || '__' || n, org_id, url, events, secret from endpoints, generate_series(1, 20) as n;
    insert into {jobs} (
        id, org_id, account_id, key, content_hash, phone, message, state, due_at, send_at, expires_at, created_at,
        ended_at, sent_at, seq, priority, attempts, sequence, timeline) overriding system value
    select id || '__' || n, org_id, account_id, id || '__' || n, sha256((id || '__' || n)::bytea), '1555' || n, message,
           'sent', at, at, at, at, at, at, n, 0, 0, 0, '[]'
    from {jobs}, generate_series(1, 300) as n, lateral (select now() - n * interval '1 minute') as times (at)
    where id ~ '^job_[a-z0-9]+(_old)?$';
    insert into incoming (id, org_id, account_id, bubble, phone, chat, text, created_at)
    select id || '__' || n, org_id, account_id, bubble || '__' || n, '1555' || n, chat, text,
           created_at - n * interval '1 minute'
    from incoming, generate_series(1, 300) as n;
    insert into outbox (id, org_id, type, job_id, account_id, body, created_at)
    select id || '__' || n, org_id, type, job_id || '__' || n, account_id, body, created_at - n * interval '1 minute'
    from outbox, generate_series(1, 300) as n;
    insert into deliveries (id, org_id, event_id, event_at, type, endpoint_id, state, ended_at)
    select 'dlv' || id, org_id, id, created_at, type, 'whe' || substr(org_id, 4), 'delivered', now() from outbox
    where id ~ '__[0-9]+$';
    insert into attempts (org_id, delivery_id, endpoint_id, number)
    select org_id, id, endpoint_id, 1 from deliveries;
    insert into opt_outs (id, org_id, phone, reason)
    select id || '__' || n, org_id, '1777' || n, reason from opt_outs, generate_series(1, 100) as n;
"""
#: The triggers, which would have written them down, were off.
KEYS = """
    insert into job_keys (org_id, key_hash, job_id, content_hash)
    select org_id, sha256(convert_to(key, 'UTF8')), id, content_hash from all_jobs where key is not null
    on conflict do nothing
"""


@pytest.fixture(scope="module")
def world(postgres: str) -> Iterator[psycopg.Connection[Any]]:
    with (
        own_database(postgres) as url,
        psycopg.connect(url, autocommit=True, cursor_factory=psycopg.ClientCursor) as connection,
    ):
        fill(connection)
        for number in range(40):
            add(connection, f"org_o{number}")
        connection.execute("alter table deliveries disable trigger user; alter table jobs disable trigger user")
        connection.execute(FILL.format(jobs="jobs").encode())
        history = FILL[FILL.index("    insert into {jobs}") : FILL.index("    insert into incoming")]
        connection.execute(history.format(jobs="jobs_history").encode())
        connection.execute("alter table deliveries enable trigger user; alter table jobs enable trigger user")
        connection.execute(KEYS)
        connection.execute("analyze; set jit = off")
        yield connection


def accesses(plan: dict[str, Any]) -> Iterator[Access]:
    """Yield how each table is read: the index and what is looked up there, or the whole table."""
    # Not whether the index alone is enough: with a policy, which wants the row's org, it mostly is not.
    if "Index Name" in plan:
        yield plan["Index Name"], plan.get("Index Cond", "")
    elif plan["Node Type"] == "Seq Scan":
        yield plan["Relation Name"], "all rows"
    for part in plan.get("Plans", ()):
        yield from accesses(part)


def planned(
    connection: psycopg.Connection[Any], query: str, role: Role | None, *, generic: bool = False
) -> set[Access]:
    with connection.transaction(force_rollback=True), connection.cursor() as cursor:
        if role:
            cursor.execute(SQL("set local role {}").format(Identifier(role)))
            cursor.execute(scope.SET, Scope(OURS).values)
        if generic:
            cursor.execute(b"explain (generic_plan, format json) " + numbered(queries()[query]))
        else:
            given = {**parameters(query, OURS), "org": OURS}
            cursor.execute(b"explain (format json) " + queries()[query], given)
        [(plan,)] = cursor.fetchall()
        return set(accesses(plan[0]["Plan"]))


@pytest.mark.parametrize("query", [name for name in QUERIES if name not in EITHER_WAY])
def test_the_policies_change_no_plan(world: psycopg.Connection[Any], query: str) -> None:
    bound, unbound = (planned(world, query, role) for role in (Role.API, None))
    assert bound == unbound


@pytest.mark.parametrize("query", [name for name in QUERIES if name not in EITHER_WAY and not name.startswith("list_")])
def test_neither_do_they_for_a_statement_that_is_planned_once_for_all_values(
    world: psycopg.Connection[Any], query: str
) -> None:
    """As Postgres may plan what psycopg has prepared; lists are planned for their values."""
    if world.info.server_version < POSTGRES_16:
        pytest.skip("this Postgres cannot explain such plans")
    bound, unbound = (planned(world, query, role, generic=True) for role in (Role.API, None))
    assert bound == unbound


@pytest.mark.parametrize("query", QUERIES)
def test_the_policy_of_workers_costs_nothing(world: psycopg.Connection[Any], query: str) -> None:
    if query == "wake_own":
        return
    bound, unbound = (planned(world, query, role) for role in (Role.WORKER, None))
    assert bound == unbound
