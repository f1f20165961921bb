"""Applies migrations by yoyo, each in a transaction."""

import re
from typing import Any

import psycopg
from yoyo import read_migrations
from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
from yoyo.connections import parse_uri
from yoyo.migrations import default_migration_table

from sql import schema


def apply(url: str, applied: list[str]) -> None:
    """Apply the missing migrations one by one, and add the name of each to `applied`."""
    backend = _Backend(parse_uri(re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", url)), default_migration_table)
    try:
        backend.init_database()
        for migration in backend.to_apply(read_migrations(str(schema.FOLDER))):
            backend.apply_one(migration)
            applied.append(migration.id)
    finally:
        backend.connection.close()


class _Backend(PostgresqlPsycopgBackend):  # type: ignore[misc]  # yoyo ships no types
    """yoyo on a connection that waits for locks in short turns, and marks a migration in the migration's transaction.

    yoyo itself marks it afterwards: a process that ends in between leaves a migration that is applied and counts as
    missing.
    """

    def init_connection(self, connection: psycopg.Connection[Any]) -> None:
        super().init_connection(connection)
        schema.lift_limits(connection)
        connection.execute("select set_config('lock_timeout', %s, false)", [schema.LOCK_TIMEOUT])
        connection.execute(schema.TAKE_OWNER)

    def apply_one(self, migration: Any, force: bool = False, mark: bool = True) -> None:
        self.ensure_internal_schema_updated()
        migration.load()
        if not migration.use_transactions:
            # Its steps can be repeated: each is committed by itself, so that none holds the locks of those before it.
            for each in migration.steps:
                with self.transaction():
                    each.apply(self, force)
        with self.transaction():
            if migration.use_transactions:
                migration.process_steps(self, "apply", force=force)
            self.log_migration(migration, "apply")
            if mark:
                self.mark_one(migration, log=False)
