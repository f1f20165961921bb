"""What the catalogue of Postgres says of the fence between orgs; it speaks of the table of next month too."""

import re
from collections import defaultdict
from typing import Any, LiteralString

import pytest
from fixtures_tenancy import ROOT

from sql.database import Database
from sql.roles import Role

#: Tables of no org. Of these the API has the rows of its own process, and the time of a worker's last sign of life.
SHARED = {"workers", "api_processes", "sealing_keys", "report_seal"}
#: Tables of orgs that neither the API nor a worker may read.
CLOSED = {"report_logins"}
#: Tables that name an account, and whose rows are the whole org's: who opts out of one account opts out of all.
OF_ALL_ACCOUNTS = {"opt_outs"}
#: Tables whose foreign keys would cost each message a lock (0025.foreign_keys).
HOT = {"jobs", "jobs_history", "outbox", "deliveries", "attempts", "lane_depth", "lane_marks", "report_marks"}
#: Tables that outlive their account.
KEPT = {"report_days", "report_failures", "report_hours"}
ORG = "( SELECT current_setting('app.org'::text, true) AS current_setting)"
TENANT = f"( CASE WHEN (org_id = {ORG}) THEN true ELSE NULL::boolean END IS NOT NULL)"
OF_LOGIN = "(org_id = ( SELECT report_org() AS report_org))"
#: Functions that run as the owner, besides those in the schema door.
AS_OWNER = {"ensure_partitions", "drop_old_partition", "keep_names", "report_org"}
#: A function of the schema report that runs as the owner of its views, and sees what they see.
AS_VIEWS = {"pace"}


@pytest.fixture
def catalog(database: Database) -> Any:
    async def asked(query: LiteralString) -> list[tuple[Any, ...]]:
        async with database.transaction() as tx:
            cursor = await tx.connection.execute(query)
            return await cursor.fetchall()

    return asked


