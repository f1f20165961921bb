"""Indexes that `postrider migrate` makes beside the traffic: once, in each partition, and anew after a killed run."""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import psycopg
import pytest
from psycopg.sql import SQL, Identifier
from test_migrations import is_waited_for, until

from errors import DatabaseAway, TablesLocked
from sql import concurrent_indexes, schema

JOBS, HISTORY = "jobs_account_list_idx", "jobs_history_phone_list_idx"
#: An index, and a table that each write of it locks: itself, or the partition that no month has room for.
MADE = [(JOBS, "jobs"), (HISTORY, "jobs_history_default")]
#: Each index that can be used, and in how many tables.
USABLE = """
    select coalesce(parents.relname, parts.relname), count(*)
    from pg_index
    join pg_class as parts on parts.oid = indexrelid
    left join pg_inherits on inhrelid = indexrelid
    left join pg_class as parents on parents.oid = inhparent
    where indisvalid and parts.relkind = 'i' and coalesce(parents.relname, parts.relname) = any (%s)
    group by 1
"""
INVALID = "select indexrelid::regclass::text from pg_index where not indisvalid"
#: Who makes an index, and waits for this connection.
BUILDERS = """
    select pid from pg_stat_activity where query like 'create index concurrently%%' and %s = any (pg_blocking_pids(pid))
"""
ADD_ACCOUNT = """
    insert into lanes (id, org_id, kind, queue) values ('a', 'org_default', 'account', 'q');
    insert into accounts (id, org_id, name, transport) values ('a', 'org_default', 'Shop', 'sandbox');
"""
ADD_JOB = """
    insert into jobs (id, org_id, account_id, content_hash, phone, message, due_at, send_at, expires_at, ended_at,
                      state)
    values ('j', 'org_default', 'a', '', '15556660001', 'Hi', now(), now(), now(), '2020-01-01', 'failed')
"""
MOVE_JOB = "insert into jobs_history select * from jobs"


@dataclass
class Traffic:
    """Two connections of others, of which the first is in a transaction that writes to a table."""

    writer: psycopg.Connection
    other: psycopg.Connection

    def write_to(self, table: str) -> None:
        """Hold the lock that a write takes."""
        self.writer.execute(SQL("lock table {} in row exclusive mode").format(Identifier(table)))

    def drop(self, *names: str) -> None:
        for name in names:
            self.other.execute(SQL("drop index {}").format(Identifier(name)))

    def builder(self) -> int:
        """Wait until somebody makes an index and waits for the writer, and return who."""
        found: list[tuple[int]] = []

        def waits() -> bool:
            found[:] = self.other.execute(BUILDERS, [self.writer.info.backend_pid]).fetchall()
            return bool(found)

        until(waits)
        return found[0][0]

    def check_complete(self) -> None:
        """Check that every index is there, in every partition, and that no invalid one is left."""
        partitions = "select from pg_inherits where inhparent = to_regclass(%s)"
        wanted = {
            index.name: max(1, self.other.execute(partitions, [index.table]).rowcount)
            for index in concurrent_indexes.wanted()
        }
        assert dict(self.other.execute(USABLE, [list(wanted)]).fetchall()) == wanted
        assert self.other.execute(INVALID).fetchall() == []


@pytest.fixture
def traffic(database_url: str) -> Iterator[Traffic]:
    with psycopg.connect(database_url) as writer, psycopg.connect(database_url, autocommit=True) as other:
        yield Traffic(writer, other)


# --- what is made ------------------------------------------------------------------------------------------------


def test_every_statement_of_the_file_is_read() -> None:
    text = concurrent_indexes.FILE.read_text()
    statements = [line for line in text.splitlines() if line[:2] not in {"", "--"}]
    assert len(list(concurrent_indexes.wanted())) + len(concurrent_indexes.unwanted()) == len(statements)


def test_a_new_database_has_all_of_them(database_url: str, traffic: Traffic) -> None:
    traffic.check_complete()
    assert schema.migrate(database_url) == []


