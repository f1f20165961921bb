-- name: wake
-- Give each lane one waiting wake-up, unless it has one. Must be the last statement before a commit, and sorted by id:
-- two transactions that wake the same lanes in opposite orders would deadlock on the unique index.
insert into procrastinate_jobs (queue_name, task_name, lock, queueing_lock, args)
select queue, 'drain', id, id, jsonb_build_object('lane', id)
from lanes
where id = any (%(lanes)s)
order by id
on conflict (queueing_lock) where status = 'todo' do nothing

-- name: wake_own
-- As wake, for the API, which may not touch the queue: lanes of the caller's org. Must be the last statement before a commit.
select door.wake(%(lanes)s)

-- name: fetch_wakeups
-- Begin several waiting wake-ups, the first of each org before the second of any, among those that have waited longest.
-- As procrastinate_fetch_job_v2 does for one, a lane whose earlier wake-up still runs is left out.
with oldest as (
    select id, lock, priority
    from procrastinate_jobs
    where status = 'todo' and queue_name = any (%(queues)s) and (scheduled_at is null or scheduled_at <= now())
    order by priority desc, id
    limit %(look)s
), placed as materialized (
    select oldest.id, org_id, row_number() over (partition by org_id order by oldest.priority desc, oldest.id) as place
    from oldest
    left join lanes on lanes.id = oldest.lock
    where not exists (select from procrastinate_jobs where lock = oldest.lock and status = 'doing')
    order by place, oldest.id
    limit %(most)s
), next as materialized (
    select waiting.id, org_id, place
    from placed
    join procrastinate_jobs as waiting using (id)
    where waiting.status = 'todo'
    for update of waiting skip locked
), begun as (
    update procrastinate_jobs
    set status = 'doing', worker_id = %(worker)s
    from next
    where procrastinate_jobs.id = next.id
    returning procrastinate_jobs.*, org_id, place
)
select id, status, task_name, priority, lock, queueing_lock, scheduled_at, queue_name, attempts, worker_id,
       case when org_id is null then args else args || jsonb_build_object('org', org_id) end as args
from begun
order by place, id

-- name: return_wakeups
-- Wake-ups that were fetched and not begun wait again.
with returned as (
    delete from procrastinate_jobs where id = any (%(wakeups)s) and status = 'doing'
    returning lock
)
insert into procrastinate_jobs (queue_name, task_name, lock, queueing_lock, args)
select queue, 'drain', id, id, jsonb_build_object('lane', id)
from lanes
where id in (select lock from returned)
order by id
on conflict (queueing_lock) where status = 'todo' do nothing

-- name: begin_drain
-- Raise the epoch (the fencing token), which fences off every earlier drain of the lane. No row when another wake-up of
-- the lane is running: a worker that was frozen before it began, and whose wake-up was finished meanwhile, must not
-- fence off the drain that took over.
update lanes
set epoch = epoch + 1, drained_by = %(worker)s, wakeup_id = %(wakeup)s
where id = %(lane)s
  and not exists (
      select from procrastinate_jobs where lock = lanes.id and status = 'doing' and procrastinate_jobs.id <> %(wakeup)s)
returning id as lane, org_id as org, kind, queue, epoch, now() as began, attend_at, open_at > now() as closed,
          open_at = 'infinity' as for_good, gate_reason

-- name: end_drain
-- Does nothing once a newer drain has begun. An attend_at from before this drain began has been attended to. settled: it
-- left nothing half done.
update lanes
set wakeup_id = null, settled_epoch = case when %(settled)s then epoch else settled_epoch end,
    attend_at = case when %(attended)s and attend_at <= %(began)s then null else attend_at end
where id = %(lane)s and epoch = %(epoch)s

