"""The database: named queries on a pool, and the only place that translates psycopg's errors to our own."""

import asyncio
import copy
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from types import TracebackType
from typing import Any, LiteralString, Self, TypeVar

import psycopg
from psycopg import errors as postgres
from psycopg.pq import TransactionStatus
from psycopg.rows import class_row, dict_row
from psycopg_pool import PoolClosed, PoolTimeout, TooManyRequests

from errors import DatabaseBusy, DatabaseError, DatabaseFull, DatabaseSlow, DatabaseUnavailable, OutOfScope
from sql import roles, scope
from sql.loader import queries
from sql.pool import Pool
from sql.roles import Role
from sql.scope import Scope, scope_of
from sql.turns import Turns

log = logging.getLogger(__name__)

Row = dict[str, Any]
T = TypeVar("T")

LIMIT = 15.0  # seconds a statement or a transaction may take, the wait for a connection included
POOL_TIMEOUT = 3.0  # seconds a request waits for a connection
#: A line that has not ended for so many seconds is no burst: it only makes each wait, and a third of it is admitted.
BURST = 2.0
#: Without these, a peer that vanished without closing the connection blocks a call for hours (procrastinate #1334).
CONNECTION: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
    # Postgres stops a statement before our own wait for an answer ends (ANSWER in pool.py): a statement that is slow is
    # told from a server that is silent.
    "options": "-c statement_timeout=9s -c idle_in_transaction_session_timeout=30s -c timezone=utc",
}

#: For a transaction whose statements all see the same moment.
ONE_SNAPSHOT: LiteralString = "set transaction isolation level repeatable read"

#: More options, for connections that look for work. Mostly there is none, and the plans that are made for empty tables,
#: and kept, read all wake-ups for each of them until Postgres next analyzes the table: with 1,000 that come at once, to
#: fetch one took 0.2 s, and with 10,000 longer than a statement may. Before Postgres 18 what has no index would seem so
#: dear that it would be compiled each time (`jit`).
BY_INDEX = "-c enable_seqscan=off -c jit=off"


def connection_options(role: Role | None, *more: str) -> dict[str, Any]:
    """Return CONNECTION for connections that take a role as they begin, with further options of Postgres."""
    taken = [roles.option(role)] if role else []
    return {**CONNECTION, "options": " ".join([CONNECTION["options"], *more, *taken])}


#: Two transactions conflicted: they are retried once, and mean nothing else.
COLLISIONS: tuple[type[psycopg.Error], ...] = (postgres.DeadlockDetected, postgres.SerializationFailure)
#: Beginning of a SQLSTATE (appendix A of the manual of Postgres) → error; the longest that fits counts. Any other, such
#: as a syntax error, is a fault of ours and raised as it is.
STATES: Mapping[str, type[DatabaseError]] = {
    "08": DatabaseUnavailable,  # connection
    "25006": DatabaseUnavailable,  # read-only: after a failover, the connection may lead to a replica
    "25P03": DatabaseSlow,  # idle_in_transaction_session_timeout
    "25P04": DatabaseSlow,  # transaction_timeout
    "28": DatabaseUnavailable,  # user or password
    "53": DatabaseBusy,  # memory, connections
    "53100": DatabaseFull,  # disk
    "55P03": DatabaseSlow,  # lock_timeout
    "57": DatabaseUnavailable,  # shutdown, crash, start
    "57014": DatabaseSlow,  # statement_timeout
    "58": DatabaseUnavailable,  # operating system
    "F0": DatabaseUnavailable,  # configuration
}
#: Exception without a SQLSTATE → error, the most specific first.
STATELESS: Mapping[type[psycopg.Error], type[DatabaseError]] = {
    PoolTimeout: DatabaseBusy,
    TooManyRequests: DatabaseBusy,
    PoolClosed: DatabaseUnavailable,
    psycopg.OperationalError: DatabaseUnavailable,
    psycopg.InterfaceError: DatabaseUnavailable,
}
#: Seconds that a client is asked to wait. After DatabaseSlow it is not asked to try again at all.
RETRY_AFTER: Mapping[type[DatabaseError], float] = {DatabaseUnavailable: 5.0, DatabaseBusy: 1.0, DatabaseFull: 60.0}