def test_what_is_missing_is_made_and_logged(
    database_url: str, traffic: Traffic, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sql.concurrent_indexes")
    traffic.drop(JOBS, HISTORY)
    assert schema.migrate(database_url) == [JOBS, HISTORY]
    told = [(vars(record)["event"], vars(record)["index"], vars(record)["table"]) for record in caplog.records]
    assert told == [("index.build", JOBS, "jobs"), ("index.build", HISTORY, "jobs_history")]
    analyzed = "select last_analyze is not null from pg_stat_user_tables where relname = 'jobs'"
    until(lambda: traffic.other.execute(analyzed).fetchone() == (True,))
    traffic.check_complete()


# --- beside traffic ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "table"), MADE)
def test_jobs_are_written_and_moved_while_an_index_is_made(
    database_url: str, traffic: Traffic, name: str, table: str
) -> None:
    traffic.other.execute(ADD_ACCOUNT)
    traffic.drop(name)
    traffic.write_to(table)
    with ThreadPoolExecutor(1) as pool:
        migrating = pool.submit(schema.migrate, database_url)
        traffic.builder()
        traffic.other.execute(ADD_JOB)
        traffic.other.execute(MOVE_JOB)
        assert not migrating.done()
        traffic.writer.rollback()
        assert migrating.result() == [name]
    traffic.check_complete()


@pytest.mark.parametrize(("name", "table"), MADE)
def test_a_run_that_is_killed_in_the_middle_is_mended_by_the_next(
    database_url: str, traffic: Traffic, name: str, table: str
) -> None:
    traffic.drop(name)
    traffic.write_to(table)
    with ThreadPoolExecutor(1) as pool:
        migrating = pool.submit(schema.migrate, database_url)
        traffic.other.execute("select pg_terminate_backend(%s)", [traffic.builder()])
        with pytest.raises(DatabaseAway):
            migrating.result()
    traffic.writer.rollback()
    part = name.replace("jobs_history", table)
    assert (part,) in traffic.other.execute(INVALID).fetchall()
    assert schema.migrate(database_url) == [name]
    traffic.check_complete()


def test_a_partition_that_is_dropped_before_it_has_the_index_is_not_waited_for(
    database_url: str, traffic: Traffic
) -> None:
    traffic.drop(HISTORY)
    definition = next(index.definition for index in concurrent_indexes.wanted() if index.name == HISTORY)
    traffic.other.execute(b"create index jobs_history_phone_list_idx on only jobs_history " + definition)
    partitions = traffic.other.execute(
        "select inhrelid::regclass::text from pg_inherits where inhparent = 'jobs_history'::regclass"
    ).fetchall()
    for (partition,) in partitions:
        traffic.other.execute(SQL("drop table {}").format(Identifier(partition)))
    assert schema.migrate(database_url) == []


def test_the_head_of_a_table_with_partitions_waits_for_its_lock_in_turns(
    database_url: str, traffic: Traffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "TRIES", 2)
    traffic.drop(HISTORY)
    traffic.write_to("jobs_history")
    with pytest.raises(TablesLocked):
        schema.migrate(database_url)
    traffic.writer.rollback()
    assert schema.migrate(database_url) == [HISTORY]
    traffic.check_complete()


def test_an_older_version_that_waits_for_the_same_lock_ends_neither(
    database_url: str, traffic: Traffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until 0.5.0 it waits in one statement, for which the index waits in turn: Postgres sees a deadlock."""
    monkeypatch.setattr(schema, "TRIES", 1)
    traffic.drop(JOBS)
    traffic.write_to("jobs")
    with psycopg.connect(database_url, autocommit=True) as older, ThreadPoolExecutor(2) as pool:
        migrating = pool.submit(schema.migrate, database_url)
        traffic.builder()
        waiting = pool.submit(older.execute, "select pg_advisory_lock(%s)", [schema.LOCK])
        until(lambda: is_waited_for(traffic.other, "advisory"))
        # Longer than the older version looks for a deadlock.
        traffic.other.execute("select pg_sleep(1.5)")
        traffic.writer.rollback()
        with pytest.raises(TablesLocked):
            migrating.result()
        waiting.result()
    assert schema.migrate(database_url) == [JOBS]
    traffic.check_complete()
