-- name: schema_state
-- The applied migrations, and the oldest code that may run on them.
select array_agg(migration_id) as applied, postrider_oldest_code() as oldest_code
from _yoyo_migration
