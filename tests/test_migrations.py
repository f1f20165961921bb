"""Migrations beside traffic: how they wait for locks, what limits them, and what they do to tables of messages."""

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fixtures_postgres import with_database
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Identifier

from errors import TablesLocked
from sql import concurrent_indexes, schema

NEXT = "9999.next"
HELD = "lock table jobs in access share mode"  # as a dump of the database does
#: The tables that every message goes through.
OF_MESSAGES = ["accounts", "attempts", "deliveries", "jobs", "lanes", "outbox"]
#: Indexes that migrations made at once, of a table that has thousands of rows where others have millions.
SMALL = ["accounts_org_id_id_key"]
#: Fill each of them as of 0.4.0.
FILL = """
    insert into lanes (id, org_id, kind, queue)
    values ('a', 'org_default', 'account', 'q'), ('e', 'org_default', 'endpoint', 'q');
    insert into accounts (id, org_id, name, transport) values ('a', 'org_default', 'Shop', 'sandbox');
    insert into jobs (id, org_id, account_id, content_hash, phone, message, due_at, send_at, expires_at)
    values ('j', 'org_default', 'a', '', '15556660001', 'Hi', now(), now(), now());
    insert into outbox (id, org_id, type, body) values ('v', 'org_default', 'JobCompleted', '{}');
    insert into endpoints (id, org_id, url, events, secret)
    values ('e', 'org_default', 'https://hooks.example', '{*}', '');
    insert into deliveries (id, org_id, event_id, event_at, type, endpoint_id)
    values ('d', 'org_default', 'v', now(), 'JobCompleted', 'e');
    insert into attempts (org_id, delivery_id, endpoint_id, number) values ('org_default', 'd', 'e', 1);
"""
CHECKED = "the constraints that were checked"
#: What changes when a migration goes through a table's rows.
TRACES = {
    "the files of tables and indexes": """
        with named as (
            select unnest(%(tables)s::text[])::regclass as id
        ), tables as (
            select id from named union all select inhrelid from pg_inherits where inhparent in (select id from named)
        )
        select id::regclass::text, pg_relation_filenode(id)
        from (select id from tables union all select indexrelid from pg_index join tables on indrelid = id) files (id)
        where id::regclass::text <> all (%(small)s)
        order by 1
    """,
    CHECKED: """
        select conrelid::regclass::text, conname::text from pg_constraint
        where conrelid = any (%(tables)s::regclass[]) and convalidated and contype <> 'n' and conname <> all (%(small)s)
        order by 1, 2
    """,
    "the columns that are full": """
        select attrelid::regclass::text, attname::text from pg_attribute
        where attrelid = any (%(tables)s::regclass[]) and attnotnull and not atthasmissing order by 1, 2
    """,
}


@pytest.fixture
def altering_jobs(migrations: Path) -> str:
    """The name of a migration that makes a table, and then wants the strongest lock of `jobs`."""
    (migrations / f"{NEXT}.sql").write_text("create table made_before ();\nalter table jobs add column next text;\n")
    return NEXT


def until(is_so: Callable[[], object]) -> None:
    """Wait as long as the test may take."""
    while not is_so():
        time.sleep(0.01)


def is_waited_for(connection: psycopg.Connection, kind: str) -> bool:
    """Tell whether somebody waits for a lock of this kind in this database."""
    database = "(select oid from pg_database where datname = current_database())"
    waiting = f"select from pg_locks where not granted and locktype = %s and database = {database}"
    return bool(connection.execute(waiting.encode(), [kind]).rowcount)


def is_made(connection: psycopg.Connection) -> bool:
    """Tell whether the first half of the migration is there."""
    return connection.execute("select to_regclass('made_before')").fetchone() != (None,)


# --- locks -------------------------------------------------------------------------------------------------------