-- name: close_gate
-- Closing only ever moves the gate later: a backoff must not open a lane that somebody paused. Null seconds close it
-- without an end.
with wanted as (
    select case when %(seconds)s::float8 is null then 'infinity'::timestamptz
                else now() + %(seconds)s * interval '1 second' end as until
)
update lanes
set open_at = greatest(open_at, until), gate_reason = case when open_at <= until then %(reason)s else gate_reason end
from wanted
where id = %(lane)s

-- name: close_held_gate
-- As close_gate, from a drain: only while its worker holds the account's lease, or a worker that was frozen would close
-- the gate after another one took over. Submitted jobs are put off too, since each due one would wake the lane every
-- second. With `began`, the gate stays open if a drain was requested since then (see stop_until_known).
with held as (
    select id from accounts where id = %(account)s and leased_by = %(worker)s for share
), wanted as (
    select case when %(seconds)s::float8 is null then 'infinity'::timestamptz
                else now() + %(seconds)s * interval '1 second' end as until
), settling as (
    update jobs
    set look_at = greatest(look_at, now() + %(look)s * interval '1 second')
    from held
    where account_id = held.id and claim is not null and ended_at is null and jobs.state = 'submitting'
)
update lanes
set open_at = greatest(open_at, until), gate_reason = case when open_at <= until then %(reason)s else gate_reason end,
    attend_at = case when %(attend)s::float8 is null then attend_at
                     when attend_at > now() then least(attend_at, now() + %(attend)s * interval '1 second')
                     else now() + %(attend)s * interval '1 second' end
from held, wanted
where lanes.id = held.id
  and (%(began)s::timestamptz is null or attend_at is null or attend_at <= %(began)s or attend_at > now()
       or attend_at = %(attend_at)s)

-- name: open_gate
update lanes set open_at = '-infinity', gate_reason = null where id = %(lane)s

-- name: attend
-- Ask for a drain in so many seconds, whatever the gate and the due rows are. An attend_at in the past is the one that
-- the present drain attends to, and is overwritten.
update lanes
set attend_at = case when attend_at > now() then least(attend_at, now() + %(seconds)s * interval '1 second')
                     else now() + %(seconds)s * interval '1 second' end
where id = %(lane)s

-- name: attend_when_open
-- Ask for a drain when the gate opens, in place of the request that this drain was for. Nothing changes if a newer drain
-- has begun, if somebody asked meanwhile, or if the gate was open when this one began or opens explicitly only.
update lanes set attend_at = open_at
where id = %(lane)s and epoch = %(epoch)s and open_at > %(began)s and open_at < 'infinity'
  and (attend_at is null or attend_at <= %(began)s)

-- name: use_marks
-- Use the marks whose time has come, and wake their lanes that have work and no wake-up. A lane that still has work is
-- marked anew, also while a drain runs: whatever becomes of that, it is looked at again. This is the clock of the lanes
-- and the backstop for every wake-up that was missed. `since`: the marks before it have all been used; their deleted rows
-- may still be in the index, and are not read again. `gone`: endpoints that are disabled or deleted, and for which
-- deliveries wait all the same.
with used as (
    delete from lane_marks
    where ctid = any (array(
        select ctid from lane_marks
        where due_at <= now() and due_at >= coalesce(%(since)s::timestamptz, '-infinity')
        order by due_at
        limit %(most)s))
    returning lane_id, due_at
), looked_at as materialized (
    select lanes.id, lanes.queue, lane_due(lanes) as due_at,
           -- By the index on what is due, as in lane_due.
           coalesce(status = 'disabled' or deleted_at is not null, false) and coalesce((
               select true from deliveries where endpoint_id = endpoints.id and deliveries.ended_at is null
               order by due_at limit 1), false) as gone
    from (select distinct lane_id from used) as marked
    join lanes on lanes.id = lane_id
    left join endpoints on endpoints.id = lane_id
), again as (
    insert into lane_marks (due_at, lane_id)
    select greatest(case when not gone then due_at end, now() + interval '1 second'), id
    from looked_at
    where due_at < 'infinity' or gone
), woken as (
    insert into procrastinate_jobs (queue_name, task_name, lock, queueing_lock, args)
    select queue, 'drain', id, id, jsonb_build_object('lane', id)
    from looked_at
    where due_at <= now() and not exists (
        select from procrastinate_jobs where lock = looked_at.id and status in ('todo', 'doing'))
    order by id
    on conflict (queueing_lock) where status = 'todo' do nothing
    returning lock
)
select array(select lock from woken) as lanes, array(select id from looked_at where gone) as gone,
       (select count(*) from used) as marks,
       coalesce((select max(due_at) from used), now()) as until

