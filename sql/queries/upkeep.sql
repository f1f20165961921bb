-- name: ensure_partitions
select ensure_partitions()

-- name: the_time
select now() as now

-- name: lead
-- One process is the clock of the lanes. Postgres frees the lock when the connection ends.
select pg_try_advisory_lock(hashtext('postrider.pulse')) as leads

-- name: forget_old
-- What retention does not keep. Who opted out stays.
with changes as (
    delete from account_changes where created_at < now() - %(days)s * interval '1 day'
), messages as (
    delete from incoming where created_at < now() - %(days)s * interval '1 day'
)
delete from qr_tokens where created_at < now() - interval '1 day'
