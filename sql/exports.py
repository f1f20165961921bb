"""Exports: the rows of a report, copied into a file at the database's speed. They block, and belong in a thread."""

import errno
import os
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import IO, Any

import psycopg
from psycopg import errors as postgres
from psycopg.sql import SQL, Composed, Identifier, Literal

from errors import DatabaseUnavailable, DiskFull, ReportTooLarge, TooManyRequests
from sql.database import Database, connection_options, translated
from sql.pool import CANCEL
from sql.report_views import Form
from sql.roles import Role

SECONDS = 60  # that Postgres may take for one
TURN_SECONDS = 5  # that one waits while another process makes one in the same turn
LARGEST = 1 << 30  # bytes
CHUNK = 1 << 15  # bytes written at once
REST = 0.0003  # seconds after each, in which other threads run
#: Postgres ends a statement whose client is gone, instead of working on for nobody.
NOTICES = "-c client_connection_check_interval=5s"

BOM = "\ufeff".encode()


class Export:
    """Copies what a statement gives, in the scope of a caller, in one statement and so of one moment."""

    def __init__(
        self, database: Database, statement: Composed, form: Form, *, turn: str | None = None, bom: bool = False
    ) -> None:
        """Make it for the caller whose scope the database has; raise ValueError if it has none.

        Of those with the same `turn` one at a time is running in all processes. `bom`: CSV begins with a byte order
        mark, by which Excel knows that it is UTF-8.
        """
        if database.scope is None:
            raise ValueError("an export needs the scope of a caller")
        self._url, self._scope, self._statement = database.url, database.scope, statement
        self._form, self._turn, self._bom = form, turn, bom
        self._connection: psycopg.Connection[Any] | None = None
        self._stopped = False
        self._ended = threading.Event()

    def write(self, file: IO[bytes], most: int = LARGEST) -> int:
        """Write all rows; return how many. Raises DatabaseError, TooManyRequests, ReportTooLarge, DiskFull.

        When it raises, the file has a part of them.
        """
        try:
            return self._write(file, most)
        finally:
            self._ended.set()

    def _write(self, file: IO[bytes], most: int) -> int:
        options = connection_options(Role.API, f"-c statement_timeout={SECONDS}s", NOTICES)
        with translated(), psycopg.connect(self._url, **options, autocommit=True) as connection:
            # First, so that it can be stopped whatever it waits for: from here on `stop` sees the connection.
            self._connection = connection
            if self._stopped:
                raise DatabaseUnavailable
            # A pooler may drop the option.
            connection.execute(SQL("set role {}").format(Identifier(Role.API)))
            connection.execute(self._scope.begin)
            self._take_turn(connection)
            with connection.cursor() as cursor, cursor.copy(self._statement) as copy:
                rows = _Counted(copy)
                _write_lines(self._lines(rows), file, most)
        return rows.number

    def stop(self) -> None:
        """End it from another thread, whatever it waits for: it raises a DatabaseError."""
        self._stopped = True
        # It may have ended by itself meanwhile.
        with suppress(psycopg.Error, OSError):
            if self._connection is not None:
                sent_to = socket.socket(fileno=os.dup(self._connection.fileno()))
                with sent_to:
                    with suppress(psycopg.Error):
                        self._connection.cancel_safe(timeout=CANCEL)
                    if not self._ended.wait(CANCEL):  # Postgres does not answer
                        sent_to.shutdown(socket.SHUT_RDWR)

    def _take_turn(self, connection: psycopg.Connection[Any]) -> None:
        if self._turn is None:
            return
        connection.execute(SQL("set local lock_timeout = {}").format(Literal(f"{TURN_SECONDS}s")))
        try:
            connection.execute("select pg_advisory_xact_lock(hashtextextended('report ' || %s, 0))", [self._turn])
        except postgres.LockNotAvailable:
            raise one_at_a_time() from None
        connection.execute("set local lock_timeout = 0")

    def _lines(self, rows: "_Counted") -> Iterator[bytes]:
        match self._form:
            case Form.CSV:
                # Ends of lines as RFC 4180 has them. Those inside of a value stay as they are.
                lines = (row[:-1] + b"\r\n" for row in rows)
                yield (BOM if self._bom else b"") + next(lines)
                rows.number = 0  # the first one was the header
                yield from lines
            case Form.NDJSON:
                yield from rows
                yield b'{"complete":true,"rows":%d}\n' % rows.number
            case Form.JSON:
                yield b'{"items":['
                for row in rows:
                    yield row[:-1] if rows.number == 1 else b",\n" + row[:-1]
                yield b"]}"


def one_at_a_time() -> TooManyRequests:
    """Return the error for a caller whose earlier report is still being made or read."""
    return TooManyRequests("This key gets one report at a time: ask again when it has the other one.", retry_after=5)


class _Counted:
    """Rows as COPY writes them, and how many there have been. Postgres sends each in a message (manual, 54.2.6)."""

    def __init__(self, copy: psycopg.Copy) -> None:
        self._copy = copy
        self.number = 0

    def __iter__(self) -> Iterator[bytes]:
        for row in self._copy:
            self.number += 1
            yield bytes(row)


def _write_lines(lines: Iterable[bytes], file: IO[bytes], most: int) -> None:
    chunk: list[bytes] = []
    size = written = 0
    for line in lines:
        chunk.append(line)
        size += len(line)
        if size >= CHUNK:
            written += size
            if written > most:
                raise ReportTooLarge
            _put(file, chunk)
            chunk, size = [], 0
    _put(file, chunk)
    _put(file, [], flush=True)


def _put(file: IO[bytes], chunk: list[bytes], *, flush: bool = False) -> None:
    # The interpreter would let the event loop wait for 5 ms each time that it wants to go on.
    time.sleep(REST)
    try:
        file.write(b"".join(chunk))
        if flush:
            file.flush()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(retry_after=60) from error
        raise
