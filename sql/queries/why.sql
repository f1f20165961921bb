-- name: why_job
-- A job by its key or id, and the gate and attend_at of its account's lane.
select coalesce(key, all_jobs.id) as job_id, account_id, state, due_at, due_at > now() as later, ended_at,
       open_at > now() as closed, case when open_at between now() and '9999-01-01' then open_at end as opens_at, gate_reason
from all_jobs
join lanes on lanes.id = account_id
where all_jobs.org_id = %(org)s and (all_jobs.id = %(job)s or key = %(job)s)

-- name: why_events
-- The events of a job, each with every endpoint of the org that is not deleted or has a delivery of it; without an
-- endpoint when there is none.
select outbox.id as event_id, outbox.type, outbox.created_at as event_at, endpoints.id as endpoint_id,
       split_part(endpoints.url, '?', 1) as url, endpoints.events, endpoints.status, status_reason,
       endpoints.deleted_at is not null as deleted, endpoints.created_at > outbox.created_at as registered_later,
       wants(endpoints.id, endpoints.events, outbox.type, outbox.body) as wanted,
       open_at > now() as resting, case when open_at between now() and '9999-01-01' then open_at end as opens_at, gate_reason,
       deliveries.id as delivery_id, deliveries.state, deliveries.attempts, deliveries.due_at,
       deliveries.due_at <= now() as due, deliveries.ended_at, deliveries.last_error,
       attempt.number, attempt.created_at as attempt_at, attempt.ended_at as answered_at, attempt.status as answer,
       attempt.error, attempt.response, attempt.duration_ms,
       (select recoveries.id from recoveries
        where endpoint_id = endpoints.id and recoveries.state in ('counting', 'running')
          and outbox.created_at >= since and outbox.created_at < until
        limit 1) as recovery
from outbox
left join endpoints on endpoints.org_id = outbox.org_id and (
    deleted_at is null or exists (select from deliveries where event_id = outbox.id and endpoint_id = endpoints.id))
left join lanes on lanes.id = endpoints.id
left join deliveries on deliveries.event_id = outbox.id and deliveries.endpoint_id = endpoints.id
left join lateral (
    select * from attempts where delivery_id = deliveries.id order by attempts.id desc limit 1
) as attempt on true
where outbox.org_id = %(org)s and outbox.job_id = %(job)s
order by outbox.created_at, outbox.sequence, endpoints.created_at, endpoints.id
