-- name: list_deliveries
-- Deliveries of an endpoint, deleted or not, by the time of their events, newest first; a page begins after the last
-- row of the one before. The indexes hold this order within each type, of those that are open, were delivered and have
-- failed, so each of these is read on its own: the rarest are found at once among millions.
with recursive types (type) as (
    select next_type(%(endpoint)s, '')
    union all
    select next_type(%(endpoint)s, type) from types where type is not null
), page as (
    select found.id
    from types
    cross join lateral (
        (
            select id, event_at from deliveries
            where endpoint_id = %(endpoint)s and type = types.type and ended_at is null
              and (%(status)s::text is null or state = %(status)s) and coalesce(%(status)s, 'pending') in ('pending', 'sending')
              and event_at >= %(since)s::timestamptz
              and (event_at, id) < (%(after_at)s::timestamptz, %(after_id)s::text)
            order by event_at desc, id desc
            limit %(limit)s
        )
        union all
        (
            select id, event_at from deliveries
            where endpoint_id = %(endpoint)s and type = types.type and ended_at is not null and last_error is null
              and coalesce(%(status)s, 'delivered') = 'delivered'
              and event_at >= %(since)s::timestamptz
              and (event_at, id) < (%(after_at)s::timestamptz, %(after_id)s::text)
            order by event_at desc, id desc
            limit %(limit)s
        )
        union all
        (
            select id, event_at from deliveries
            where endpoint_id = %(endpoint)s and type = types.type and ended_at is not null and last_error is not null
              and coalesce(%(status)s, 'failed') = 'failed'
              and event_at >= %(since)s::timestamptz
              and (event_at, id) < (%(after_at)s::timestamptz, %(after_id)s::text)
            order by event_at desc, id desc
            limit %(limit)s
        )
    ) as found
    where %(type)s::text is null or type = %(type)s
    order by event_at desc, found.id desc
    limit %(limit)s
)
select shown_deliveries.*
from shown_deliveries
join page using (id)
order by event_at desc, id desc

-- name: show_deliveries
-- Those of these deliveries that belong to the org and, where one is given, to the endpoint.
select * from shown_deliveries
where org_id = %(org)s and id = any (%(deliveries)s::text[])
  and (%(endpoint)s::text is null or endpoint_id = %(endpoint)s)

-- name: list_job_deliveries
-- By the time of their events, newest first. A job may be purged before its events.
select shown_deliveries.*
from outbox
join deliveries on deliveries.event_id = outbox.id
join shown_deliveries on shown_deliveries.id = deliveries.id
where outbox.org_id = %(org)s and outbox.job_id = %(job)s
  and (outbox.created_at, deliveries.id) < (%(after_at)s::timestamptz, %(after_id)s::text)
order by outbox.created_at desc, deliveries.id desc
limit %(limit)s

-- name: job_of_events
-- The id of a job, even when it was purged and its events were not.
(select id from all_jobs where org_id = %(org)s and (id = %(job)s or key = %(job)s))
union all
(select job_id from outbox where org_id = %(org)s and job_id = %(job)s limit 1)
limit 1

-- name: list_attempts
-- Newest first. An attempt that was not counted has the same number as the one after it.
select number, created_at, ended_at, status, duration_ms, headers, response, error, counts
from attempts
where delivery_id = %(delivery)s
order by id desc
limit %(most)s

-- name: endpoint_exists
-- Deleted ones too: their deliveries are shown.
select id, case when deleted_at is null then status else 'deleted' end as status,
       (select count(*) from recoveries where endpoint_id = endpoints.id and state in ('counting', 'running')) as recoveries
from endpoints
where org_id = %(org)s and id = %(endpoint)s

-- name: replay_deliveries
-- Only ended deliveries, of endpoints that take events, whose events still exist. Endpoints are locked first, as in the
-- queries that disable them, and events last, so that retention leaves them alone.
with wanted as materialized (
    select id, endpoint_id from deliveries
    where org_id = %(org)s and id = any (%(deliveries)s::text[])
      and (%(endpoint)s::text is null or endpoint_id = %(endpoint)s)
), able as materialized (
    select id from endpoints
    where id in (select endpoint_id from wanted) and status <> 'disabled' and deleted_at is null
    order by id
    for share
), ended as materialized (
    select deliveries.id, event_id, event_at
    from deliveries
    where id in (select wanted.id from wanted join able on able.id = wanted.endpoint_id)
      and state in ('delivered', 'failed')
    order by id
    for no key update
), kept as materialized (
    select ended.id
    from outbox
    join ended on ended.event_id = outbox.id and ended.event_at = outbox.created_at
    for key share of outbox
)
update deliveries
set state = 'pending', due_at = now(), replayed = attempts, ended_at = null
from kept
where deliveries.id = kept.id
returning deliveries.id, endpoint_id as lane
