"""Migrations: the roles, numbered files that yoyo applies once under an advisory lock, and then missing indexes."""

import logging
import re
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier

from errors import DatabaseAway, RolesWrong, SchemaWrong, TablesLocked
from sql import concurrent_indexes, roles
from sql.loader import queries
from sql.roles import Role

log = logging.getLogger(__name__)

FOLDER = Path(__file__).parent / "migrations"
LOCK = 0x706F7374  # "post"; held while migrations are applied, and freed by Postgres when the process dies
#: How long a migration waits for a lock. Others that come to the table meanwhile wait behind it, even where the lock in
#: the way would let them in. Longer than deadlock_timeout (1 s unless changed), after which Postgres ends an
#: autovacuum that is in the way.
LOCK_TIMEOUT = "1200ms"
PAUSE = 0.8  # seconds between tries, in which those go on who waited behind the migration
TRIES = 30  # a minute in all, without the time that the migrations themselves take
POLL = 0.2  # seconds between looks whether another process still migrates
#: Limits that a role, a database or a URL may set for traffic. A migration that goes through a table takes its time.
LIMITS = (
    "statement_timeout",
    "lock_timeout",
    "transaction_timeout",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
)
#: Views that see what their reader may see are new in it.
OLDEST_POSTGRES = 150_000
TAKE_OWNER = SQL("set role {}").format(Identifier(Role.OWNER))


def migrate(url: str, service: str | None = None) -> list[str]:
    """Apply the missing migrations, make the missing indexes and return their names; drop indexes of older versions.

    `service` is the login of the processes, if it is another than that of the URL. It may take their roles then.

    Waits while another process does the same. Raises DatabaseAway, SchemaWrong when Postgres is too old, RolesWrong
    when the login may not make the roles, and TablesLocked when something else holds a table locked for a minute. What
    was applied until then stays, each migration and each index whole.
    """
    # Imported here, since a process that only serves never needs it.
    from sql import migrating  # noqa: PLC0415

    done: list[str] = []
    try:
        with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
            _check_version(connection)
            lift_limits(connection)
            _wait_for_lock(connection)
            roles.make(connection, service)
            _beside_traffic(lambda: _adopt(connection))
            with warnings.catch_warnings():
                # yoyo opens a transaction of its own around each step and warns about it.
                warnings.filterwarnings("ignore", message="Nested transaction requested")
                _beside_traffic(lambda: migrating.apply(url, done))
            # Again, for a partition that a process of an older version has made meanwhile.
            _beside_traffic(lambda: _adopt(connection))
            # On the connection that holds the advisory lock. A process of an older version waits for that lock in one
            # long statement, and the index waits for that statement: a deadlock, which Postgres sees and ends only if
            # one connection holds the lock and makes the index.
            _beside_traffic(lambda: concurrent_indexes.make(connection, LOCK_TIMEOUT, done))
            _beside_traffic(lambda: concurrent_indexes.drop(connection, LOCK_TIMEOUT))
    except psycopg.OperationalError as error:
        raise DatabaseAway(f"Postgres cannot be reached: {str(error).strip().splitlines()[0]}") from error
    return done


def _check_version(connection: psycopg.Connection[Any]) -> None:
    if connection.info.server_version < OLDEST_POSTGRES:
        found = connection.info.parameter_status("server_version")
        raise SchemaWrong(f"Postgres must be {OLDEST_POSTGRES // 10_000} or newer, and this is {found}.")


def make_roles(url: str, service: str | None = None) -> None:
    """Make the roles that are missing, for a database that is about to be restored. Raises DatabaseAway, RolesWrong."""
    try:
        with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
            roles.make(connection, service)
    except psycopg.OperationalError as error:
        raise DatabaseAway(f"Postgres cannot be reached: {str(error).strip().splitlines()[0]}") from error


def _adopt(connection: psycopg.Connection[Any]) -> None:
    """Give what is not the owner's yet to the owner, and go on as the owner."""
    connection.execute("reset role")
    roles.adopt(connection, FOLDER, LOCK_TIMEOUT)
    connection.execute(TAKE_OWNER)


def _wait_for_lock(connection: psycopg.Connection[Any]) -> None:
    # Asked for again and again: an index that is made by the other process waits for every statement that is older.
    while connection.execute("select pg_try_advisory_lock(%s)", [LOCK]).fetchone() != (True,):
        time.sleep(POLL)


def _beside_traffic(work: Callable[[], None]) -> None:
    """Do some work until it is done, again after each lock that it does not get soon. Raises TablesLocked."""
    for tried in range(1, TRIES + 1):
        try:
            return work()
        # A migration is one transaction, which may deadlock with traffic on several tables; Postgres ends either side.
        except (psycopg.errors.DeadlockDetected, psycopg.errors.LockNotAvailable) as error:
            if tried == TRIES:
                raise TablesLocked from error
            reason = type(error).__name__
            log.info("migrating once more after %s", reason, extra={"event": "migration.retry", "reason": reason})
            time.sleep(PAUSE)
    return None


def lift_limits(connection: psycopg.Connection[Any]) -> None:
    """Lift LIMITS for a connection that migrates."""
    # Not every release of Postgres has all of them.
    connection.execute("select set_config(name, '0', false) from pg_settings where name = any (%s)", [list(LIMITS)])


def knock(url: str) -> None:
    """Connect once. Raises psycopg.OperationalError."""
    psycopg.connect(url, connect_timeout=5).close()


def state(url: str) -> tuple[set[str], str]:
    """Return the applied migrations and the oldest code that may run on them."""
    with psycopg.connect(url, connect_timeout=5) as connection:
        try:
            row = connection.execute(queries()["schema_state"]).fetchone()
        except psycopg.errors.UndefinedTable:
            row = None
        except psycopg.errors.InsufficientPrivilege:
            raise RolesWrong(
                f"The login {roles.login_of(url)} may not read this database: run `postrider migrate` with it in "
                "DATABASE_URL, or grant it the role of its process (docs/tenancy.md)."
            ) from None
    return (set(row[0]), row[1]) if row else (set(), "0")


def names() -> set[str]:
    """Return the names of the migrations that this code knows."""
    return {path.stem for path in FOLDER.iterdir() if path.suffix in {".sql", ".py"}}


def check(applied: set[str], oldest_code: str, version: str) -> None:
    """Raise SchemaWrong unless code of this `version` may run on a schema with these migrations."""
    if missing := sorted(names() - applied):
        raise SchemaWrong(f"The database lacks the migrations {', '.join(missing)}: run `postrider migrate`.")
    if _parts(version) < _parts(oldest_code):
        raise SchemaWrong(
            f"The database was migrated for Postrider {oldest_code} or newer, and this is {version}: update this one."
        )


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
