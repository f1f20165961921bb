"""Connections that time out when Postgres does not answer, and the pool of them.

TCP's own timers (`CONNECTION` in sql/database.py) end a connection whose packets are lost. They do not see a peer that
acknowledges every packet and never answers: a frozen server, or a proxy or pooler that hangs. psycopg
sets no limit of its own.
"""

import select
import time
from collections.abc import Generator
from contextlib import suppress
from typing import Any, TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool, PoolTimeout

ANSWER = 10.0  # seconds that Postgres has for one answer; the connection is closed then
CHECK = 1.0  # seconds that an idle connection has to answer a check
CANCEL = 1.0  # seconds to cancel a query that timed out
FRESH = 0.1  # seconds after an answer without a check: each check costs as much as a query

T = TypeVar("T")


class Connection(psycopg.AsyncConnection[Any]):
    """A connection that is closed when it does not answer, or leads to a read-only server."""

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
            # The old primary after a failover. A new connection resolves the address again.
            self.pgconn.finish()
            raise
        except psycopg.OperationalError:
            # A query without an answer leaves the state unknown. While waiting for notifications, none is due.
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.silent = True
                # Otherwise Postgres would go on, and might commit what the caller was told had failed.
                with suppress(psycopg.Error):
                    await self.cancel_safe(timeout=CANCEL)
                self.pgconn.finish()
            raise
        self.answered = time.monotonic()
        return answer


class Pool(AsyncConnectionPool[Connection]):
    """A pool of them that checks whether a connection answers before handing it out."""

    def __init__(self, conninfo: str, **options: Any) -> None:
        super().__init__(conninfo, connection_class=Connection, **{**options, "check": self._answers})
        self._lent = 0
        #: how many ask for a connection, and since when, without a break, somebody does
        self._asking = 0
        self._asked_since = 0.0
        #: when one that was taken back last answered, by the monotonic clock
        self._answered = 0.0

    async def getconn(self, timeout: float | None = None) -> Connection:  # noqa: ASYNC109  # psycopg_pool's signature
        """Lend a connection. Raise PoolTimeout when all are in use, ConnectionTimeout when none could be opened."""
        began = time.monotonic()
        if not self._asking:
            self._asked_since = began
        self._asking += 1
        try:
            connection = await super().getconn(timeout)
        except PoolTimeout as error:
            raise self.timed_out(self.max_size, began) from error
        finally:
            self._asking -= 1
        self._lent += 1
        return connection

    @property
    def waiting(self) -> int:
        """How many wait for a connection."""
        return int(self.get_stats().get("requests_waiting", 0))

    @property
    def backlog_seconds(self) -> float:
        """For how long there has been somebody waiting without a break."""
        return time.monotonic() - self._asked_since if self._asking else 0.0

    def timed_out(self, most: int, began: float) -> psycopg.OperationalError:
        """Return the error for a caller that got no connection since `began`: all are in use, or none could be opened.

        A connection that passes from one caller to the next, or is checked, is lent to nobody for a moment; so they are
        in use if `most` are lent, and also if others were answered meanwhile.
        """
        if self._lent >= most or self._answered > began:
            return PoolTimeout("Every connection is in use.")
        return psycopg.errors.ConnectionTimeout("No connection could be opened.")

    async def putconn(self, conn: Connection) -> None:
        """Take a connection back."""
        self._lent -= 1
        self._answered = max(self._answered, conn.answered)
        await super().putconn(conn)

    async def _answers(self, connection: Connection) -> None:
        if time.monotonic() - connection.answered < FRESH and not _is_readable(connection):
            return
        connection.patience = CHECK
        try:
            await connection.execute("")
        finally:
            connection.patience = Connection.patience
            if connection.silent:
                # The other connections are probably dead too; checked one by one, each would delay a caller.
                await self.drain()


def _is_readable(connection: Connection) -> bool:
    """Tell whether there is data to read; on an idle connection that mostly means that it was closed."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))
