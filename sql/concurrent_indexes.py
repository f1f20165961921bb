"""Indexes that are made and dropped beside the traffic: those of concurrent_indexes.sql, each `concurrently`."""

import logging
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from psycopg.sql import SQL, Composed, Identifier

from sql.loader import queries

log = logging.getLogger(__name__)

FILE = Path(__file__).parent / "concurrent_indexes.sql"
_STATEMENT = re.compile(r"^create index (\w+) on (\w+) (.+);$", re.MULTILINE)
_DROP = re.compile(r"^drop index (\w+);$", re.MULTILINE)


@dataclass(frozen=True)
class Index:
    """An index that a table has, or is to have."""

    name: str
    table: str
    #: its columns, and the rows that it has if not all
    definition: bytes

    def of_partition(self, partition: str) -> "Index":
        """Return the part of it that a partition of its table is to have."""
        return replace(self, name=self.name.replace(self.table, partition, 1), table=partition)


def wanted() -> Iterator[Index]:
    """Yield those of concurrent_indexes.sql."""
    for name, table, definition in _STATEMENT.findall(FILE.read_text(encoding="utf-8")):
        yield Index(name, table, definition.encode())


def unwanted() -> list[str]:
    """Return the names of those that concurrent_indexes.sql drops."""
    return _DROP.findall(FILE.read_text(encoding="utf-8"))


def make(connection: psycopg.Connection[Any], lock_timeout: str, made: list[str]) -> None:
    """Make those that are missing, on a connection in autocommit, and add the name of each to `made`.

    Their tables are analyzed then: without statistics Postgres would not take an index for what it is made for. A run
    that was ended is completed by the next. Raises DeadlockDetected, and LockNotAvailable when a lock that others would
    wait behind is not had within `lock_timeout`.
    """
    tables: set[str] = set()
    for index in wanted():
        partitioned, usable = _state(connection, index)
        # If retention drops the last partition that lacked its part, Postgres leaves the parent's index marked invalid
        # for good. It is complete all the same.
        if usable or (partitioned and usable is not None and not _partitions_without(connection, index)):
            continue
        log.info(
            "building the index %s of %s", index.name, index.table,
            extra={"event": "index.build", "index": index.name, "table": index.table},
        )  # fmt: skip
        if partitioned:
            _make_in_partitions(connection, index, lock_timeout, exists=usable is not None)
        else:
            _make_concurrently(connection, index)
            tables.add(index.table)
        made.append(index.name)
    for table in sorted(tables):
        connection.execute(SQL("analyze {}").format(Identifier(table)))


def drop(connection: psycopg.Connection[Any], lock_timeout: str) -> None:
    """Drop those that only older versions use, unless a process of one runs; on a connection in autocommit.

    Waits for older transactions, and nobody waits behind it meanwhile. Raises LockNotAvailable when the lock of a table
    with partitions is not had within `lock_timeout`.
    """
    found = connection.execute(queries()["indexes_of_these"], {"names": unwanted()}).fetchall()
    older = [version for (version,) in connection.execute(queries()["older_versions"]).fetchall()] if found else []
    if older:
        names = [name for name, _ in found]
        log.warning(
            "keeping %d indexes, which version %s uses: run `postrider migrate` again after the update", len(names),
            ", ".join(older), extra={"event": "index.kept", "indexes": names, "versions": older},
        )  # fmt: skip
        return
    for name, partitioned in found:
        log.info("dropping the index %s", name, extra={"event": "index.drop", "index": name})
        if partitioned:
            _with_lock_timeout(connection, lock_timeout, SQL("drop index {}").format(Identifier(name)))
        else:
            connection.execute(SQL("drop index concurrently {}").format(Identifier(name)))


def _state(connection: psycopg.Connection[Any], index: Index) -> tuple[bool, bool | None]:
    names = {"table": index.table, "index": index.name}
    ((partitioned, usable),) = connection.execute(queries()["index_state"], names).fetchall()
    return partitioned, usable


def _partitions_without(connection: psycopg.Connection[Any], index: Index) -> list[str]:
    names = {"table": index.table, "index": index.name}
    return [name for (name,) in connection.execute(queries()["partitions_without_index"], names).fetchall()]


def _make_concurrently(connection: psycopg.Connection[Any], index: Index) -> None:
    """Make an index while others write. Waits for older transactions, and nobody waits behind it meanwhile."""
    usable = _state(connection, index)[1]
    if usable is False:
        # Of a run that was ended. It slows down writes, and no query uses it.
        connection.execute(SQL("drop index concurrently {}").format(Identifier(index.name)))
    if not usable:
        connection.execute(_statement("create index concurrently {} on {} ", index))


def _make_in_partitions(connection: psycopg.Connection[Any], index: Index, lock_timeout: str, *, exists: bool) -> None:
    """Make the index of a table with partitions, which Postgres does not make concurrently: part by part.

    Partitions that come from now on have it from the start.
    """
    if not exists:
        _with_lock_timeout(connection, lock_timeout, _statement("create index {} on only {} ", index))
    for partition in _partitions_without(connection, index):
        part = index.of_partition(partition)
        # Retention may drop a partition meanwhile.
        with suppress(psycopg.errors.UndefinedTable):
            _make_concurrently(connection, part)
            attach = SQL("alter index {} attach partition {}").format(Identifier(index.name), Identifier(part.name))
            _with_lock_timeout(connection, lock_timeout, attach)


def _statement(text: LiteralString, index: Index) -> bytes:
    return SQL(text).format(Identifier(index.name), Identifier(index.table)).as_bytes() + index.definition


def _with_lock_timeout(connection: psycopg.Connection[Any], lock_timeout: str, statement: bytes | Composed) -> None:
    """Run a statement that others wait behind; give up when it does not get its lock in time."""
    with connection.transaction():
        connection.execute("select set_config('lock_timeout', %s, true)", [lock_timeout])
        connection.execute(statement)