def translate(error: psycopg.Error) -> DatabaseError | None:
    """Return our error for one of psycopg or its pool, or None for a collision and a fault of ours."""
    state = error.sqlstate or ""
    if state:
        kind = next((STATES[state[:length]] for length in (5, 2) if state[:length] in STATES), None)
    else:
        kind = next((ours for theirs, ours in STATELESS.items() if isinstance(error, theirs)), None)
    return None if kind is None else kind(retry_after=RETRY_AFTER.get(kind))


@asynccontextmanager
async def bounded(seconds: float) -> AsyncIterator[None]:
    """Limit a transaction to so many seconds, as Postgres does from version 17 on. Raise TransactionTimeout."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise postgres.TransactionTimeout(f"It took more than {seconds:.0f} s.") from error


@contextmanager
def translated() -> Iterator[None]:
    """Translate what psycopg and its pool raise."""
    try:
        yield
    except postgres.InsufficientPrivilege as error:
        # A fence of Postgres has stopped what a query of ours tried: to the caller there is no such thing.
        reason = error.diag.message_primary or type(error).__name__
        log.error(  # noqa: TRY400  # the caller is answered as for what does not exist
            "a query went beyond what its role and its org may: %s", reason,
            extra={"event": "database.out_of_scope", "reason": reason},
        )  # fmt: skip
        raise OutOfScope from error
    except psycopg.Error as error:
        if ours := translate(error):
            _log_failure(ours, type(error).__name__)
            raise ours from error
        # After the first line Postgres quotes rows, with message texts and phone numbers, which must not be logged.
        error.args = (error.diag.message_primary or str(error),)
        raise


def _log_failure(error: DatabaseError, reason: str) -> None:
    if isinstance(error, DatabaseUnavailable):
        log.warning("the database is away: %s", reason, extra={"event": "database.away", "reason": reason})
    else:
        log.warning(
            "the database did not do its work: %s (%s)", error.code, reason,
            extra={"event": "database.overloaded", "code": error.code, "reason": reason},
        )  # fmt: skip


class Transaction:
    """Named queries on one connection, in one transaction. Within a scope, the parameter `org` is the scope's."""

    def __init__(
        self,
        connection: psycopg.AsyncConnection[Any],
        *,
        prepare: bool | None = None,
        scope: Scope | None = None,
        alone: bool = False,
    ) -> None:
        """Leave it to psycopg which statements it prepares, unless `prepare` says so.

        `alone`: no transaction is open, and each query brings its scope along.
        """
        self.connection = connection
        self._prepare = prepare
        self._scope = scope
        self._alone = alone

    async def all(self, name: str, /, **values: object) -> list[Row]:
        """Return every row of the query."""
        async with self.connection.cursor(row_factory=dict_row) as cursor:
            await self._execute(cursor, name, values)
            return await cursor.fetchall() if cursor.description else []

    async def one(self, name: str, /, **values: object) -> Row | None:
        """Return the first row of the query, or None."""
        rows = await self.all(name, **values)
        return rows[0] if rows else None

    async def read(self, shape: type[T], name: str, /, **values: object) -> list[T]:
        """Return every row of the query as `shape`, a dataclass with a field for each column."""
        async with self.connection.cursor(row_factory=class_row(shape)) as cursor:
            await self._execute(cursor, name, values)
            return await cursor.fetchall()

    async def _execute(self, cursor: psycopg.AsyncCursor[Any], name: str, values: dict[str, object]) -> None:
        if self._scope is None:
            await cursor.execute(queries()[name], values, prepare=self._prepare)
            return
        values = {**values, "org": self._scope.org}
        if not self._alone:
            await cursor.execute(queries()[name], values, prepare=self._prepare)
            return
        # One message, and so one implicit transaction, at whose end the scope ends too. The cursor has its result only
        # after the pipeline: inside, even its description is missing.
        async with self.connection.pipeline():
            await self.connection.execute(scope.SET, self._scope.values)
            await cursor.execute(queries()[name], values, prepare=self._prepare)


