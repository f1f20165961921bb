-- name: bench_scans
-- QR codes shown so far.
select count(*) as scans from outbox where type = 'QrIssued'

-- name: bench_ended
select count(*) as ended from jobs where state not in ('queued', 'sending', 'submitting')

-- name: bench_waits
select extract(epoch from sent_at - send_at)::float8 as seconds from jobs where sent_at is not null

-- name: bench_states
select state, count(*) as jobs from jobs group by state

-- name: bench_changes
select account_id, from_state, to_state, created_at from account_changes order by account_id, id

-- name: bench_open
-- As the indexes are, so that asking costs next to nothing.
select exists (
        select from jobs where account_id = any (%(accounts)s::text[]) and claim is null and ended_at is null)
    or exists (
        select from jobs where account_id = any (%(accounts)s::text[]) and claim is not null and ended_at is null) as open

-- name: bench_steps
-- Milliseconds from the acceptance of each job until it had each state.
select step ->> 'status' as state,
       extract(epoch from (step ->> 'at')::timestamptz - (timeline -> 0 ->> 'at')::timestamptz)::float8 * 1000 as ms
from jobs, jsonb_array_elements(timeline) as step
where key = any (%(keys)s::text[])

-- name: bench_lost
select count(*) as lost from unnest(%(keys)s::text[]) as given (key)
where not exists (select from all_jobs where org_id = 'org_default' and all_jobs.key = given.key)

-- name: bench_unfinished
select exists (select from jobs where state not in ('read', 'failed'))
    or exists (select from deliveries where ended_at is null) as unfinished
