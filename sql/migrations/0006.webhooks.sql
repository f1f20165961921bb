-- Webhooks: each endpoint chooses its signature, old secrets sign beside the new one for a while, the gate of an endpoint's
-- lane follows its status, and the others are told of one that was disabled.
-- Oldest code that may run on it: 0.3.0. It signs with the newest secret alone and knows no v1a: what fails for that is tried
-- again. It opens no gate, so that an endpoint it enables for a new WEBHOOK_URL waits until newer code starts.

-- signatures ---------------------------------------------------------------------------------------------------------

alter table endpoints
    add column signature  text not null default 'v1' check (signature in ('v1', 'v1a')),
    add column public_key text,
    add constraint endpoints_public_key_check check ((signature = 'v1a') = (public_key is not null));
comment on column endpoints.signature is 'v1: HMAC-SHA256 with a secret; v1a: Ed25519 with a private key (Standard Webhooks 1.0.0).';
comment on column endpoints.public_key is 'whpk_…, which receivers verify v1a with.';
comment on column endpoints.secret is 'Sealed whsec_… or whsk_… that signs; older ones that still do are in endpoint_secrets.';

create table endpoint_secrets (
    id          bigint generated always as identity primary key,
    org_id      text not null references orgs,
    endpoint_id text not null references endpoints,
    secret      bytea not null,
    expires_at  timestamptz not null,
    created_at  timestamptz not null default now()
);
comment on table endpoint_secrets is 'Secrets that were replaced and still sign, so that receivers have time to change theirs.';
comment on column endpoint_secrets.id is 'The newest is the one that was replaced last.';
comment on column endpoint_secrets.org_id is 'The org it belongs to.';
comment on column endpoint_secrets.endpoint_id is 'The endpoint.';
comment on column endpoint_secrets.secret is 'Sealed whsec_… or whsk_…, as it was in endpoints.secret.';
comment on column endpoint_secrets.expires_at is 'It signs until then, and is deleted afterwards.';
comment on column endpoint_secrets.created_at is 'When it was replaced.';
create index endpoint_secrets_endpoint_id_idx on endpoint_secrets (endpoint_id, id);
create index endpoint_secrets_expires_at_idx on endpoint_secrets (expires_at);

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