async def tables(catalog: Any) -> dict[str, set[str]]:
    """Return the tables of ours, each with its columns."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for table, column in await catalog(
        """
        select relname, attname from pg_class
        join pg_attribute on attrelid = pg_class.oid and attnum > 0 and not attisdropped
        where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and not relispartition
          and relname !~ '^(procrastinate|_yoyo|yoyo)_'
        """
    ):
        found[table].add(column)
    return found


async def test_each_table_of_orgs_has_these_policies_and_no_others(catalog: Any) -> None:
    policies: defaultdict[str, dict[str, tuple[Any, ...]]] = defaultdict(dict)
    for table, name, *rest in await catalog(
        """
        select tablename, policyname, permissive, roles::text[], cmd, trim(regexp_replace(qual, '\\s+', ' ', 'g')),
               trim(regexp_replace(with_check, '\\s+', ' ', 'g'))
        from pg_policies where schemaname = 'public'
        """
    ):
        policies[table][name] = tuple(rest)
    ours = await tables(catalog)
    assert {table for table, columns in ours.items() if "org_id" not in columns} <= SHARED
    for table, columns in ours.items():
        if table in SHARED | CLOSED:
            assert table not in policies
            continue
        found = policies.pop(table)
        assert found.pop("tenant") == ("RESTRICTIVE", [Role.API], "ALL", TENANT, TENANT), table
        assert found.pop("api") == ("PERMISSIVE", [Role.API], "ALL", "true", "true"), table
        assert found.pop("worker") == ("PERMISSIVE", [Role.WORKER], "ALL", "true", "true"), table
        if table in REPORTED:
            assert found.pop("report") == ("PERMISSIVE", [Role.VIEWS], "ALL", OF_LOGIN, OF_LOGIN), table
        if (
            table in REPORTED
            and (columns & {"account_id"} or table in {"accounts", "lanes"})
            and table not in OF_ALL_ACCOUNTS
        ):
            kind, roles, command, seen, written = found.pop("report_accounts")
            assert (kind, roles, command) == ("RESTRICTIVE", [Role.VIEWS], "ALL"), table
            assert seen == written, table
            assert "= ANY (( SELECT report_accounts() AS report_accounts)::text[])" in seen, table
        if (columns & {"account_id"} or table in {"accounts", "lanes", "lane_depth"}) and table not in OF_ALL_ACCOUNTS:
            kind, roles, command, seen, written = found.pop("accounts")
            assert (kind, roles, command) == ("RESTRICTIVE", [Role.API], "ALL"), table
            assert seen == written, table
            assert re.search(r"current_setting\('app.accounts'::text, true\).* = '\*'::text", seen), table
        assert not found, table
    assert not policies


@pytest.mark.parametrize(
    "made",
    [
        "create table next_month (id text, org_id text not null)",
        "create table next_month (id text)",
        "create policy wider on jobs to postrider_api using (true)",
    ],
)
async def test_a_table_without_its_fence_is_found(database: Database, catalog: Any, made: LiteralString) -> None:
    async with database.transaction() as tx:
        await tx.connection.execute(made)
    with pytest.raises((KeyError, AssertionError)):
        await test_each_table_of_orgs_has_these_policies_and_no_others(catalog)


async def test_each_of_them_is_fenced_and_each_row_has_an_org(catalog: Any) -> None:
    fenced = await catalog(
        """
        select relname, relrowsecurity, relforcerowsecurity, attnotnull or relname = 'lane_marks',
               atttypid::regtype::text
        from pg_class join pg_attribute on attrelid = pg_class.oid and attname = 'org_id'
        where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and not relispartition
        """
    )
    assert {row[0] for row in fenced if row[0] not in SHARED | CLOSED} > {"jobs", "accounts", "outbox"}
    # Not forced: a migration that changes rows as the owner would silently change none.
    wrong = [row for row in fenced if row[0] not in SHARED | CLOSED and row[1:] != (True, False, True, "text")]
    assert wrong == []


async def test_no_partition_is_open_by_its_own_name(catalog: Any) -> None:
    """A policy of the parent does not hold there."""
    assert (
        await catalog(
            """
            select relname, relacl::text from pg_class
            where relispartition and relnamespace = 'public'::regnamespace and relacl is not null
            """
        )
        == []
    )


#: The views of the schema report; those of these names in public are tables.
REPORT_VIEWS = {
    "balance", "caps", "daily_activity", "daily_volume", "delivery_rate", "failure_reasons", "hours", "job_timeline",
    "latency", "queue_depth", "recipients", "replies", "webhook_health",
}  # fmt: skip
#: What the API may do with each table or view, all of it; some rights are of some columns only.
READ, WRITE = {"SELECT"}, {"SELECT", "INSERT", "UPDATE"}
OF_THE_API: dict[str, set[str]] = {
    **dict.fromkeys(("_yoyo_migration", "account_changes", "all_jobs", "attempts", "incoming", "sealing_keys"), READ),
    **dict.fromkeys(("shown_deliveries",), READ),
    **dict.fromkeys(("accounts", "api_keys", "deliveries", "endpoints", "jobs", "lane_depth", "lanes"), WRITE),
    **dict.fromkeys(("opt_outs", "recoveries"), WRITE),
    "api_processes": {"SELECT", "INSERT", "UPDATE", "DELETE"},
    "endpoint_secrets": {"SELECT", "INSERT", "DELETE"},
    "jobs_history": {"SELECT", "DELETE"},
    "lane_marks": {"INSERT"},
    "report_marks": {"INSERT"},
    **dict.fromkeys(REPORT_VIEWS, READ),
    "orgs": {
        "SELECT", "UPDATE (added_stop_words)", "UPDATE (ignored_stop_words)", "UPDATE (opt_out_reply)",
        "UPDATE (self_paused_at)",
    },
    "outbox": {"SELECT", "INSERT", "UPDATE (id)"},
    "profiles": {"SELECT (account_id)", "SELECT (kept_since)", "SELECT (org_id)", "UPDATE (kept_since)"},
    "request_signatures": {"SELECT", "INSERT"},
    "workers": {"SELECT (duties)", "SELECT (renewed_at)"},
}  # fmt: skip
REPORTED = {
    "accounts", "all_jobs", "attempts", "deliveries", "endpoints", "incoming", "jobs", "jobs_history", "lanes",
    "opt_outs", "report_days", "report_failures", "report_hours", "report_progress",
}  # fmt: skip


async def rights(catalog: Any, role: str) -> dict[str, set[str]]:
    """Return what a role may do with each table or view in public, by grants to it alone."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for grantee, table, right in await catalog(
        """
        select coalesce(nullif(grantee, 0)::regrole::text, 'PUBLIC'), relname, privilege_type
        from pg_class, aclexplode(relacl)
        where relnamespace = any (array['public', 'report', 'door', 'counted']::regnamespace[])
          and relkind in ('r', 'p', 'v') and grantee <> relowner
        union all
        select coalesce(nullif(grantee, 0)::regrole::text, 'PUBLIC'), relname,
               format('%s (%s)', privilege_type, attname)
        from pg_class join pg_attribute on attrelid = pg_class.oid, aclexplode(attacl)
        where relnamespace = any (array['public', 'report', 'door', 'counted']::regnamespace[])
        """
    ):
        if grantee == role:
            found[table].add(right)
    return dict(found)


