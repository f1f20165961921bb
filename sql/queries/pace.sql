-- name: pace_of
-- What a drain needs to know before it takes a job: how many are due, up to the minute's limit; until when it may take
-- none, and why; and for the gap: the last submission within the longest gap, the seconds since then, the seconds from it
-- until the oldest of its minute is a minute old, and how long its sending took. No row when the account is not paced.
select waiting.due, pace.opens_at, pace.reason, pace.quiet_until, pace.minute_limit, pace.minute_used,
       pace.day_limit, pace.day_used, pace.day_used >= pace.day_limit as day_over, pace.resets_at,
       accounts.time_zone, now() as now, last.submitted_at,
       extract(epoch from now() - last.submitted_at)::float8 as since,
       extract(epoch from oldest.submitted_at + interval '1 minute' - last.submitted_at)::float8 as room,
       extract(epoch from last.submitted_at - last.started_at)::float8 as took
from accounts
cross join lateral pace_of(accounts.id, %(limits)s::jsonb, now()) as pace
cross join lateral (
    select count(*) as due
    from (
        select from jobs
        where account_id = accounts.id and claim is null and ended_at is null and priority in (0, 1) and due_at <= now()
        limit coalesce(pace.minute_limit, 1)
    ) as first
) as waiting
left join lateral (
    select submitted_at, started_at from submitted_since(accounts.id, now() - %(longest)s * interval '1 second')
    order by submitted_at desc
    limit 1
) as last on true
left join lateral (
    select min(submitted_at) as submitted_at from submitted_since(accounts.id, now() - interval '1 minute')
) as oldest on true
where accounts.id = %(account)s and accounts.pace

-- name: hold_gate
-- As close_gate, but to a point in time, and by the newest drain only: one that was frozen for an hour has an outdated
-- time.
update lanes
set open_at = greatest(open_at, %(until)s::timestamptz),
    gate_reason = case when open_at <= %(until)s::timestamptz then %(reason)s else gate_reason end
where id = %(lane)s and epoch = %(epoch)s

-- name: reject_over_day
-- Fail the due jobs over the day's limit, a limited number in each transaction. It checks the epoch and the gate as
-- take_job does: jobs behind a closed gate wait.
with late as materialized (
    select jobs.id
    from fenced_if_open(%(lane)s, %(epoch)s) as lane
    join jobs on jobs.account_id = lane.id and jobs.claim is null and jobs.ended_at is null and jobs.priority in (0, 1)
      and jobs.due_at <= now()
    order by jobs.due_at, jobs.seq
    limit %(most)s
    for update of jobs skip locked
)
select lanes from end_jobs(array(select id from late), 'failed', %(code)s, %(detail)s)

-- name: put_off_recipient
-- When the recipient of a job just taken has had the hour's limit of messages: put off all jobs that wait for that
-- recipient until the first of those messages leaves the hour, in their order (a microsecond apart, since jobs due at
-- the same time go by acceptance), and return the job without counting an attempt. No row when it may be sent, or when
-- its claim is lost.
with full_hour as materialized (
    select sent.submitted_at + interval '1 hour' as opens_at
    from accounts
    cross join lateral submitted_since(accounts.id, now() - interval '1 hour') as sent
    where accounts.id = %(account)s and accounts.pace
      and exists (
          select from jobs where jobs.id = %(job)s and jobs.claim = %(claim)s and jobs.state = 'sending')
      and sent.phone = any (phone_forms(%(phone)s))
    order by sent.submitted_at desc
    offset %(per_hour)s - 1
    limit 1
), waiting as (
    select jobs.id, opens_at + (row_number() over (order by send_at, seq) - 1) * interval '1 microsecond' as due_at
    from full_hour
    join jobs on jobs.account_id = %(account)s and jobs.phone = any (phone_forms(%(phone)s))
    where jobs.claim is null and jobs.ended_at is null and jobs.due_at <= opens_at + interval '1 second'
       or jobs.id = %(job)s and jobs.claim = %(claim)s and jobs.state = 'sending'
), put_off as (
    update jobs
    set due_at = waiting.due_at, state = 'queued', claim = null, claimed_by = null,
        attempts = attempts - case when state = 'sending' then 1 else 0 end,
        timeline = case when state = 'sending' then with_step(timeline, 'queued', 'pace_recipient') else timeline end
    from waiting
    where jobs.id = waiting.id and (jobs.state = 'sending' or jobs.due_at <> waiting.due_at)
)
select opens_at from full_hour

-- name: account_health
-- From when a message may go: null when a person has to act first.
select accounts.id as account, wanted, state, restriction, restricted_until, accounts.pace as enabled, time_zone, heavy_mb,
       can_go_back(accounts) as can_go_back, duty_is_done('sessions') as is_served,
       pace.minute_limit, pace.minute_used, pace.hour_limit, pace.hour_used, pace.day_limit as daily_limit, pace.day_used,
       pace.resets_at, pace.quiet_until,
       case when orgs.stopped or lanes.open_at = 'infinity' then null
            else greatest(now(), lanes.open_at, pace.opens_at) end as next_send_at,
       case when orgs.stopped then 'org_paused'
            when lanes.open_at > now() and lanes.open_at >= coalesce(pace.opens_at, '-infinity') then lanes.gate_reason
            else pace.reason end as next_send_reason
from accounts
join lanes using (id)
join orgs on orgs.org_id = accounts.org_id
cross join lateral pace_of(accounts.id, %(limits)s::jsonb, now()) as pace
where accounts.id = %(account)s and accounts.org_id = %(org)s and accounts.deleted_at is null
