-- name: ensure_partitions
select ensure_partitions()

-- name: drop_old_partition
select partition, dropped from drop_old_partition(now() - %(days)s * interval '1 day')

-- name: database_time
select now() as now

-- name: take_lead
-- Only one process acts as the clock of the lanes. Postgres frees the lock when the connection ends.
select pg_try_advisory_lock(hashtext('postrider.pulse')) as leads

-- name: lanes_to_recount
select accounts.id
from accounts
left join lane_depth on lane_id = accounts.id and stripe = 16
order by counted_at nulls first
limit %(most)s

-- name: recount_lane
select recount_depth(%(lane)s) as missed

-- name: broken_references
-- Rows of a period whose account, endpoint, event, delivery, job or key is missing or of another org: there must be none. These
-- tables have no foreign keys. A delivery outlives its event, and is looked at with it; an open one must have it.
with events as materialized (
    select id, created_at, org_id, account_id from outbox where created_at >= %(since)s and created_at < %(until)s
)
select 'jobs' as "table", jobs.id
from jobs
left join accounts on accounts.id = account_id and accounts.org_id = jobs.org_id
where jobs.created_at >= %(since)s and jobs.created_at < %(until)s and accounts.id is null
union all
select 'jobs', jobs.id
from jobs
left join job_keys on job_keys.org_id = jobs.org_id and key_hash = sha256(convert_to(key, 'UTF8')) and job_id = jobs.id
where key is not null and jobs.created_at >= %(since)s and jobs.created_at < %(until)s and job_id is null
union all
select 'outbox', events.id
from events
left join orgs using (org_id)
left join accounts on accounts.id = account_id and accounts.org_id = events.org_id
where orgs.org_id is null or account_id is not null and accounts.id is null
union all
select 'deliveries', deliveries.id
from events
join deliveries on event_id = events.id
left join endpoints on endpoints.id = endpoint_id and endpoints.org_id = events.org_id
where deliveries.org_id <> events.org_id or event_at <> events.created_at or endpoints.id is null
union all
select 'deliveries', deliveries.id
from deliveries
left join events on events.id = event_id
where deliveries.ended_at is null and event_at >= %(since)s and event_at < %(until)s and events.id is null
union all
select 'attempts', attempts.id::text
from attempts
left join deliveries on deliveries.id = delivery_id and deliveries.org_id = attempts.org_id
  and deliveries.endpoint_id = attempts.endpoint_id
where attempts.created_at >= %(since)s and attempts.created_at < %(until)s and deliveries.id is null
limit %(most)s

-- name: move_ended_jobs
-- A job is in exactly one of jobs and jobs_history, for every snapshot. A job that another transaction has locked, for
-- example to retry it, is skipped.
with old as materialized (
    select id from jobs
    where ended_at < now() - %(days)s * interval '1 day' and state in ('sent', 'delivered', 'read', 'failed', 'cancelled')
    order by ended_at
    limit %(most)s
    for update skip locked
), moved as (
    delete from jobs using old where jobs.id = old.id returning jobs.*
), kept as (
    insert into jobs_history select * from moved
)
select count(*) as rows from moved

-- name: purge_jobs
-- For a retention that is shorter than the time that ended jobs stay in the task table. Nothing younger than 26 hours
-- is deleted: pace counts an account's day in this table, and a day has 25 hours where clocks are put back.
with old as materialized (
    select id from jobs
    where ended_at < deletable_before(now() - greatest(%(days)s * interval '1 day', interval '26 hours'))
      and state in ('sent', 'delivered', 'read', 'failed', 'cancelled')
    order by ended_at
    limit %(most)s
    for update skip locked
), gone as (
    delete from jobs using old where jobs.id = old.id returning jobs.id, org_id, key
), forgotten as (
    delete from job_keys using gone
    where job_keys.org_id = gone.org_id and key_hash = sha256(convert_to(gone.key, 'UTF8')) and job_id = gone.id
)
select count(*) as rows from gone

