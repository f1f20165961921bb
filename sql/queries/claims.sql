-- name: take_job
-- Take the next due job of the lane: high priority first, then by due time and order of acceptance. It checks the epoch
-- under a lock on the lane's row, so that an older drain takes nothing. A job is held back while an earlier one to the
-- same recipient is under way or waits for its next attempt.
with next as materialized (
    select candidate.id
    from fenced_if_open(%(lane)s, %(epoch)s) as lane,
         (values (1::smallint), (0::smallint)) as priorities (priority), lateral (
        select jobs.id
        from jobs
        where jobs.account_id = lane.id and jobs.claim is null and jobs.ended_at is null
          and jobs.priority = priorities.priority and jobs.due_at <= now() and jobs.expires_at > now()
          and not exists (
              select from jobs as tried
              where tried.account_id = lane.id and tried.phone = any (phone_forms(jobs.phone)) and tried.seq < jobs.seq
                and tried.claim is null and tried.ended_at is null and tried.started_at is not null and tried.attempts > 0)
          and not exists (
              select from jobs as under_way
              where under_way.account_id = lane.id and under_way.phone = any (phone_forms(jobs.phone))
                and under_way.claim is not null and under_way.ended_at is null)
        order by jobs.due_at, jobs.seq
        limit 1
        for update skip locked
    ) as candidate
    limit 1
)
update jobs
set state = 'sending', claim = gen_random_uuid(), claimed_by = %(worker)s, attempts = attempts + 1,
    started_at = coalesce(started_at, now()), look_at = null, timeline = with_step(timeline, 'sending')
from next
where jobs.id = next.id
returning jobs.id, jobs.account_id, jobs.key, jobs.phone, jobs.message, jobs.attempts, jobs.claim, jobs.anchor,
          jobs.bubble, jobs.profile_generation, jobs.pressed_on, 0::float8 as submitted_for, jobs.request_id,
          coalesce(jobs.error_code = 'ui_changed', false) and jobs.attempts > 1 as blamed

-- name: submit_job
-- The permission to press Enter, committed before it is pressed. It needs this drain to be the newest, the gate to be
-- open and the lease to have 10 s left, which is as long as the page lets an Enter through.
with lease as (
    select id from accounts
    where id = %(lane)s and leased_by = %(worker)s and lease_until > now() + %(margin)s * interval '1 second'
)
update jobs
set state = 'submitting', anchor = %(anchor)s, profile_generation = %(generation)s, pressed_on = %(pressed_on)s,
    submitted_at = now(), submitter = jobs.claim, bubble = null, error_reason = null,
    look_at = now() + %(look)s * interval '1 second', timeline = with_step(timeline, 'submitting')
from fenced_if_open(%(lane)s, %(epoch)s) as lane, lease
where jobs.id = %(job)s and jobs.claim = %(claim)s and jobs.state = 'sending'
returning jobs.id

-- name: job_sent
with held as materialized (
    select id, account_id from jobs
    where id = %(job)s and claim = %(claim)s and state in ('sending', 'submitting')
    for update
), healthy as (
    update accounts set failures_in_a_row = 0, unknown_in_a_row = 0, probes = 0, stopped_by = null
    from held
    where accounts.id = held.account_id
      and (failures_in_a_row > 0 or unknown_in_a_row > 0 or probes > 0 or stopped_by is not null)
)
select lanes from end_jobs(array(select id from held), 'sent', %(detail)s, p_bubble => %(bubble)s)

-- name: job_failed
-- Jobs whose Enter was pressed and that got no tick are counted: three in a row open the circuit.
with held as materialized (
    select id, account_id from jobs
    where id = %(job)s and claim = %(claim)s and state in ('sending', 'submitting')
    for update
), counted as (
    update accounts set unknown_in_a_row = unknown_in_a_row + 1
    from held
    where accounts.id = held.account_id and %(code)s in ('outcome_unknown', 'refused_by_whatsapp')
)
select lanes from end_jobs(array(select id from held), 'failed', %(code)s, %(detail)s, %(reason)s, %(bubble)s)

-- name: unknown_in_a_row
select unknown_in_a_row as count from accounts where id = %(account)s

-- name: note_bubble
-- The message shows the clock icon and no tick yet. After a crash, the bubble's id tells it from every other message.
update jobs set bubble = %(bubble)s where id = %(job)s and claim = %(claim)s and state = 'submitting'