class Database:
    """A pool of connections that runs named queries. Each call raises a DatabaseError when Postgres does not do it."""

    _prepare: bool | None = None
    #: whose rows its queries see, if the role is bound by policies
    scope: Scope | None = None

    def __init__(
        self,
        url: str,
        role: Role | None = None,
        *,
        size: int = 10,
        name: str = "postrider",
        patience: float = POOL_TIMEOUT,
        most_waiting: int = 0,
    ) -> None:
        """Make a pool of `size` connections, which take a role; without one they are what the login is.

        `admit` lets `most_waiting` callers wait for one in a burst (0 is any number), and a third of them after that.
        """
        self.url = url
        self._role, self._name = role, name
        self._most_waiting = most_waiting
        self._pool = Pool(
            url,
            min_size=1,
            max_size=size,
            timeout=patience,
            # Of those that nobody admits, and that wait a second time.
            max_waiting=4 * most_waiting,
            # Give up a failed connection attempt soon: the next request then starts a new one at once. The pool's own
            # exponential backoff would go on for minutes after a long outage.
            reconnect_timeout=2.0,
            kwargs={**connection_options(role), "application_name": name},
            configure=partial(_configure, role),
            open=False,
        )

    async def __aenter__(self) -> Self:
        await self._pool.open(wait=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._pool.close(timeout=2.0)

    @property
    def size(self) -> int:
        """How many connections it has at most."""
        return self._pool.max_size

    def apart(self, size: int) -> "Database":
        """Return another pool of `size` connections like these, for work that must not wait for what others do here."""
        return Database(self.url, self._role, size=size, name=self._name)

    def of(self, org: str, accounts: Sequence[str] | None = None, actor: str = "") -> Self:
        """Return the same pool for a caller that acts for an org: its queries see the rows of that org and no others.

        `accounts` are those of the org that it may see (None is all), `actor` is who it is. The role has to be one that
        the policies bind.
        """
        scoped = copy.copy(self)
        scoped.scope = scope_of(org, None if accounts is None else tuple(accounts), actor)
        return scoped

    def admit(self, others: int = 0) -> None:
        """Raise DatabaseBusy if so many wait for a connection, or `others` behind them, that one more waits too long.

        For the beginning of a request: turned away later, it would have kept others waiting for nothing.
        """
        most = self._most_waiting if self._pool.backlog_seconds < BURST else self._most_waiting // 3
        if self._most_waiting and max(self._pool.waiting, others) >= most:
            with translated():
                raise TooManyRequests("Too many wait for a connection.")

    def share(
        self, most: int, *, patience: float | None = None, rest: float = 0.0, planned_anew: bool = False
    ) -> "Share":
        """Return a share of the pool that runs at most so many calls at once.

        Others wait for `patience` seconds (None is any time) and raise DatabaseBusy then. After each call the share
        rests for as long as the call took, at most `rest` seconds. With `planned_anew` no statement is prepared, and so
        each is planned for its values: a filter that is not asked for is then no part of the plan.
        """
        return Share(self.url, self._pool, most, patience, rest, prepare=False if planned_anew else None)

    @asynccontextmanager
    async def transaction(self, *, one_snapshot: bool = False) -> AsyncIterator[Transaction]:
        """Open a transaction; it commits at the end of the block, or rolls back when the block raises.

        With `one_snapshot` all its statements see what was committed before the first of them, and it collides with
        a transaction that has changed the same since then.
        """
        with translated():
            async with bounded(LIMIT), self._pool.connection() as connection, _begun(connection, self.scope):
                if one_snapshot:
                    await connection.execute(ONE_SNAPSHOT, prepare=False)
                yield Transaction(connection, prepare=self._prepare, scope=self.scope)

    @asynccontextmanager
    async def _statement(self) -> AsyncIterator[Transaction]:
        with translated():
            async with bounded(LIMIT), self._pool.connection() as connection:
                yield Transaction(connection, prepare=self._prepare, scope=self.scope, alone=True)

    async def transact(self, work: Callable[[Transaction], Awaitable[T]], *, one_snapshot: bool = False) -> T:
        """Run `work` in a transaction, once more if it collided with another one; DatabaseBusy if it did so again."""
        try:
            async with self.transaction(one_snapshot=one_snapshot) as tx:
                return await work(tx)
        except COLLISIONS as error:
            _log_collision("a transaction", error)
        with _last_try():
            async with self.transaction(one_snapshot=one_snapshot) as tx:
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
        with _last_try():
            async with self._statement() as statement:
                return await run(statement)


@asynccontextmanager
async def _begun(connection: psycopg.AsyncConnection[Any], within: Scope | None) -> AsyncIterator[None]:
    """Open a transaction for the block, in a scope if one is given."""
    if within is None:
        async with connection.transaction():
            yield
        return
    try:
        await connection.execute(within.begin, prepare=False)
        yield
    except BaseException:
        with suppress(psycopg.Error):  # of a connection that broke; the error that ended the block counts
            await connection.rollback()
        raise
    if connection.info.transaction_status == TransactionStatus.INERROR:
        # Postgres would answer COMMIT by a rollback, and without an error.
        await connection.rollback()
        raise postgres.InFailedSqlTransaction("A statement has failed, and so has the transaction.")
    await connection.commit()


@contextmanager
def _last_try() -> Iterator[None]:
    """Raise DatabaseBusy for a collision: callers that wait for a database that is away wait for this one too."""
    try:
        yield
    except COLLISIONS as error:
        raise DatabaseBusy(retry_after=RETRY_AFTER[DatabaseBusy]) from error


def _log_collision(what: str, error: Exception) -> None:
    reason = type(error).__name__
    log.info("trying %s again after %s", what, reason, extra={"event": "database.collision", "reason": reason})


class Share(Database):
    """A share of a pool: at most so many calls at once, so that many callers leave connections for others."""

    def __init__(
        self, url: str, pool: Pool, most: int, patience: float | None, rest: float, *, prepare: bool | None
    ) -> None:
        self.url = url
        self._prepare = prepare
        self._pool = pool
        self._most = most
        self._turns, self.group = Turns(most), ""
        self._patience = patience
        self._rest = rest

    def for_group(self, group: str) -> "Share":
        """Return the same share for a group of callers: the groups take turns, however many each has waiting."""
        share = copy.copy(self)
        share.group = group
        return share

    @asynccontextmanager
    async def transaction(self, *, one_snapshot: bool = False) -> AsyncIterator[Transaction]:
        """Open a transaction as soon as fewer than `most` calls are running."""
        async with self._in_turn(), super().transaction(one_snapshot=one_snapshot) as tx:
            yield tx

    @asynccontextmanager
    async def _statement(self) -> AsyncIterator[Transaction]:
        async with self._in_turn(), super()._statement() as statement:
            yield statement

    @asynccontextmanager
    async def _in_turn(self) -> AsyncIterator[None]:
        await self._wait_for_turn()
        try:
            began = time.monotonic()
            yield
            # As long as the call took, so that other callers find Postgres idle half of the time.
            await asyncio.sleep(min(time.monotonic() - began, self._rest))
        finally:
            self._turns.release()

    async def _wait_for_turn(self) -> None:
        began = time.monotonic()
        with translated():
            try:
                async with asyncio.timeout(self._patience):
                    await self._turns.acquire(self.group)
            except TimeoutError as error:
                raise self._pool.timed_out(self._most, began) from error


async def _configure(role: Role | None, connection: psycopg.AsyncConnection[Any]) -> None:
    # Saves BEGIN and COMMIT around single statements. Not set in the pool's kwargs: procrastinate's listener passes
    # autocommit itself and would fail on the duplicate argument.
    await connection.set_autocommit(True)
    if role:
        await roles.take(connection, role)
