import re
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from fixtures_postgres import numbered

from errors import DatabaseAway, SchemaWrong
from sql import concurrent_indexes, schema
from sql.database import Database
from sql.loader import queries


def test_migrations_are_applied_once_when_several_start_together(postgres: str) -> None:
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("create database together")
    url = postgres.replace("/postgres?", "/together?")

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(schema.migrate, [url] * 4))
    made = [index.name for index in concurrent_indexes.wanted()]
    assert sorted(results, key=len) == [[], [], [], sorted(schema.names()) + made]


def test_an_unreachable_server_is_one_clear_line() -> None:
    with pytest.raises(DatabaseAway, match="Postgres cannot be reached"):
        schema.migrate("postgresql://127.0.0.1:1/none")


def test_missing_migrations_and_old_code_are_refused() -> None:
    with pytest.raises(SchemaWrong, match=r"0001\.procrastinate.*postrider migrate"):
        schema.check(set(), "0.1.0", "0.1.0")
    with pytest.raises(SchemaWrong, match=r"0\.2\.0 or newer, and this is 0\.1\.9"):
        schema.check(schema.names(), "0.2.0", "0.1.9")
    schema.check(schema.names(), "0.2.0", "0.10.0")


def test_each_migration_names_the_oldest_code_that_may_run_on_it() -> None:
    for path in schema.FOLDER.glob("*.*"):
        assert "Oldest code that may run on it: " in path.read_text(), path.name


async def test_every_query_prepares_on_the_real_schema(database: Database) -> None:
    wrong: dict[str, str] = {}
    for name, text in queries().items():
        try:
            async with database.transaction() as tx:
                await tx.connection.execute(b"prepare this as " + numbered(text))
                await tx.connection.execute("deallocate this")
        except psycopg.Error as error:
            wrong[name] = str(error)
    assert wrong == {}


#: They serve all orgs.
PROCESSES = {"workers", "api_processes", "report_seal"}


def test_every_query_is_used() -> None:
    root = schema.FOLDER.parent.parent
    code = (
        "".join(
            path.read_text()
            for folder in ("api", "tasks", "sql", "wiring", "commands", "bench")
            for path in (root / folder).rglob("*.py")
        )
        + (root / "cli.py").read_text()
    )
    assert [name for name in queries() if f'"{name}"' not in code] == []


async def test_every_table_has_an_org_a_time_and_comments(database: Database) -> None:
    async with database.transaction() as tx:
        cursor = await tx.connection.execute(
            """
            select c.relname, a.attname, col_description(c.oid, a.attnum), obj_description(c.oid)
            from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
            join pg_namespace n on n.oid = c.relnamespace
            where c.relkind in ('r', 'p', 'v') and not c.relispartition and n.nspname in ('public', 'report')
              and c.relname not like 'procrastinate%' and c.relname not like '%yoyo%'
            """
        )
        rows = await cursor.fetchall()
    columns: dict[str, set[str]] = {}
    for table, column, comment, table_comment in rows:
        assert table_comment, f"{table} has no comment"
        assert comment, f"{table}.{column} has no comment"
        columns.setdefault(table, set()).add(column)
    assert len(columns) >= 12
    for table, names in columns.items():
        assert "org_id" in names or table in PROCESSES, table


def test_no_query_locks_an_account_so_that_nothing_can_refer_to_it() -> None:
    """Each accepted message refers to its account, which waits for `for update` and not for `for no key update`."""
    taken = re.compile(r"\bfrom accounts\b(?:(?!\bfrom\b).)*?\bfor update\b(?! of (?!accounts)| skip)", re.DOTALL)
    assert [name for name, query in queries().items() if taken.search(query.decode())] == []


def test_a_postgres_that_is_too_old_is_refused_before_anything_is_changed(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("drop database if exists too_old")
        connection.execute("create database too_old")
    url = postgres.replace("/postgres?", "/too_old?")
    monkeypatch.setattr(schema, "OLDEST_POSTGRES", 990_000)
    with pytest.raises(SchemaWrong, match=r"Postgres must be 99 or newer, and this is \d+\.\d+"):
        schema.migrate(url)
    with psycopg.connect(url) as connection:
        assert connection.execute("select count(*) from pg_tables where schemaname = 'public'").fetchone() == (0,)
