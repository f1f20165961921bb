-- name: ensure_partitions
select ensure_partitions()

-- name: the_time
select now() as now

-- name: lead
-- One process is the clock of the lanes. Postgres frees the lock when the connection ends.
select pg_try_advisory_lock(hashtext('postrider.pulse')) as leads
