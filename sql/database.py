"""The database: named queries on a pool, and the only place that translates psycopg's errors to our own."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar

import psycopg
from psycopg.rows import class_row, dict_row
from psycopg_pool import PoolClosed, PoolTimeout, TooManyRequests

from errors import DatabaseUnavailable
from sql.loader import queries
from sql.pool import Pool

log = logging.getLogger(__name__)

Row = dict[str, Any]
T = TypeVar("T")

LIMIT = 15.0  # seconds a statement or a transaction may take, the wait for a connection included
POOL_TIMEOUT = 3.0  # seconds a request waits for a connection
LONGEST_REST = 0.1  # seconds that a Share pauses at most after a call
RETRY_AFTER = 5.0  # seconds that a client is asked to wait while the database is away
#: Without these, a peer that vanished without closing the connection blocks a call for hours (procrastinate #1334).
CONNECTION: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
    "options": "-c statement_timeout=30s -c idle_in_transaction_session_timeout=30s -c timezone=utc",
}

#: Errors which mean that Postgres is unavailable or shutting down.
AWAY: tuple[type[Exception], ...] = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    # After a failover, the connection may lead to a replica.
    psycopg.errors.ReadOnlySqlTransaction,
    PoolTimeout,
    PoolClosed,
    TooManyRequests,
)
#: Operational errors that do not mean so: two transactions conflicted, and this one may be retried.
COLLISIONS: tuple[type[Exception], ...] = (
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
)


@asynccontextmanager
async def bounded(seconds: float) -> AsyncIterator[None]:
    """Limit the block to so many seconds. Timed here, since a frozen server does not apply its own timeouts."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        log.warning(
            "the database did not answer within %.0f s", seconds, extra={"event": "database.silent", "seconds": seconds}
        )
        raise DatabaseUnavailable(retry_after=RETRY_AFTER) from error


@contextmanager
def translated() -> Iterator[None]:
    """Turn what psycopg and its pool raise when Postgres is away into DatabaseUnavailable (503)."""
    try:
        yield
    except COLLISIONS:
        raise
    except AWAY as error:
        reason = type(error).__name__
        log.warning("the database is away: %s", reason, extra={"event": "database.away", "reason": reason})
        raise DatabaseUnavailable(retry_after=RETRY_AFTER) from error
    except psycopg.Error as error:
        # After the first line Postgres quotes rows, with message texts and phone numbers, which must not be logged.
        error.args = (error.diag.message_primary or str(error),)
        raise


class Transaction:
    """Named queries on one connection, in one transaction."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self.connection = connection

    async def all(self, name: str, /, **values: object) -> list[Row]:
        """Return every row of the query."""
        async with self.connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(queries()[name], values)
            return await cursor.fetchall() if cursor.description else []

    async def one(self, name: str, /, **values: object) -> Row | None:
        """Return the first row of the query, or None."""
        rows = await self.all(name, **values)
        return rows[0] if rows else None

    async def read(self, shape: type[T], name: str, /, **values: object) -> list[T]:
        """Return every row of the query as `shape`, a dataclass with a field for each column."""
        async with self.connection.cursor(row_factory=class_row(shape)) as cursor:
            await cursor.execute(queries()[name], values)
            return await cursor.fetchall()


class Database:
    """A pool of connections that runs named queries. Each call raises DatabaseUnavailable while Postgres is away."""

    def __init__(self, url: str, *, size: int = 10, name: str = "postrider", patience: float = POOL_TIMEOUT) -> None:
        self.url = url
        self._pool = Pool(
            url,
            min_size=1,
            max_size=size,
            timeout=patience,
            # Give up a failed connection attempt soon: the next request then starts a new one at once. The pool's own
            # exponential backoff would go on for minutes after a long outage.
            reconnect_timeout=2.0,
            kwargs={**CONNECTION, "application_name": name},
            configure=_autocommit,
            open=False,
        )

    async def __aenter__(self) -> Self:
        await self._pool.open(wait=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._pool.close(timeout=2.0)

    def share(self, most: int) -> "Share":
        """Return a share of the pool that runs at most so many calls at once."""
        return Share(self.url, self._pool, most)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Open a transaction; it commits at the end of the block, or rolls back when the block raises."""
        with translated():
            async with bounded(LIMIT), self._pool.connection() as connection, connection.transaction():
                yield Transaction(connection)

    @asynccontextmanager
    async def _statement(self) -> AsyncIterator[Transaction]:
        with translated():
            async with bounded(LIMIT), self._pool.connection() as connection:
                yield Transaction(connection)

    async def transact(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Run `work` in a transaction, once more if it collided with another one."""
        try:
            async with self.transaction() as tx:
                return await work(tx)
        except COLLISIONS as error:
            _log_collision("a transaction", error)
        async with self.transaction() as tx:
            return await work(tx)

    async def all(self, name: str, /, **values: object) -> list[Row]:
        """Return every row of a query, in a transaction of its own."""
        return await self._alone(name, lambda statement: statement.all(name, **values))

    async def one(self, name: str, /, **values: object) -> Row | None:
        """Return the first row of a query, or None, in a transaction of its own."""
        rows = await self.all(name, **values)
        return rows[0] if rows else None

    async def read(self, shape: type[T], name: str, /, **values: object) -> list[T]:
        """Return every row of a query as `shape`, in a transaction of its own."""
        return await self._alone(name, lambda statement: statement.read(shape, name, **values))

    async def _alone(self, name: str, run: Callable[[Transaction], Awaitable[T]]) -> T:
        try:
            async with self._statement() as statement:
                return await run(statement)
        except COLLISIONS as error:
            _log_collision(name, error)
        async with self._statement() as statement:
            return await run(statement)


def _log_collision(what: str, error: Exception) -> None:
    reason = type(error).__name__
    log.info("trying %s again after %s", what, reason, extra={"event": "database.collision", "reason": reason})


class Share(Database):
    """A share of a pool: at most so many calls at once, so that many callers leave connections for others."""

    def __init__(self, url: str, pool: Pool, most: int) -> None:
        self.url = url
        self._pool = pool
        self._turn = asyncio.Semaphore(most)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Open a transaction as soon as fewer than `most` calls are running."""
        async with self._in_turn(), super().transaction() as tx:
            yield tx

    @asynccontextmanager
    async def _statement(self) -> AsyncIterator[Transaction]:
        async with self._in_turn(), super()._statement() as statement:
            yield statement

    @asynccontextmanager
    async def _in_turn(self) -> AsyncIterator[None]:
        async with self._turn:
            began = time.monotonic()
            yield
            # Pause for as long as the call took, so that other callers find Postgres idle half of the time.
            await asyncio.sleep(min(time.monotonic() - began, LONGEST_REST))


async def _autocommit(connection: psycopg.AsyncConnection[Any]) -> None:
    # Saves BEGIN and COMMIT around single statements. Not set in the pool's kwargs: procrastinate's listener passes
    # autocommit itself and would fail on the duplicate argument.
    await connection.set_autocommit(True)
