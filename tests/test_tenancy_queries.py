"""A hostile run: every query of the API, in one org, with all parameters of another. Postgres lets none through."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from fixtures_tenancy import MARK, OF_NO_ORG, OURS, THEIRS, digest, fill, queries_of_the_api, tried
from psycopg import errors as postgres
from psycopg.sql import SQL, Identifier

from sql import scope
from sql.scope import Scope

QUERIES = [name for name in queries_of_the_api() if name not in OF_NO_ORG]
#: Queries that return a row in any case: a number, or nothing.
COUNTS = {"count_accounts", "count_of_org", "count_old_secrets", "fail_waiting", "wake_own"}


@pytest.fixture
def world(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        fill(connection)
        yield connection


def said(query: str, result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows that tell something."""
    return [row for row in result.get("rows", ()) if query not in COUNTS or any(row.values())]


def holes(connection: psycopg.Connection[Any]) -> dict[str, str]:
    """Return the queries that see or change something of another org, each with what it did."""
    found: dict[str, str] = {}
    for query in QUERIES:
        # As a handler that names the wrong org would, and as one that names the right one and a foreign id.
        for org in (THEIRS, OURS):
            with tried(connection, query, within=OURS, org=org, of=THEIRS) as result:
                error = result.get("error")
                rows = said(query, result)
                if result["before"] != result["after"]:
                    found[query] = "it changed a row"
                elif (org == THEIRS and rows) or MARK in repr(rows):
                    found[query] = f"it returned {rows}"
                elif error and not isinstance(error, postgres.InsufficientPrivilege):
                    found[query] = f"it raised {error!r}"
                elif isinstance(error, postgres.InsufficientPrivilege) and "row-level security" not in str(error):
                    found[query] = f"a right is missing: {error}"
    return found


def test_no_query_reaches_another_org(world: psycopg.Connection[Any]) -> None:
    assert len(QUERIES) > 60
    assert holes(world) == {}


def test_each_of_them_has_an_effect_in_its_own_org(world: psycopg.Connection[Any]) -> None:
    """Otherwise the run above would find nothing, whatever it tried."""
    idle = {}
    for query in QUERIES:
        with tried(world, query, within=THEIRS, org=THEIRS, of=THEIRS) as result:
            if not said(query, result) and result["before"] == result["after"]:
                idle[query] = repr(result.get("error"))
    assert idle == {}


@pytest.mark.parametrize(
    ("mistake", "leak"),
    [
        pytest.param("alter table jobs disable row level security", "show_job", id="a table without policies"),
        pytest.param("alter policy tenant on attempts using (true)", "list_attempts", id="a policy that is true"),
        pytest.param("alter view all_jobs set (security_invoker = false)", "show_job", id="a view of the owner"),
        pytest.param(
            "alter policy tenant on lanes with check (true); alter policy tenant on endpoints with check (true)",
            "create_endpoint",
            id="a policy that checks nothing that is written",
        ),
    ],
)
def test_a_hole_in_the_fence_is_found(world: psycopg.Connection[Any], mistake: str, leak: str) -> None:
    world.execute(mistake.encode())
    assert leak in holes(world)


def test_a_delete_without_a_condition_wipes_one_s_own_org_alone(world: psycopg.Connection[Any]) -> None:
    tables = [
        table
        for (table,) in world.execute(
            "select distinct tablename from pg_policies where policyname = 'tenant' and tablename <> 'orgs'"
        )
    ]
    before = {org: digest(world, org) for org in (OURS, THEIRS)}
    with world.transaction():
        for table in tables:
            world.execute(SQL("grant delete on {} to postrider_api").format(Identifier(table)))
        world.execute("set local role postrider_api")
        world.execute(scope.SET, Scope(OURS).values)
        # Accounts and endpoints after what hangs on them, and lanes last.
        for table in sorted(tables, key=lambda name: (name == "lanes", name in {"accounts", "endpoints"})):
            world.execute(SQL("delete from {}").format(Identifier(table)))
    assert digest(world, THEIRS) == before[THEIRS]
    left = {table for table, rows in digest(world, OURS) if rows is not None}
    assert left == {"orgs"}
    assert digest(world, OURS) != before[OURS]


#: table → the rows of it that are of an account
OF_ACCOUNTS = {
    "accounts": "true",
    "account_changes": "true",
    "incoming": "true",
    "jobs": "true",
    "jobs_history": "true",
    "lane_depth": "true",
    "lanes": "kind = 'account'",
    "outbox": "account_id is not null",
    "profiles": "true",
}


@pytest.mark.parametrize("table", OF_ACCOUNTS)
def test_a_caller_that_is_bound_to_an_account_sees_no_row_of_another(
    world: psycopg.Connection[Any], table: str
) -> None:
    def seen(accounts: tuple[str, ...] | None) -> int:
        with world.transaction():
            world.execute("set local role postrider_api")
            world.execute(scope.SET, Scope(THEIRS, accounts).values)
            count = SQL("select count(org_id) from {} where " + OF_ACCOUNTS[table]).format(Identifier(table))
            found = world.execute(count).fetchone()
        return int(found[0]) if found else 0

    assert seen(None) == seen(("acc_bravo",)) == seen(("acc_more", "acc_bravo")) > 0
    assert seen(("acc_more",)) == seen(("acc_alfa",)) == seen(()) == 0


def test_rows_of_no_account_are_the_whole_org_s(world: psycopg.Connection[Any]) -> None:
    with world.transaction():
        world.execute("set local role postrider_api")
        world.execute(scope.SET, Scope(THEIRS, ("acc_more",)).values)
        assert world.execute("select id from lanes").fetchall() == [("whe_bravo",)]
        assert world.execute("select id from endpoints").fetchall() == [("whe_bravo",)]
