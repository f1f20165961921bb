"""Everything Postgres: named queries by subject, migrations, the pool, the embedded server."""
