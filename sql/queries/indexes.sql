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
