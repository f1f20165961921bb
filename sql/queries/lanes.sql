-- name: wake
-- Give each lane one waiting wake-up, unless it has one. The last statement before a commit, and sorted: two senders that
-- wake the same lanes in opposite orders would wait for each other's unique index entry.
insert into procrastinate_jobs (queue_name, task_name, lock, queueing_lock, args)
select queue, 'drain', id, id, jsonb_build_object('lane', id)
from lanes
where id = any (%(lanes)s)
order by id
on conflict (queueing_lock) where status = 'todo' do nothing

-- name: begin_drain
-- Raise the epoch, which fences off every earlier drain of the lane. A worker that was frozen before it began, and whose
-- wake-up was finished meanwhile, begins nothing: it would fence off whoever is at work now.
update lanes
set epoch = epoch + 1, drained_by = %(worker)s, wakeup_id = %(wakeup)s
where id = %(lane)s
  and not exists (
      select from procrastinate_jobs where lock = lanes.id and status = 'doing' and procrastinate_jobs.id <> %(wakeup)s)
returning id as lane, kind, queue, epoch, now() as began, attend_at, open_at > now() as closed,
          open_at = 'infinity' as for_good, gate_reason

-- name: end_drain
-- Unless a newer drain has begun. What was wanted before this one began has been attended to.
update lanes
set wakeup_id = null,
    attend_at = case when %(attended)s and attend_at <= %(began)s then null else attend_at end
where id = %(lane)s and epoch = %(epoch)s

-- name: close_gate
-- Closing only ever moves the gate later: a backoff must not open a lane that somebody paused. Null seconds close it until
-- somebody acts.
with wanted as (
    select case when %(seconds)s::float8 is null then 'infinity'::timestamptz
                else now() + %(seconds)s * interval '1 second' end as until
)
update lanes
set open_at = greatest(open_at, until), gate_reason = case when open_at <= until then %(reason)s else gate_reason end
from wanted
where id = %(lane)s

-- name: close_held_gate
-- The same by a drain: only while its worker holds the account, or a worker that was frozen would close the gate of
-- whoever took over. What is submitted is looked at later too: it must not wake the lane each second meanwhile. Where
-- `began` is given, a gate stays open if somebody has asked for the account since then (stop_until_known).
with held as (
    select id from accounts where id = %(account)s and leased_by = %(worker)s for share
), wanted as (
    select case when %(seconds)s::float8 is null then 'infinity'::timestamptz
                else now() + %(seconds)s * interval '1 second' end as until
), settling as (
    update jobs
    set due_at = greatest(due_at, now() + %(look)s * interval '1 second')
    from held
    where account_id = held.id and jobs.state = 'submitting'
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
-- Ask for a drain in so many seconds, whatever the gate and the rows say. A time that has passed is what the present drain
-- attends to, and gives way.
update lanes
set attend_at = case when attend_at > now() then least(attend_at, now() + %(seconds)s * interval '1 second')
                     else now() + %(seconds)s * interval '1 second' end
where id = %(lane)s

-- name: pulse
-- Wake every lane that has something to do and no wake-up: attention that is due, a due row or a recovery behind an open
-- gate, or a half-done row (no drain runs, so nobody has it). It is the clock of the lanes and the backstop for everything
-- missed. An endpoint is attended to later only after an error of ours, which is not to come again each second.
-- The first row by its due time comes from an index. With `exists`, when a few lanes hold all that waits, Postgres expects to
-- meet a row of any lane at once and reads the table from its beginning, once for each lane that has none: minutes.
insert into procrastinate_jobs (queue_name, task_name, lock, queueing_lock, args)
select queue, 'drain', id, id, jsonb_build_object('lane', id)
from lanes
where (
    attend_at <= now()
    or kind = 'account' and (
        open_at <= now()
        and not exists (select from orgs where orgs.org_id = lanes.org_id and paused_at is not null)
        and (
            (select due_at from jobs where account_id = lanes.id and state = 'queued' and priority = 1
             order by due_at limit 1) <= now()
            or (select due_at from jobs where account_id = lanes.id and state = 'queued' and priority = 0
                order by due_at limit 1) <= now())
        or exists (
            select from jobs where account_id = lanes.id and state in ('sending', 'submitting') and due_at <= now())
    )
    or kind = 'endpoint' and (attend_at is null or attend_at <= now()) and (
        open_at <= now()
        and (select due_at from deliveries where endpoint_id = lanes.id and state = 'pending' order by due_at limit 1) <= now()
        or exists (
            select from deliveries where endpoint_id = lanes.id and state = 'sending')
        or open_at <= now() and id in (
            select endpoint_id from recoveries
            where state in ('counting', 'running') and settled(begun_in, created_at))
    )
)
and not exists (
    select from procrastinate_jobs where lock = lanes.id and status in ('todo', 'doing')
)
order by id
on conflict (queueing_lock) where status = 'todo' do nothing
returning lock as lane

-- name: reclaim_queues
-- Give the lanes of workers that are gone back to everybody. A wake-up left in such a queue belongs to nobody, and its
-- lane would be dead.
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
-- The wake-up in hand of a worker that let its lease end would hold its lane up until that worker counts as dead. The next
-- drain fences it off, should it go on.
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
-- Give lanes back whose worker lives and let its lease end: it is frozen, or cut off from Postgres.
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
-- Wake the lane in another queue from now on, its waiting wake-up included.
with moved as (
    update lanes set queue = %(queue)s where id = %(lane)s and queue <> %(queue)s returning id
)
update procrastinate_jobs
set queue_name = %(queue)s
from moved
where queueing_lock = moved.id and status = 'todo'