-- name: note_reason
-- Why the outcome is not known yet.
update jobs set error_reason = %(reason)s where id = %(job)s and claim = %(claim)s and state = 'submitting'

-- name: bubbles_of_recipient
-- The bubbles of other messages to the same recipient.
select bubble
from jobs
where account_id = %(account)s and phone = any (phone_forms(%(phone)s)) and bubble is not null and id <> %(job)s

-- name: try_again
-- Back to queued after an attempt that failed before the message left, or that was proved not to have sent it.
update jobs
set state = 'queued', claim = null, claimed_by = null, due_at = now() + %(seconds)s * interval '1 second', look_at = null,
    error_code = %(code)s, error_detail = %(detail)s, error_reason = null,
    timeline = with_step(timeline, 'queued', %(code)s)
where id = %(job)s and claim = %(claim)s and state in ('sending', 'submitting')

-- name: return_job
-- Back to queued without counting an attempt: the account has to wait, not the job. The job keeps its due time and so
-- its place in the queue. A job that found the page changed keeps that error code: perhaps only its own chat looks
-- different.
update jobs
set state = 'queued', claim = null, claimed_by = null, attempts = attempts - 1,
    error_code = case when %(code)s = 'ui_changed' then %(code)s else error_code end,
    error_detail = case when %(code)s = 'ui_changed' then %(detail)s else error_detail end,
    timeline = with_step(timeline, 'queued', %(code)s)
where id = %(job)s and claim = %(claim)s and state = 'sending'

-- name: not_pressed
-- Enter did not reach the page; only the worker that was about to press it knows that. For a submitting job, match the
-- claim under which Enter was allowed (`submitter`): a newer drain may have re-claimed the job to settle it, and a
-- submitting job's Enter is never pressed again. Does not count as an attempt unless `seconds` is given.
update jobs
set state = 'queued', claim = null, claimed_by = null, submitter = null, look_at = null,
    attempts = case when %(seconds)s::float8 is null then greatest(attempts - 1, 0) else attempts end,
    due_at = case when %(seconds)s::float8 is not null then now() + %(seconds)s * interval '1 second'
                  -- Code before 0.6 wrote the time of the next look into due_at, and with it lost its place in the queue.
                  when due_at > now() then send_at else due_at end,
    error_code = coalesce(%(code)s, error_code), error_detail = coalesce(%(detail)s, error_detail),
    error_reason = null, timeline = with_step(timeline, 'queued', 'enter_not_pressed')
where id = %(job)s
  and (state = 'submitting' and submitter = %(claim)s or state = 'sending' and claim = %(claim)s)
returning '{}'::text[] as lanes

-- name: release_typed
-- Messages that an earlier drain only typed have not left. This locks the lane's row, as take_job does: jobs that a
-- newer drain has taken meanwhile must not be released here.
update jobs
set state = 'queued', claim = null, claimed_by = null, timeline = with_step(timeline, 'queued', 'interrupted')
from fenced(%(lane)s, %(epoch)s) as lane
where account_id = lane.id and claim is not null and ended_at is null and state = 'sending'

-- name: take_submitted
-- Take a job that an earlier drain may have sent, to settle it. If its outcome cannot be read now, it is looked at
-- again later.
with next as materialized (
    select jobs.id
    from fenced(%(lane)s, %(epoch)s) as lane
    join jobs on jobs.account_id = lane.id and jobs.claim is not null and jobs.ended_at is null
      and jobs.state = 'submitting' and greatest(jobs.due_at, jobs.look_at) <= now()
    order by greatest(jobs.due_at, jobs.look_at)
    limit 1
    for update of jobs skip locked
)
update jobs
set claim = gen_random_uuid(), claimed_by = %(worker)s, look_at = now() + %(look)s * interval '1 second'
from next
where jobs.id = next.id
returning jobs.id, account_id, key, phone, message, attempts, claim, anchor, bubble, profile_generation, pressed_on,
          extract(epoch from now() - submitted_at)::float8 as submitted_for, request_id, false as blamed

-- name: settle_soon
-- The drain that submitted it lost the page after Enter, or could not read the status: look again at once.
update jobs set due_at = least(due_at, now()), look_at = now(), error_reason = %(reason)s
where id = %(job)s and claim = %(claim)s and state = 'submitting'