async def test_each_role_may_only_what_it_needs(catalog: Any) -> None:
    assert await rights(catalog, "PUBLIC") == {}
    assert await rights(catalog, Role.API) == OF_THE_API
    of_workers = {"workers": {f"SELECT ({column})" for column in ("duties", "pace_limits", "renewed_at")}}
    assert await rights(catalog, Role.VIEWS) == dict.fromkeys(REPORTED, READ) | of_workers
    assert {right for found in (await rights(catalog, Role.REPORT)).values() for right in found} == READ
    worker = await rights(catalog, Role.WORKER)
    assert {right for found in worker.values() for right in found} == {"SELECT", "INSERT", "UPDATE", "DELETE"}


async def test_views_see_what_their_reader_may_see(catalog: Any) -> None:
    views = await catalog(
        """
        select nspname, relname, pg_get_userbyid(relowner),
               coalesce(reloptions::text, '') like '%security_invoker=true%'
        from pg_class join pg_namespace on pg_namespace.oid = relnamespace
        where relkind in ('v', 'm') and nspname in ('public', 'report', 'door', 'counted')
        """
    )
    assert {view for schema, view, *_ in views if schema == "public"} >= {"all_jobs", "shown_deliveries"}
    for schema, view, owner, invoker in views:
        assert (owner, invoker) == ((Role.VIEWS, False) if schema in {"report", "counted"} else (Role.OWNER, True)), (
            view
        )


async def test_few_functions_run_as_the_owner(catalog: Any) -> None:
    functions = await catalog(
        """
        select nspname, proname, prosecdef, coalesce(proconfig::text, '') like '%search_path=public, pg_temp%', lanname,
               has_function_privilege('postrider_report', pg_proc.oid, 'execute'), pg_get_userbyid(proowner)
        from pg_proc join pg_namespace on pg_namespace.oid = pronamespace join pg_language on pg_language.oid = prolang
        where nspname in ('public', 'door', 'report') and proname !~ '^procrastinate_'
        """
    )
    assert {name for schema, name, definer, *_ in functions if definer and schema != "door"} == AS_OWNER | AS_VIEWS
    for schema, name, definer, pinned, language, public, owner in functions:
        assert owner == (Role.VIEWS if schema == "report" else Role.OWNER), name
        assert (schema == "report") == (name in AS_VIEWS), name
        if definer:
            assert pinned, name
            assert language == "plpgsql", name
            assert public == (name in {"report_org", *AS_VIEWS}), name
        assert definer or schema != "door", name


async def test_all_is_the_owner_s(catalog: Any) -> None:
    assert (
        await catalog(
            """
            select relname, pg_get_userbyid(relowner) from pg_class
            where relnamespace = any (array['public', 'report', 'door', 'counted']::regnamespace[])
              and relkind in ('r', 'p', 'v', 'S', 'm')
              and pg_get_userbyid(relowner) not in ('postrider_owner', 'postrider_views')
            """
        )
        == []
    )


async def test_a_row_names_its_account_or_endpoint_together_with_its_org(catalog: Any) -> None:
    """Foreign keys know no policies: by the id alone, a row of one org could hang on an account of another."""
    keys = await catalog(
        """
        select conrelid::regclass::text, array(select attname::text from unnest(conkey) key join pg_attribute
                                               on attrelid = conrelid and attnum = key), convalidated
        from pg_constraint where contype = 'f' and confrelid in ('accounts'::regclass, 'endpoints'::regclass)
        """
    )
    assert [key for key in keys if "org_id" not in key[1] or not key[2]] == []
    naming = {
        table
        for table, columns in (await tables(catalog)).items()
        if columns & {"account_id", "endpoint_id"} and table not in HOT | KEPT
    }
    assert {table for table, *_ in keys} == naming


async def test_roles_are_no_logins_and_belong_to_none_but_the_owner_s(catalog: Any) -> None:
    roles = await catalog(
        """
        select rolname, rolsuper or rolbypassrls or rolcanlogin or rolcreaterole,
               array(select pg_get_userbyid(roleid)::text from pg_auth_members where member = pg_roles.oid)
        from pg_roles where rolname like 'postrider\\_%'
        """
    )
    assert {name: (strong, member_of) for name, strong, member_of in roles} == {
        role: (False, [Role.VIEWS] if role == Role.OWNER else []) for role in Role
    }


def test_the_first_org_is_named_where_it_is_made_and_nowhere_else() -> None:
    """Code that names it would serve that org alone."""
    named = {
        str(path.relative_to(ROOT))
        for folder in ("api", "commands", "tasks", "wiring", "sql/queries", "browser")
        for path in (ROOT / folder).rglob("*.*")
        if path.suffix in {".py", ".sql"} and "org_default" in path.read_text()
    }
    # The settings' key and endpoint, an example of an answer, and what benchmarks fill.
    assert named == {"api/operator/bootstrap.py", "api/openapi/examples.py", "sql/queries/bench.sql"}
