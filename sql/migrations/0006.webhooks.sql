-- Webhooks: the gate of an endpoint's lane follows its status, and the others are told of one that was disabled.
-- Oldest code that may run on it: 0.3.0. It opens no gate, so that an endpoint it enables for a new WEBHOOK_URL waits until
-- newer code starts.

-- status -------------------------------------------------------------------------------------------------------------

update lanes
set open_at = 'infinity', gate_reason = case when endpoints.deleted_at is null then endpoints.status else 'deleted' end
from endpoints
where endpoints.id = lanes.id and (endpoints.status <> 'enabled' or endpoints.deleted_at is not null);

create function event_body(p_type text, p_data text) returns text language sql stable as
$$ select '{"type":' || to_json(p_type) || ',"timestamp":"' || iso(now()) || '","data":' || p_data || '}' $$;
comment on function event_body(text, text) is
    'The body of an event that happens now, as it is signed and sent; put together as text, since json functions add white space.';

create or replace function record_event(
    p_org_id text, p_type text, p_data text, p_job_id text, p_account_id text, p_sequence integer
) returns text[] language sql as $$
    with event as (
        insert into outbox (id, org_id, type, job_id, account_id, sequence, body)
        values ('evt_' || replace(gen_random_uuid()::text, '-', ''), p_org_id, p_type, p_job_id, p_account_id, p_sequence,
                event_body(p_type, p_data))
        returning id, created_at
    ), fanout as (
        insert into deliveries (id, org_id, event_id, event_at, endpoint_id)
        select 'dlv_' || replace(gen_random_uuid()::text, '-', ''), p_org_id, event.id, event.created_at, endpoints.id
        from event, endpoints
        where endpoints.org_id = p_org_id and endpoints.deleted_at is null and endpoints.status <> 'disabled'
          and (p_type = any (endpoints.events) or '*' = any (endpoints.events))
        returning endpoint_id
    )
    select coalesce(array_agg(lanes.id), '{}') from fanout join lanes on lanes.id = fanout.endpoint_id where open_at <= now()
$$;
comment on function record_event(text, text, text, text, text, integer) is
    'Write an event and one delivery for each endpoint that asked for its type; return the lanes to wake: a drain of a closed '
    'one would do nothing.';

create function disable_endpoint(p_endpoint text, p_reason text) returns text[] language plpgsql as $$
declare
    org text;
begin
    update endpoints set status = 'disabled', status_reason = p_reason
    where id = p_endpoint and status <> 'disabled' and deleted_at is null
    returning org_id into org;
    if not found then
        return null;
    end if;
    update lanes set open_at = 'infinity', gate_reason = 'disabled' where id = p_endpoint;
    -- After its status: the endpoint itself is told nothing.
    return record_event(org, 'WebhookDisabled',
        '{"endpoint":' || to_json(p_endpoint) || ',"reason":' || to_json(p_reason) || '}', null, null, 0);
end $$;
comment on function disable_endpoint(text, text) is
    'Disable an endpoint for what its receiver did, and tell the others; return the lanes to wake, or null when it was disabled.';