-- name: put_off_settling
-- The page failed while this job was being looked at: double its wait before the next look.
update jobs set look_at = now() + greatest(now() - submitted_at, %(look)s * interval '1 second')
where id = %(job)s and claim = %(claim)s and state = 'submitting'

-- name: awaiting_ticks
-- Messages of these accounts whose next tick has not been seen, newest first: 100 of each account, among the thousand that
-- were sent last. A page shows the open chat and the top of its chat list. A tick that comes after the job was failed as
-- outcome_unknown is added to the timeline. Jobs stay in the task table for at least these three days (tasks/upkeep.py).
select waiting.account_id, waiting.id, waiting.phone, waiting.bubble, waiting.state
from unnest(%(accounts)s::text[]) as given (id)
cross join lateral (
    select account_id, id, phone, bubble, state, submitted_at
    from newest_sent(given.id, 1000)
    where bubble is not null and (state in ('sent', 'delivered') or error_code = 'outcome_unknown')
      and submitted_at > now() - interval '3 days'
    order by submitted_at desc
    limit 100
) as waiting
order by waiting.submitted_at desc

-- name: job_delivered
with done as (
    update jobs
    set state = 'delivered', delivered_at = now(), sequence = sequence + 1, timeline = with_step(timeline, 'delivered')
    where id = %(job)s and state = 'sent'
    returning jobs as job
)
select job_event('JobDelivered', job) as lanes from done

-- name: job_read
with done as (
    update jobs
    set state = 'read', delivered_at = coalesce(delivered_at, now()), read_at = now(), sequence = sequence + 1,
        timeline = with_step(timeline, 'read')
    where id = %(job)s and state in ('sent', 'delivered')
    returning jobs as job
)
select job_event('JobRead', job) as lanes from done

-- name: late_tick
-- The job stays failed: its event has been published, and the sender may have acted on it.
update jobs
set bubble = null, timeline = with_step(timeline, 'failed', 'a tick came later')
where id = %(job)s and state = 'failed' and bubble is not null

-- name: expire_jobs
with late as materialized (
    select id from jobs
    where claim is null and ended_at is null and expires_at <= now()
    order by expires_at
    limit 500
    for update skip locked
)
select lanes from end_jobs(array(select id from late), 'failed', 'expired', 'The message waited longer than its expiresAt.')

-- name: cancel_for_deleted
-- Jobs that were under way when their account was deleted and were queued again afterwards. The account's other jobs
-- were cancelled with it. A job that returns after more than two days expires instead.
with back as materialized (
    select jobs.id
    from accounts
    join jobs on jobs.account_id = accounts.id and jobs.claim is null and jobs.ended_at is null
    where accounts.deleted_at > now() - interval '2 days'
    limit 500
    for update of jobs skip locked
)
select lanes from end_jobs(array(select id from back), 'cancelled', 'account_deleted')

-- name: give_up_settling
-- Runs also when the account cannot be opened. The jobs count as in job_failed, and close the gate in the cases where a
-- drain would open the circuit. Rows that are locked are skipped, and left to the next pulse.
with late as materialized (
    select jobs.id, jobs.account_id,
           coalesce(error_reason, case when bubble is null then 'rows_missing' else 'at_the_clock' end) as reason
    from jobs
    join accounts on accounts.id = jobs.account_id
    join lanes on lanes.id = jobs.account_id
    where claim is not null and ended_at is null and jobs.state = 'submitting'
      and submitted_at < now() - %(seconds)s * interval '1 second'
    limit 500
    for update of jobs skip locked
    for no key update of accounts, lanes skip locked
), counted as (
    update accounts set unknown_in_a_row = unknown_in_a_row + given_up.jobs
    from (select account_id, count(*) as jobs from late group by 1) as given_up
    where accounts.id = given_up.account_id
    returning accounts.id, unknown_in_a_row
), rested as (
    update lanes
    set open_at = greatest(open_at, until), gate_reason = case when open_at <= until then 'outcome_unknown' else gate_reason end
    from counted, (values (now() + %(rest)s * interval '1 second')) as wanted (until)
    where lanes.id = counted.id and unknown_in_a_row >= %(most)s and %(rest)s > 0
)
select lanes
from (select reason, array_agg(id) as ids from late group by reason) as alike,
     end_jobs(ids, 'failed', 'outcome_unknown',
              'Enter may have been pressed, and whether the message left could not be told in time.', reason)
