-- name: index_state
-- Whether a table has partitions, and whether an index of this name can be used; null where there is none. That of a table
-- with partitions can be used once each of them has it.
select (select relkind = 'p' from pg_class where oid = to_regclass(%(table)s)) as partitioned,
       (select indisvalid from pg_index where indexrelid = to_regclass(%(index)s)) as usable

-- name: partitions_without_index
select relname as partition
from pg_inherits as partitions
join pg_class on pg_class.oid = partitions.inhrelid
where partitions.inhparent = to_regclass(%(table)s)
  and not exists (
      select from pg_index
      join pg_inherits as attached on attached.inhrelid = pg_index.indexrelid
      where pg_index.indrelid = partitions.inhrelid and attached.inhparent = to_regclass(%(index)s)
  )
order by relname

-- name: indexes_of_these
-- Those of these indexes that there are, and whether each is of a table with partitions.
select relname, relkind = 'I' as partitioned
from unnest(%(names)s::text[]) as name
join pg_class on pg_class.oid = to_regclass(name)

-- name: older_versions
-- Versions before 0.6 of processes that live. API processes before 0.5 do not register, and are seen by their connections.
select version
from (
    select version from workers where renewed_at > now() - interval '1 minute'
    union
    select version from api_processes where renewed_at > now() - interval '2 minutes'
    union
    select '0.4' from pg_stat_activity where datname = current_database() and application_name = 'postrider api'
) as running
where string_to_array(substring(version from '^\d+\.\d+'), '.')::integer[] < array[0, 6]
order by version
