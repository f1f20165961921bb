-- name: register_worker
insert into workers (id, host, version, home, seats, duties, pace_limits)
values (%(worker)s, %(host)s, %(version)s, %(home)s, %(seats)s, %(duties)s::text[], %(limits)s::jsonb)

-- name: renew_worker
-- The heartbeat, which renews the leases too. A worker that was declared dead has no row any more and does not get one
-- back. `needed_key` is for a worker that was frozen while all secrets were resealed with a new key.
with renewed as (
    update workers
    set renewed_at = now(),
        procrastinate_ids = array(select distinct unnest(procrastinate_ids || %(ids)s::bigint[]))
    where id = %(worker)s
    returning id
), leases as (
    update accounts
    set lease_until = now() + %(lease)s * interval '1 second',
        last_open_at = case when accounts.id = any (%(open)s::text[]) then now() else last_open_at end
    from renewed
    where leased_by = renewed.id and lease_until > now()
    returning accounts.id
)
select renewed.id, array(select id from leases) as leases,
       (select fingerprint from sealing_keys order by sealing_keys.id desc limit 1) as needed_key
from renewed

-- name: unregister_worker
-- Keeps the row of a worker that still has leases: dead_workers finds it once its heartbeat is overdue.
delete from workers where id = %(worker)s and not exists (select from accounts where leased_by = %(worker)s)

-- name: dead_workers
-- After Postgres restarts, every worker gets time to register again before it is declared dead.
delete from workers
where id in (
    select id from workers
    where greatest(renewed_at, pg_postmaster_start_time()) < now() - %(dead)s * interval '1 second'
    for update skip locked
)
returning id, procrastinate_ids

-- name: finish_dead_wakeups
-- The wake-ups that dead workers were running end as failed. They are not retried: a newer wake-up may hold the
-- queueing lock, and the conflict would leave the lane stuck.
with dropped as materialized (
    select wakeup.id, wakeup.lock as lane
    from procrastinate_jobs as wakeup
    left join lanes on lanes.id = wakeup.lock
    where wakeup.status = 'doing'
      and (wakeup.worker_id = any (%(ids)s::bigint[])
           or lanes.drained_by = any (%(workers)s::text[]) and lanes.wakeup_id = wakeup.id)
    -- Skip a wake-up that is ending at this moment: the function would raise.
    for update of wakeup skip locked
)
select procrastinate_finish_job_v1(id, 'failed', true), lane from dropped

-- name: close_dead_sessions
-- The browsers ended with their worker, or were ended by the guard; the profiles are still there.
select id,
       change_state(accounts, case when linked then 'hibernated' else 'disconnected' end, 'The worker died.', leased_by,
                    linked) as lanes
from accounts
where leased_by = any (%(workers)s::text[]) and state in ('ready', 'authenticated', 'starting', 'qr_pending')

-- name: free_dead_leases
-- Runs after close_dead_sessions. Accounts that should be connected are taken over by workers with a free seat.
with freed as (
    update accounts
    set leased_by = null, lease_until = null
    where leased_by = any (%(workers)s::text[])
    returning id, wanted
)
update lanes
set queue = 'account', wakeup_id = null,
    attend_at = case when freed.wanted <> 'disconnected' and attend_at is null then now() else attend_at end
from freed
where lanes.id = freed.id
returning lanes.id

-- name: free_dead_drains
update lanes
set wakeup_id = null
where drained_by = any (%(workers)s::text[]) and wakeup_id is not null
returning id

-- name: finish_orphaned_wakeups
-- Running wake-ups that no worker owns: their procrastinate worker is gone or silent, and no row in workers or lanes
-- claims them. procrastinate stops its heartbeat before a graceful stop has ended, so only these rows show that a drain
-- is still running then.
with orphans as materialized (
    select wakeup.id, wakeup.lock as lane
    from procrastinate_jobs as wakeup
    left join lanes on lanes.id = wakeup.lock
    left join procrastinate_workers on procrastinate_workers.id = wakeup.worker_id
    where wakeup.status = 'doing'
      and (wakeup.worker_id is null
           or procrastinate_workers.last_heartbeat < now() - %(dead)s * interval '1 second')
      and not exists (
          select from workers
          where wakeup.worker_id = any (workers.procrastinate_ids)
             or workers.id = lanes.drained_by and lanes.wakeup_id = wakeup.id)
    for update of wakeup skip locked
)
select procrastinate_finish_job_v1(id, 'failed', true), lane from orphans

-- name: wakeups_in_hand
-- The wake-ups that procrastinate has as running on this worker, under any id it ever had there, and those that its
-- drains began. Upkeep is none of them.
select wakeup.id
from procrastinate_jobs as wakeup
left join lanes on lanes.id = wakeup.lock
where wakeup.status = 'doing' and wakeup.task_name = 'drain'
  and (wakeup.worker_id = any (array(select unnest(procrastinate_ids) from workers where id = %(worker)s))
       or lanes.drained_by = %(worker)s and lanes.wakeup_id = wakeup.id)

-- name: finish_lost_wakeup
with lost as materialized (
    select id, lock as lane from procrastinate_jobs
    where id = %(wakeup)s and status = 'doing'
    for update skip locked
)
select procrastinate_finish_job_v1(id, 'failed', true), lane from lost