-- name: sweep
-- Look at the next lanes that have work. Each pulse marks a lane anew while its work is due, so work that has been due for
-- 10 s without a mark was forgotten. Those lanes are marked and returned.
with part as materialized (
    select lanes.id, lanes.org_id, lane_due(lanes) as due_at
    from lanes_with_work(%(after)s, %(most)s) as work (id)
    join lanes using (id)
), forgotten as (
    select part.id, part.org_id from part
    left join (
        select distinct lane_id from lane_marks
        where due_at <= now() + interval '5 seconds' and due_at >= coalesce(%(since)s::timestamptz, '-infinity')
    ) as marks on lane_id = part.id
    where due_at < now() - interval '10 seconds' and lane_id is null
), marked as (
    insert into lane_marks (due_at, lane_id, org_id) select now(), id, org_id from forgotten
)
select max(id) as last, count(*) as lanes, array(select id from forgotten) as forgotten from part

-- name: count_lanes
-- An estimate, as the planner has it.
select greatest(reltuples, 0)::bigint as lanes from pg_class where oid = 'lanes'::regclass

-- name: reclaim_queues
-- Move the lanes of dead workers back to the common queue. No worker reads a dead worker's own queue, so a wake-up left
-- there would block its lane.
with gone as (
    update lanes
    set queue = kind
    where queue like 'account@%%'
      and not exists (
          select from workers
          where 'account@' || workers.id = lanes.queue and renewed_at > now() - %(dead)s * interval '1 second')
    returning id
)
select count(*) as lanes from gone

-- name: finish_lapsed_wakeups
-- End the running wake-ups of workers whose lease has lapsed; otherwise each blocks its lane until its worker counts as
-- dead. If the old drain goes on, the next one fences it off.
with lapsed as materialized (
    select wakeup.id, lanes.id as lane
    from lanes
    join accounts using (id)
    join procrastinate_jobs as wakeup on wakeup.id = lanes.wakeup_id and wakeup.status = 'doing'
    where accounts.leased_by = lanes.drained_by and accounts.lease_until < now() - interval '5 seconds'
    for update of wakeup skip locked
)
select procrastinate_finish_job_v1(id, 'failed', true), lane from lapsed

-- name: reclaim_lapsed
-- Move lanes back to the common queue when their worker is alive but its lease has lapsed: it is frozen, or cut off
-- from Postgres.
update lanes
set queue = kind
from accounts
where accounts.id = lanes.id and lanes.queue like 'account@%%' and leased_by is not null
  and lease_until < now() - interval '5 seconds'

-- name: reclaim_wakeups
-- After reclaim_queues: move waiting wake-ups to the queue of their lane.
update procrastinate_jobs
set queue_name = lanes.queue
from lanes
where procrastinate_jobs.queueing_lock = lanes.id
  and procrastinate_jobs.status = 'todo'
  and procrastinate_jobs.queue_name <> lanes.queue
  and procrastinate_jobs.task_name = 'drain'

-- name: move_lane
-- From now on, wake the lane in another queue; its waiting wake-up moves too.
with moved as (
    update lanes set queue = %(queue)s where id = %(lane)s and queue <> %(queue)s returning id
)
update procrastinate_jobs
set queue_name = %(queue)s
from moved
where queueing_lock = moved.id and status = 'todo'
