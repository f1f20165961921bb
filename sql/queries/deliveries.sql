-- name: take_deliveries
-- Take the next due deliveries of the lane. Their attempts are written before the requests are made, so that a crash
-- leaves a trace. `begins`: the drain has just begun. Deliveries that an earlier drain left under way may have arrived or
-- not: they are sent again, with the same webhook-id. They are looked for, among all that are open, unless the drain before
-- has ended in order. Each row has the endpoint's health and limits, which set how many requests it may get now; one without
-- a delivery says that none was taken. No row when a drain has begun since, or begins for an endpoint that is not enabled.
with lane as materialized (
    select id, open, doubted from fenced_endpoint(%(lane)s, %(epoch)s)
), lost as (
    update deliveries
    set state = 'pending', claim = null, claimed_by = null, due_at = now()
    -- Not joined: Postgres expects few under way, and would look for these first, in all that is open.
    where %(begins)s and (select doubted from lane) and endpoint_id = (select id from lane) and ended_at is null
      and state = 'sending'
    returning deliveries.id, attempts
), interrupted as (
    update attempts
    set ended_at = now(), error = 'interrupted'
    from lost
    where attempts.delivery_id = lost.id and attempts.number = lost.attempts and attempts.ended_at is null
), endpoint as materialized (
    -- What was lost is not seen as pending here. A rate is known to the drain alone.
    select endpoints.*, open,
           case when not %(begins)s then %(most)s::bigint when doubted or per_second is not null then 0 else in_flight end as most
    from lane
    join endpoints using (id)
    where not %(begins)s or status = 'enabled' and deleted_at is null
), next as materialized (
    select due.id
    from endpoint, lateral (
        select id
        from deliveries
        where endpoint_id = endpoint.id and ended_at is null and state = 'pending' and due_at <= now()
        order by due_at, created_at
        limit (select most from endpoint)
        for update skip locked
    ) as due
    where open
), taken as (
    update deliveries
    set state = 'sending', claim = gen_random_uuid(), claimed_by = %(worker)s, attempts = attempts + 1
    -- Not joined: Postgres cannot know how few they are, and would read the table.
    where deliveries.id = any (array(select id from next))
    returning deliveries.*
), attempt as (
    insert into attempts (org_id, delivery_id, endpoint_id, number)
    select org_id, id, endpoint_id, attempts from taken
    returning id as attempt_id, delivery_id, created_at as attempt_at
), delivery as (
    select taken.*, outbox.body, outbox.job_id, attempt_id, attempt_at
    from taken
    join attempt on delivery_id = taken.id
    join outbox on outbox.id = taken.event_id and outbox.created_at = taken.event_at
)
select url, in_flight, failures, rests, failing_since, failed_at, per_second, most,
       greatest(0, coalesce(extract(epoch from ready_at - now()), 0))::float8 as not_ready_for,
       %(begins)s and exists (
           select from recoveries where endpoint_id = endpoint.id and recoveries.state in ('counting', 'running')) as recovers,
       delivery.id, delivery.endpoint_id, event_id, event_at, claim, attempts, replayed, delivery.type, body, job_id, headers, retry,
       endpoint.secret || array(
           select secret from endpoint_secrets
           where endpoint_id = endpoint.id and expires_at > now()
           order by endpoint_secrets.id desc) as secrets,
       attempt_id, attempt_at
from endpoint
left join delivery on true

-- name: end_attempts
-- Write the results of requests to their attempts and deliveries. state: delivered, pending (retried in so many
-- seconds) or failed. A result is matched only by the claim under which its request was made.
with result as materialized (
    select *
    from json_to_recordset(%(results)s::text::json) as result (
        delivery text, claim uuid, attempt bigint, attempt_at timestamptz, state text, seconds float8, counts boolean,
        status integer, error text, duration_ms integer, response text, headers jsonb)
), attempt as (
    update attempts
    set ended_at = now(), status = result.status, error = result.error, duration_ms = result.duration_ms,
        response = result.response, headers = result.headers, counts = result.counts
    from result
    where attempts.id = result.attempt and attempts.created_at = result.attempt_at
)
update deliveries
set state = case when result.state = 'pending' and endpoint.gone then 'failed' else result.state end,
    attempts = attempts - case when result.counts then 0 else 1 end,
    claim = null, claimed_by = null, last_status = result.status, last_error = result.error,
    due_at = now() + result.seconds * interval '1 second',
    ended_at = case when result.state <> 'pending' or endpoint.gone then now() end
from result, (
    select endpoints.id, endpoints.status = 'disabled' or endpoints.deleted_at is not null as gone from endpoints
) as endpoint
where deliveries.id = result.delivery and deliveries.claim = result.claim and endpoint.id = deliveries.endpoint_id

-- name: write_health
-- Write an endpoint's health and its backoff. Fenced by the epoch, since a newer drain knows better, and by the URL,
-- since another URL is another receiver.
with endpoint as materialized (
    select endpoints.id from fenced(%(lane)s, %(epoch)s) as lane join endpoints using (id)
    where url = %(url)s
    for no key update of endpoints
), gate as (
    update lanes
    set open_at = case when open_at = 'infinity' then open_at
                       else greatest(open_at, now() + %(rest)s * interval '1 second') end,
        gate_reason = case when open_at = 'infinity' then gate_reason else coalesce(%(reason)s, gate_reason) end
    from endpoint
    where lanes.id = endpoint.id
)
update endpoints
set in_flight = %(in_flight)s, failures = %(failures)s, rests = %(rests)s, failing_since = %(failing_since)s,
    failed_at = %(failed_at)s, ready_at = now() + %(not_ready_for)s * interval '1 second'
from endpoint
where endpoints.id = endpoint.id

-- name: disable_endpoint
-- Fenced by the epoch and the URL: the result of a worker that was frozen, or of a request to an earlier URL, does not
-- count.
with answered as materialized (
    select endpoints.id from fenced(%(lane)s, %(epoch)s) as lane join endpoints using (id)
    where url = %(url)s
    for no key update of endpoints
)
select lanes from answered, disable_endpoint(id, %(reason)s) as lanes where lanes is not null

-- name: fail_waiting
-- A disabled or deleted endpoint keeps no waiting deliveries: they fail. A limited number at a time, since there may be
-- any number: those that waited, those that were under way and came back, and those whose event was being written at
-- that moment.
with waiting as materialized (
    select deliveries.id, reason
    from endpoints
    cross join lateral (
        select case when deleted_at is null then concat_ws(' ', 'The endpoint is disabled.', status_reason)
                    else 'The endpoint was deleted.' end as reason,
               door.is_drained(endpoints.id) as drains
    ) as why
    cross join lateral (
        select id from deliveries
        where endpoint_id = endpoints.id and ended_at is null and (state = 'pending' or not drains)
        order by due_at, created_at
        limit %(most)s
        for update skip locked
    ) as deliveries
    where (status = 'disabled' or deleted_at is not null)
      and (%(endpoints)s::text[] is null or endpoints.id = any (%(endpoints)s))
    limit %(most)s
), failed as (
    update deliveries set state = 'failed', ended_at = now(), last_error = reason, claim = null, claimed_by = null
    from waiting
    where deliveries.id = waiting.id
    returning deliveries.id
)
select count(*) as rows from failed