def test_a_migration_waits_for_a_table_in_turns_that_let_others_through(
    database_url: str, altering_jobs: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sql.schema")
    with (
        psycopg.connect(database_url) as holder,
        psycopg.connect(database_url, autocommit=True) as other,
        ThreadPoolExecutor(1) as pool,
    ):
        holder.execute(HELD)
        migrating = pool.submit(schema.migrate, database_url)
        for turn in (1, 2):
            until(lambda: is_waited_for(other, "relation"))
            # It waits behind the migration, and does not wait for what the migration waits for.
            other.execute("select from jobs")
            until(lambda: len(caplog.records) >= turn)  # noqa: B023  # called at once
        assert {vars(record)["event"] for record in caplog.records} == {"migration.retry"}
        assert not migrating.done()
        holder.rollback()
        assert migrating.result() == [altering_jobs]
    assert altering_jobs in schema.state(database_url)[0]


def test_a_table_that_stays_locked_ends_a_migration_and_leaves_nothing_of_it(
    database_url: str, altering_jobs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "TRIES", 2)
    before = schema.state(database_url)
    with psycopg.connect(database_url) as holder:
        holder.execute(HELD)
        with pytest.raises(TablesLocked, match=r"stayed locked.*pg_stat_activity"):
            schema.migrate(database_url)
        assert not is_made(holder)
    assert schema.state(database_url) == before
    assert schema.migrate(database_url) == [altering_jobs]


def test_a_migration_that_cannot_be_marked_is_not_applied(database_url: str, altering_jobs: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("alter table _yoyo_migration add constraint refused check (migration_id not like '9999%')")
        with pytest.raises(psycopg.errors.CheckViolation):
            schema.migrate(database_url)
        assert not is_made(connection)
        connection.execute("alter table _yoyo_migration drop constraint refused")
        assert schema.migrate(database_url) == [altering_jobs]
        assert is_made(connection)


# --- limits ------------------------------------------------------------------------------------------------------


def test_limits_that_are_meant_for_traffic_hold_for_no_migration(database_url: str, migrations: Path) -> None:
    (migrations / f"{NEXT}.sql").write_text(
        "create table slow as select current_schemas(false) as path from pg_sleep(0.3);\n"
    )
    with psycopg.connect(database_url, autocommit=True) as connection, ThreadPoolExecutor(1) as pool:
        for limit in ("lock_timeout", "idle_session_timeout", "idle_in_transaction_session_timeout"):
            name = Identifier(str(conninfo_to_dict(database_url)["dbname"]))
            connection.execute(SQL("alter database {} set {} = '100ms'").format(name, Identifier(limit)))
        # Another process that migrates.
        connection.execute("select pg_advisory_lock(%s)", [schema.LOCK])
        asked = "select from pg_stat_activity where query like '%pg_try_advisory_lock%' and pid <> pg_backend_pid()"
        options = "options=-c%20statement_timeout%3D100ms%20-c%20search_path%3Dpublic,report"
        url = f"{database_url}{'&' if '?' in database_url else '?'}{options}"
        migrating = pool.submit(schema.migrate, url)
        until(lambda: connection.execute(asked).rowcount)
        connection.execute("select pg_sleep(0.3)")
        assert not migrating.done()
        connection.execute("select pg_advisory_unlock(%s)", [schema.LOCK])
        assert migrating.result() == [NEXT]
        assert connection.execute("select path from slow").fetchone() == (["public", "report"],), "other options count"


# --- what migrations do ------------------------------------------------------------------------------------------


def test_no_migration_since_0_4_0_goes_through_a_table_of_messages(
    postgres: str, migrations: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each changes no more than the catalogue, which is as quick for a million rows; messages wait for no longer."""
    monkeypatch.setattr(concurrent_indexes, "unwanted", list)  # which is no migration's work
    newer = sorted(path for path in migrations.iterdir() if path.name >= "0009")
    texts = {path: path.read_text() for path in newer}
    for path in newer:
        path.unlink()
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("drop database if exists as_of_0_4_0 with (force)")
        connection.execute("create database as_of_0_4_0")
    url = with_database(postgres, "as_of_0_4_0")
    assert [name for name in schema.migrate(url) if name in schema.names()][-1].startswith("0008")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(FILL)
        before = traces(connection)
        for path, text in texts.items():
            path.write_text(text)
            assert schema.migrate(url) == [path.stem]
            after = traces(connection)
            # One that is dropped goes through nothing.
            assert set(after[CHECKED]) <= set(before[CHECKED]), path.stem
            assert {**after, CHECKED: []} == {**before, CHECKED: []}, path.stem


def traces(connection: psycopg.Connection) -> dict[str, list[tuple[Any, ...]]]:
    """Return what TRACES asks for, and the version of each row."""
    found = {
        what: connection.execute(query.encode(), {"tables": OF_MESSAGES, "small": SMALL}).fetchall()
        for what, query in TRACES.items()
    }
    for table in OF_MESSAGES:
        versions = connection.execute(SQL("select xmin::text from {} order by 1").format(Identifier(table))).fetchall()
        assert versions, table
        found[f"the rows of {table}"] = versions
    return found
