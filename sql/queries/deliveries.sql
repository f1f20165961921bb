-- name: take_delivery
-- The next due delivery of the lane, with its attempt written before the request is made, so that a crash leaves a trace.
with lane as (
    select id from lanes
    where id = %(lane)s and epoch = %(epoch)s and open_at <= now()
    for no key update
), next as materialized (
    select deliveries.id
    from deliveries
    join lane on deliveries.endpoint_id = lane.id
    where deliveries.state = 'pending' and deliveries.due_at <= now()
    order by deliveries.due_at, deliveries.created_at
    limit 1
    for update of deliveries skip locked
), taken as (
    update deliveries
    set state = 'sending', claim = gen_random_uuid(), claimed_by = %(worker)s, attempts = attempts + 1
    from next
    where deliveries.id = next.id
    returning deliveries.*
), attempt as (
    insert into attempts (org_id, delivery_id, endpoint_id, number)
    select org_id, id, endpoint_id, attempts from taken
    returning id, created_at
)
select taken.id, taken.endpoint_id, taken.event_id, taken.claim, taken.attempts, outbox.type, outbox.body, outbox.job_id,
       endpoints.url, endpoints.secret, endpoints.headers, endpoints.retry,
       attempt.id as attempt_id, attempt.created_at as attempt_at
from taken
join attempt on true
join outbox on outbox.id = taken.event_id and outbox.created_at = taken.event_at
join endpoints on endpoints.id = taken.endpoint_id

-- name: end_attempt
-- What came of a request, in its attempt and its delivery. state: delivered, pending (again in so many seconds) or failed.
with attempt as (
    update attempts
    set ended_at = now(), status = %(status)s, error = %(error)s, duration_ms = %(duration_ms)s, response = %(response)s
    where id = %(attempt)s and created_at = %(attempt_at)s
)
update deliveries
set state = case when %(state)s = 'pending' and gone then 'failed' else %(state)s end, claim = null, claimed_by = null,
    last_status = %(status)s, last_error = %(error)s, due_at = now() + %(seconds)s * interval '1 second',
    ended_at = case when %(state)s <> 'pending' or gone then now() end
from (
    select endpoints.id, endpoints.status = 'disabled' or endpoints.deleted_at is not null as gone from endpoints
) as endpoint
where deliveries.id = %(delivery)s and deliveries.claim = %(claim)s and endpoint.id = deliveries.endpoint_id

-- name: release_deliveries
-- What an earlier drain left under way may or may not have arrived: it is sent again, with the same webhook-id.
with lane as (
    select id from lanes where id = %(lane)s and epoch = %(epoch)s for no key update
), lost as (
    update deliveries
    set state = 'pending', claim = null, claimed_by = null, due_at = now()
    from lane
    where endpoint_id = lane.id and state = 'sending'
    returning deliveries.id, attempts
)
update attempts
set ended_at = now(), error = 'interrupted'
from lost
where attempts.delivery_id = lost.id and attempts.number = lost.attempts and attempts.ended_at is null

-- name: disable_endpoint
-- None are kept for a disabled endpoint: what waits for it has failed. It names the claim of the delivery that was
-- answered so: a worker that was frozen may know an old URL's answer.
with disabled as (
    update endpoints set status = 'disabled', status_reason = %(reason)s
    where id = %(endpoint)s
      and exists (select from deliveries where id = %(delivery)s and claim = %(claim)s)
    returning id
)
update deliveries
set state = 'failed', ended_at = now(), last_error = %(reason)s
from disabled
where deliveries.endpoint_id = disabled.id and deliveries.state = 'pending'
