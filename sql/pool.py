"""Connections that wait for no answer for ever, and the pool of them.

TCP's own timers (`CONNECTION` in sql/database.py) end a connection whose packets are lost. They do not see a peer that
takes every packet and says nothing: a frozen server, or a proxy or pooler that hangs. psycopg sets no limit of its own.
"""

import select
import time
from collections.abc import Generator
from contextlib import suppress
from typing import Any, TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool

ANSWER = 10.0  # seconds that Postgres has for one answer; the connection is closed then
CHECK = 1.0  # seconds that an idle connection has to say that it lives
CANCEL = 1.0  # seconds to ask Postgres to stop what is given up
FRESH = 0.1  # seconds after an answer in which a connection is not asked again: each time would cost as much as a query

T = TypeVar("T")


class Connection(psycopg.AsyncConnection[Any]):
    """A connection that is closed when it says nothing, or leads to a server that takes no writes."""

    patience = ANSWER
    silent = False
    #: when it last answered, by the monotonic clock
    answered = 0.0

    async def wait(  # psycopg's own signature
        self,
        gen: Generator[Any, Any, T],
        interval: float = 0.1,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> T:
        """Wait for an answer, or for notifications. Raises OperationalError when none comes in time."""
        try:
            answer = await super().wait(gen, interval, self.patience if timeout is None else timeout)
        except psycopg.errors.ReadOnlySqlTransaction:
            # The server of before a failover. A new connection leads to where its address leads now.
            self.pgconn.finish()
            raise
        except psycopg.OperationalError:
            # Without an answer its state is not known. Waiting for notifications, it owes none.
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.silent = True
                # Postgres works on without a reader, and would commit what its caller was told is not so.
                with suppress(psycopg.Error):
                    await self.cancel_safe(timeout=CANCEL)
                self.pgconn.finish()
            raise
        self.answered = time.monotonic()
        return answer


class Pool(AsyncConnectionPool[Connection]):
    """A pool of them, which looks whether a connection answers before it gives it out."""

    def __init__(self, conninfo: str, **options: Any) -> None:
        super().__init__(conninfo, connection_class=Connection, **{**options, "check": self._answers})

    async def _answers(self, connection: Connection) -> None:
        if time.monotonic() - connection.answered < FRESH and not _says_something(connection):
            return
        connection.patience = CHECK
        try:
            await connection.execute("")
        finally:
            connection.patience = Connection.patience
            if connection.silent:
                # The others were made when it was; one by one, they would keep as many callers waiting.
                await self.drain()


def _says_something(connection: Connection) -> bool:
    """Tell whether there is something to read, which of an idle connection is mostly that it has ended."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))
