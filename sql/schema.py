"""Migrations: numbered files in migrations/, applied once by yoyo under an advisory lock."""

import logging
import re
import warnings
from pathlib import Path

import psycopg
from yoyo import get_backend, read_migrations

from errors import DatabaseAway, SchemaWrong
from sql.loader import queries

log = logging.getLogger(__name__)

FOLDER = Path(__file__).parent / "migrations"
RETRIES = 5  # after a deadlock
LOCK = 0x706F7374  # "post"; held while migrations are applied, and freed by Postgres when the process dies


def migrate(url: str) -> list[str]:
    """Apply the missing migrations and return their names; wait while another process does the same."""
    try:
        with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
            connection.execute("select pg_advisory_lock(%s)", [LOCK])
            with warnings.catch_warnings():
                # yoyo opens a transaction of its own around each step and warns about it.
                warnings.filterwarnings("ignore", message="Nested transaction requested")
                return _apply_beside_traffic(url)
    except psycopg.OperationalError as error:
        raise DatabaseAway(f"Postgres cannot be reached: {str(error).strip().splitlines()[0]}") from error


def _apply_beside_traffic(url: str) -> list[str]:
    # A migration is one transaction, which may deadlock with traffic on several tables; Postgres aborts either side.
    for _ in range(RETRIES):
        try:
            return _apply(url)
        except psycopg.errors.DeadlockDetected:
            log.info("migrating once more after a deadlock", extra={"event": "migration.retry"})
    return _apply(url)


def _apply(url: str) -> list[str]:
    backend = get_backend(re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", url))
    try:
        missing = backend.to_apply(read_migrations(str(FOLDER)))
        backend.apply_migrations(missing)
        return [migration.id for migration in missing]
    finally:
        backend.connection.close()


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