-- name: purge_history
with old as materialized (
    select id, ended_at from jobs_history
    where ended_at < deletable_before(now() - %(days)s * interval '1 day')
    order by ended_at
    limit %(most)s
    for update skip locked
), gone as (
    delete from jobs_history using old
    where jobs_history.id = old.id and jobs_history.ended_at = old.ended_at
      and jobs_history.ended_at < deletable_before(now() - %(days)s * interval '1 day')
    returning jobs_history.id, org_id, key
), forgotten as (
    delete from job_keys using gone
    where job_keys.org_id = gone.org_id and key_hash = sha256(convert_to(gone.key, 'UTF8')) and job_id = gone.id
)
select count(*) as rows from gone

-- name: purge_evidence
-- Clear links to evidence files that were deleted for their age, from jobs that ended later. A file's name begins with
-- its time.
with old as (
    select to_char((now() - %(days)s * interval '1 day') at time zone 'utc', 'YYYYMMDD"T"HH24MISS') as stamp
), lately as (
    update jobs set evidence = null
    where id in (
        select id from jobs, old
        where evidence is not null and split_part(evidence, '/', 2) collate "C" < stamp
        limit %(most)s)
    returning id
), long_ago as (
    update jobs_history set evidence = null
    where id in (
        select id from jobs_history, old
        where evidence is not null and split_part(evidence, '/', 2) collate "C" < stamp
        limit %(most)s)
    returning id
)
select greatest((select count(*) from lately), (select count(*) from long_ago)) as rows

-- name: purge_deliveries
-- Only ended deliveries: one that is still to be delivered stays, and its event with it.
with old as materialized (
    select id from deliveries
    where ended_at < now() - %(days)s * interval '1 day' and state in ('delivered', 'failed')
    order by ended_at
    limit %(most)s
    for update skip locked
), gone as (
    delete from deliveries using old where deliveries.id = old.id returning deliveries.id
)
select count(*) as rows from gone

-- name: purge_events
select deleted, read, last_at, last_id
from purge_events(now() - %(days)s * interval '1 day', %(most)s, %(after_at)s, %(after_id)s)

-- name: paused_for_long
-- Paused endpoints with an event that would have been deleted for its age, were it not still to be delivered. One of the
-- oldest is looked at, by an index.
select endpoints.id, extract(epoch from now() - oldest.event_at)::float8 / 86400 as days
from endpoints
cross join lateral (
    select event_at from deliveries
    where endpoint_id = endpoints.id and ended_at is null
    order by due_at, created_at
    limit 1
) as oldest
where status = 'paused' and deleted_at is null and oldest.event_at < now() - %(days)s * interval '1 day'

-- name: purge_attempts
-- By their ids, which rise with time, so that no index by time is needed.
with old as materialized (
    select id, created_at from attempts order by id limit %(most)s
), gone as (
    delete from attempts using old
    where attempts.id = old.id and attempts.created_at = old.created_at
      and attempts.created_at < now() - %(days)s * interval '1 day'
    returning attempts.id
)
select count(*) as rows from gone

-- name: purge_recoveries
select purge('recoveries', 'ended_at', now() - %(days)s * interval '1 day', %(most)s) as rows

-- name: purge_changes
select purge('account_changes', 'created_at', now() - %(days)s * interval '1 day', %(most)s) as rows

-- name: purge_checkups
select purge('checkups', 'wanted_at', now() - %(days)s * interval '1 day', %(most)s) as rows

-- name: purge_kept_profiles
-- Skips locked rows: a person may be going back to a kept profile at this moment.
select purge('profiles', 'kept_since', now() - %(days)s * interval '1 day', %(most)s) as rows

-- name: purge_incoming
-- The opt-out list is not touched.
select purge('incoming', 'created_at', deletable_before(now() - %(days)s * interval '1 day'), %(most)s) as rows

