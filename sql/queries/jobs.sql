-- name: show_job
-- No key begins with job_, so that the two never mean different jobs.
select id, key, account_id, phone, message, priority, state, send_at, expires_at, attempts, error_code, error_detail, error_reason,
       evidence, metadata, timeline, created_at, started_at, sent_at, delivered_at, read_at
from all_jobs
where org_id = %(org)s and (id = %(job)s or key = %(job)s)

-- name: list_jobs
-- Newest first; a page begins after the last row of the one before. It is planned for its values, so that a filter that is
-- null is no part of the plan. What a status means for the other columns is said for the indexes of jobs, which have no state.
-- The other form of a phone is read on its own, since an index has the order of one number at a time; where there is none,
-- Postgres reads nothing. One branch over both forms would be planned for a number that has few jobs, and sort all those of
-- one that has many.
select id, key, account_id, phone, message, priority, state, send_at, expires_at, attempts, error_code, error_detail, error_reason,
       evidence, metadata, timeline, created_at, started_at, sent_at, delivered_at, read_at
from (
    (
        select * from all_jobs
        where org_id = %(org)s
          and (%(phone)s::text is null or phone = %(phone)s)
          and (%(status)s::text is null or state = %(status)s)
          and (in_history or case when %(status)s = 'queued' then claim is null and ended_at is null
                                  when %(status)s in ('sending', 'submitting') then claim is not null and ended_at is null
                                  when %(status)s in ('sent', 'delivered', 'read') then sent_at is not null
                                  when %(status)s in ('failed', 'cancelled') then
                                      case when sent_at is null then ended_at end is not null
                                  else true end)
          and (%(account)s::text is null or account_id = %(account)s)
          and created_at >= %(since)s::timestamptz
          and (created_at, id) < (%(after_at)s::timestamptz, %(after_id)s::text)
        order by created_at desc, id desc
        limit %(limit)s
    )
    union all
    (
        select * from all_jobs
        where org_id = %(org)s
          and phone = (phone_forms(%(phone)s))[2]
          and (%(status)s::text is null or state = %(status)s)
          and (in_history or case when %(status)s = 'queued' then claim is null and ended_at is null
                                  when %(status)s in ('sending', 'submitting') then claim is not null and ended_at is null
                                  when %(status)s in ('sent', 'delivered', 'read') then sent_at is not null
                                  when %(status)s in ('failed', 'cancelled') then
                                      case when sent_at is null then ended_at end is not null
                                  else true end)
          and (%(account)s::text is null or account_id = %(account)s)
          and created_at >= %(since)s::timestamptz
          and (created_at, id) < (%(after_at)s::timestamptz, %(after_id)s::text)
        order by created_at desc, id desc
        limit %(limit)s
    )
) as found
order by created_at desc, id desc
limit %(limit)s

-- name: cancel_job
with waiting as materialized (
    select id from jobs
    where org_id = %(org)s and (id = %(job)s or key = %(job)s) and state = 'queued'
    for update
)
select lanes from end_jobs(array(select id from waiting), 'cancelled')

-- name: cancel_jobs
-- A limited number at a time, so that no transaction is long. A job that a worker is just taking is not queued any
-- more.
with waiting as materialized (
    select id
    from jobs
    where org_id = %(org)s and (%(account)s::text is null or account_id = %(account)s)
      and claim is null and ended_at is null
    limit %(most)s
    for update skip locked
)
select lanes from end_jobs(array(select id from waiting), 'cancelled')

-- name: retry_job
-- A job whose outcome is unknown may have reached its recipient, so it is sent again only when a person confirms that.
-- A job that confirms an opt-out is not retried: it would come too late. Nobody would send that of a deleted account.
update jobs
set state = 'queued', attempts = 0, due_at = now(), ended_at = null, error_code = null, error_detail = null, error_reason = null,
    claim = null, claimed_by = null, anchor = null, profile_generation = null, bubble = null, look_at = null,
    expires_at = case when expires_at <= now() then now() + %(ttl)s::interval else expires_at end,
    timeline = with_step(timeline, 'queued', 'asked for again')
from lanes
where jobs.org_id = %(org)s and (jobs.id = %(job)s or jobs.key = %(job)s) and jobs.state = 'failed'
  and exists (select from accounts where accounts.id = jobs.account_id and deleted_at is null)
  and (jobs.error_code is distinct from 'outcome_unknown' or %(force)s::boolean)
  and not exists (select from opt_outs where opt_outs.org_id = jobs.org_id and opt_outs.reply_job = jobs.id)
  and lanes.id = jobs.account_id
returning jobs.account_id as lane, lanes.open_at <= now() as open

-- name: why_not_retried
-- Tell what else forbids to retry a failed job: its account was deleted, or it confirms an opt-out.
select deleted_at is not null as account_deleted,
       exists (select from opt_outs where opt_outs.org_id = all_jobs.org_id and reply_job = all_jobs.id) as confirms_opt_out
from all_jobs
join accounts on accounts.id = account_id
where all_jobs.org_id = %(org)s and all_jobs.id = %(job)s

-- name: bring_back
-- Move a job back from the history, for retry_job to retry or refuse; on refusal the transaction is rolled back. Runs
-- after a retry_job that found no row, and so after any transaction that was moving the job has ended.
with found as (
    delete from jobs_history where org_id = %(org)s and (id = %(job)s or key = %(job)s) returning *
)
insert into jobs overriding system value select * from found
returning id
