-- name: create_endpoint
with lane as (
    insert into lanes (id, org_id, kind, queue) values (%(id)s, %(org)s, 'endpoint', 'endpoint-slow')
)
insert into endpoints (id, org_id, url, events, description, signature, secret, public_key, headers, retry,
                       per_second)
values (
    %(id)s, %(org)s, %(url)s, %(events)s::text[], %(description)s, %(signature)s, %(secret)s, %(public_key)s,
    %(headers)s::text::jsonb, %(retry)s::text::jsonb, %(per_second)s
)

-- name: count_of_org
select count(*) as endpoints from endpoints where org_id = %(org)s and deleted_at is null

-- name: list_endpoints
-- Oldest first, or only the one asked for; a page begins after the last row of the one before. Values of headers may be
-- secrets, and are not shown.
select id, url, events, description, status, status_reason, signature, public_key, retry, per_second,
       created_at,
       array(select jsonb_object_keys(headers) order by 1) as header_names,
       (select max(expires_at) from endpoint_secrets where endpoint_id = endpoints.id and expires_at > now())
           as old_secrets_until
from endpoints
where org_id = %(org)s and deleted_at is null
  and (%(endpoint)s::text is null or id = %(endpoint)s)
  and (created_at, id) > (%(after_at)s::timestamptz, %(after_id)s::text)
order by created_at, id
limit %(limit)s

-- name: endpoint_to_change
-- With its lane, which is locked first, as in the drains.
with lane as (
    select id from lanes where id = %(endpoint)s and org_id = %(org)s for no key update
)
select endpoints.id, url, status, signature, headers, retry, per_second
from lane
join endpoints using (id)
where deleted_at is null
for no key update of endpoints

-- name: change_endpoint
-- Null leaves a column as it is, but for per_second.
update endpoints
set url = coalesce(%(url)s, url), events = coalesce(%(events)s::text[], events),
    description = coalesce(%(description)s, description), headers = coalesce(%(headers)s::text::jsonb, headers),
    retry = coalesce(%(retry)s::text::jsonb, retry), per_second = %(per_second)s
where id = %(endpoint)s

-- name: count_old_secrets
-- A separate statement after the endpoint's row is locked, so that it sees what the transaction before it committed.
select count(*) as secrets from endpoint_secrets where endpoint_id = %(endpoint)s and expires_at > now()

-- name: replace_secret
-- The old secret goes on signing for so many seconds; 0 ends it and all earlier ones at once.
with old as (
    insert into endpoint_secrets (org_id, endpoint_id, secret, expires_at)
    select org_id, id, secret, now() + %(overlap)s::integer * interval '1 second'
    from endpoints
    where id = %(endpoint)s and %(overlap)s::integer > 0
), ended as (
    delete from endpoint_secrets where endpoint_id = %(endpoint)s and %(overlap)s::integer = 0
)
update endpoints
set signature = %(signature)s, secret = %(secret)s, public_key = %(public_key)s
where id = %(endpoint)s

-- name: switch_endpoint
-- A gate is closed for as long as its endpoint is paused or disabled.
with switched as (
    update endpoints set status = %(status)s, status_reason = %(reason)s where id = %(endpoint)s
    returning id
)
update lanes
set open_at = case when %(status)s = 'enabled' then '-infinity'::timestamptz else 'infinity' end,
    gate_reason = nullif(%(status)s, 'enabled')
from switched
where lanes.id = switched.id

-- name: reset_health
-- The health of an endpoint whose URL was changed, or that was switched on again, is unknown. A drain that is still
-- running is fenced off, or it would write what it knows of the old state.
with lane as (
    update lanes
    set epoch = epoch + 1,
        open_at = case when open_at = 'infinity' then open_at else '-infinity' end,
        gate_reason = case when open_at = 'infinity' then gate_reason end
    where id = %(endpoint)s
)
update endpoints
set in_flight = default, failures = default, rests = default, failing_since = default, failed_at = default
where id = %(endpoint)s

-- name: test_endpoint
-- An event for this endpoint alone, whether or not it asked for the type.
with event as (
    insert into outbox (id, org_id, type, body)
    select 'evt_' || replace(gen_random_uuid()::text, '-', ''), org_id, 'WebhookTest',
           event_body('WebhookTest', '{"endpoint":' || to_json(id) || '}')
    from endpoints
    where id = %(endpoint)s
    returning id, org_id, created_at
)
insert into deliveries (id, org_id, event_id, event_at, type, endpoint_id)
select 'dlv_' || replace(gen_random_uuid()::text, '-', ''), org_id, id, created_at, 'WebhookTest', %(endpoint)s from event
returning event_id, id as delivery_id

-- name: delete_endpoint
-- The row stays for its history, and so that an event that is being written at this moment finds it.
with lane as (
    select id from lanes where id = %(endpoint)s and org_id = %(org)s for no key update
), deleted as (
    update endpoints set deleted_at = now()
    from lane
    where endpoints.id = lane.id and deleted_at is null
    returning endpoints.id
)
update lanes set open_at = 'infinity', gate_reason = 'deleted'
from deleted
where lanes.id = deleted.id
returning lanes.id

-- name: put_bootstrap_endpoint
-- Another URL is another receiver: if the old one was disabled, the new one is not.
with old as (
    select url from endpoints where id = 'whe_bootstrap'
), lane as (
    insert into lanes (id, org_id, kind, queue) values ('whe_bootstrap', %(org)s, 'endpoint', 'endpoint-slow')
    on conflict do nothing
), endpoint as (
    insert into endpoints (id, org_id, url, events, description, secret)
    values ('whe_bootstrap', %(org)s, %(url)s, '{*}', 'WEBHOOK_URL', %(secret)s)
    on conflict (id) do update
    set url = excluded.url, secret = excluded.secret, deleted_at = null,
        status = case when endpoints.url = excluded.url then endpoints.status else 'enabled' end,
        status_reason = case when endpoints.url = excluded.url then endpoints.status_reason end,
        in_flight = case when endpoints.url = excluded.url then endpoints.in_flight else 2 end,
        failures = case when endpoints.url = excluded.url then endpoints.failures else 0 end,
        rests = case when endpoints.url = excluded.url then endpoints.rests else 0 end,
        failing_since = case when endpoints.url = excluded.url then endpoints.failing_since end,
        failed_at = case when endpoints.url = excluded.url then endpoints.failed_at end
    returning id, status
)
update lanes set open_at = '-infinity', gate_reason = null
from endpoint
where lanes.id = endpoint.id and endpoint.status = 'enabled'
  and (gate_reason in ('paused', 'disabled', 'deleted') or %(url)s <> (select url from old))