-- name: purge_tokens
select purge('qr_tokens', 'created_at', now() - interval '1 day', %(most)s) as rows

-- name: purge_signatures
-- A request older than 30 seconds is refused anyway, so these signatures cannot be replayed.
select purge('request_signatures', 'created_at', now() - interval '2 minutes', %(most)s) as rows

-- name: sweep_keys
-- Delete the keys, among the next ones, whose job is gone: with its month, or by an older version. A key without a job is free,
-- so none of them does any harm meanwhile.
with page as materialized (
    select org_id, key_hash, job_id from job_keys
    where (org_id, key_hash) > (%(after_org)s, %(after_hash)s)
    order by org_id, key_hash
    limit %(most)s
), gone as (
    delete from job_keys using page
    where job_keys.org_id = page.org_id and job_keys.key_hash = page.key_hash and job_keys.job_id = page.job_id
      and not exists (select from jobs where id = page.job_id) and not exists (select from jobs_history where id = page.job_id)
    returning job_keys.job_id
)
select (select count(*) from page) as read, (select count(*) from gone) as deleted,
       (select org_id from page order by org_id desc, key_hash desc limit 1) as last_org,
       (select key_hash from page order by org_id desc, key_hash desc limit 1) as last_hash

-- name: purge_contents
-- DEDUPE_SECONDS is at most three days.
select purge('recent_contents', 'created_at', now() - interval '3 days', %(most)s) as rows

-- name: purge_secrets
-- Old secrets whose time of signing beside a newer one is over.
select purge('endpoint_secrets', 'expires_at', now(), %(most)s) as rows

-- name: purge_api_processes
-- Processes that ended without unregistering.
select purge('api_processes', 'renewed_at', now() - interval '1 hour', %(most)s) as rows

-- name: purge_endpoints
-- An endpoint that was deleted long ago goes with its last delivery, and its lane with it.
with gone as materialized (
    select id from endpoints
    where deleted_at < now() - %(days)s * interval '1 day'
      and not exists (select from deliveries where endpoint_id = endpoints.id)
    order by deleted_at
    limit %(most)s
    for update skip locked
), secrets as (
    delete from endpoint_secrets using gone where endpoint_id = gone.id
), recovered as (
    delete from recoveries using gone where endpoint_id = gone.id
), endpoint as (
    delete from endpoints using gone where endpoints.id = gone.id returning endpoints.id
), lane as (
    delete from lanes using endpoint where lanes.id = endpoint.id
)
select count(*) as rows from endpoint

-- name: purge_accounts
-- An account that was deleted long ago goes with the last row that tells of it, and its lane with it. Opt-outs stay, since
-- they hold for all accounts of the org, without naming it.
with gone as materialized (
    select id from accounts
    where deleted_at < now() - %(days)s * interval '1 day'
      and not exists (select from jobs where jobs.org_id = accounts.org_id and account_id = accounts.id)
      and not exists (select from jobs_history as old where old.org_id = accounts.org_id and account_id = accounts.id)
      and not exists (select from incoming where incoming.org_id = accounts.org_id and account_id = accounts.id)
      and not exists (select from account_changes where account_id = accounts.id)
    order by deleted_at
    limit %(most)s
    for update skip locked
), opt_out as (
    update opt_outs set account_id = null from gone where account_id = gone.id
), token as (
    delete from qr_tokens using gone where account_id = gone.id
), profile as (
    delete from profiles using gone where account_id = gone.id
), checkup as (
    delete from checkups using gone where account_id = gone.id
), depth as (
    delete from lane_depth using gone where lane_id = gone.id
), progress as (
    delete from report_progress using gone where account_id = gone.id
), account as (
    delete from accounts using gone where accounts.id = gone.id returning accounts.id
), lane as (
    delete from lanes using account where lanes.id = account.id
)
select count(*) as rows from account
