-- Recoveries: events that an endpoint wants and has not received, brought to it in the background; and deliveries that are
-- found by state, type and time, however many there are.
-- Oldest code that may run on it: 0.3.0. It works on no recovery, which waits for a newer worker.

-- All at once, before anything waits for one of them and holds another.
lock table outbox, deliveries, endpoints in access exclusive mode;

-- deliveries ---------------------------------------------------------------------------------------------------------

-- With the type in the row, one index serves every list; and a delivery is kept longer than its event.
alter table deliveries add column type text;
update deliveries set type = coalesce(
    (select type from outbox where outbox.id = event_id and outbox.created_at = event_at), 'unknown');
alter table deliveries alter column type set not null;
comment on column deliveries.type is 'Type of the event: JobCompleted, JobFailed and so on.';
create index deliveries_list_idx on deliveries (endpoint_id, state, type, event_at, id);

create or replace function record_event(
    p_org_id text, p_type text, p_data text, p_job_id text, p_account_id text, p_sequence integer
) returns text[] language sql as $$
    with event as (
        insert into outbox (id, org_id, type, job_id, account_id, sequence, body)
        values ('evt_' || replace(gen_random_uuid()::text, '-', ''), p_org_id, p_type, p_job_id, p_account_id, p_sequence,
                event_body(p_type, p_data))
        returning id, created_at
    ), fanout as (
        insert into deliveries (id, org_id, event_id, event_at, type, endpoint_id)
        select 'dlv_' || replace(gen_random_uuid()::text, '-', ''), p_org_id, event.id, event.created_at, p_type, endpoints.id
        from event, endpoints
        where endpoints.org_id = p_org_id and endpoints.deleted_at is null and endpoints.status <> 'disabled'
          and (p_type = any (endpoints.events) or '*' = any (endpoints.events))
        returning endpoint_id
    )
    select coalesce(array_agg(lanes.id), '{}') from fanout join lanes on lanes.id = fanout.endpoint_id where open_at <= now()
$$;

create view shown_deliveries as
select deliveries.id, deliveries.org_id, endpoint_id, event_id, event_at, deliveries.type,
       outbox.job_id as job, case when outbox.job_id is not null then outbox.body::json #>> '{data,jobId}' end as job_id,
       outbox.account_id, state, attempts, case when state = 'pending' then due_at end as due_at, last_status, last_error,
       deliveries.created_at, ended_at, outbox.body,
       case when endpoints.deleted_at is null then endpoints.status else 'deleted' end as endpoint_status
from deliveries
join endpoints on endpoints.id = deliveries.endpoint_id
left join outbox on outbox.id = deliveries.event_id and outbox.created_at = deliveries.event_at;
comment on view shown_deliveries is 'Deliveries as they are shown, each with its event, unless that is past its retention.';
comment on column shown_deliveries.id is 'dlv_…';
comment on column shown_deliveries.org_id is 'The org it belongs to.';
comment on column shown_deliveries.endpoint_id is 'The endpoint.';
comment on column shown_deliveries.event_id is 'The event: the webhook-id of every attempt.';
comment on column shown_deliveries.event_at is 'When it happened.';
comment on column shown_deliveries.type is 'Type of the event.';
comment on column shown_deliveries.job is 'The job that it tells of: jobs.id.';
comment on column shown_deliveries.job_id is 'The same as on the wire: its idempotency key, or job_….';
comment on column shown_deliveries.account_id is 'The account that it tells of.';
comment on column shown_deliveries.state is 'pending, sending, delivered or failed.';
comment on column shown_deliveries.attempts is 'How many requests were made.';
comment on column shown_deliveries.due_at is 'When it is to be sent next; null when it is not to be.';
comment on column shown_deliveries.last_status is 'HTTP status of the last attempt.';
comment on column shown_deliveries.last_error is 'Why the last attempt failed.';
comment on column shown_deliveries.created_at is 'When it was created: with its event, or by a recovery.';
comment on column shown_deliveries.ended_at is 'When it was delivered or given up.';
comment on column shown_deliveries.body is 'The event as it is signed and sent; null when it is past its retention.';
comment on column shown_deliveries.endpoint_status is 'enabled, paused, disabled or deleted.';

-- recoveries ---------------------------------------------------------------------------------------------------------

-- A recovery goes through an org's events by time, those that nobody wanted included.
create index outbox_org_id_idx on outbox (org_id, created_at, id);

create table recoveries (
    id          text primary key,
    org_id      text not null references orgs,
    endpoint_id text not null references endpoints,
    since       timestamptz not null,
    until       timestamptz not null,
    state       text not null default 'counting' check (state in ('counting', 'running', 'done', 'stopped')),
    total       bigint not null default 0,
    done        bigint not null default 0,
    place_at    timestamptz not null,
    place_id    text not null default '',
    begun_in    xid8 not null default pg_current_xact_id(),
    created_at  timestamptz not null default now(),
    ended_at    timestamptz
) with (fillfactor = 50);
comment on table recoveries is 'Wishes to bring an endpoint what it wants and has not received of a time.';
comment on column recoveries.id is 'rec_…';
comment on column recoveries.org_id is 'The org it belongs to.';
comment on column recoveries.endpoint_id is 'The endpoint, whose drains work on it.';
comment on column recoveries.since is 'Events that happened from then on,';
comment on column recoveries.until is 'and before then.';
comment on column recoveries.state is
    'counting what is missing, running, done: all of it is delivered or on its way, or stopped: the endpoint was disabled or deleted.';
comment on column recoveries.total is 'Events that were found to be missing.';
comment on column recoveries.done is 'Of these, those that were given a delivery, or their failed one anew.';
comment on column recoveries.place_at is 'Events up to here have been looked at in this state: when they happened,';
comment on column recoveries.place_id is 'and the id of the last of them.';
comment on column recoveries.begun_in is
    'The transaction that wrote it. Events of older ones may become visible late, behind the place; it begins when all have ended.';
comment on column recoveries.created_at is 'When it was asked for.';
comment on column recoveries.ended_at is 'When it was done or stopped.';
create index recoveries_open_idx on recoveries (endpoint_id, created_at) where state in ('counting', 'running');
create index recoveries_ended_idx on recoveries (ended_at) where ended_at is not null;

create function settled(p_begun_in xid8, p_created_at timestamptz) returns boolean language sql stable as $$
    select pg_snapshot_xmin(pg_current_snapshot()) > p_begun_in or p_created_at < now() - interval '1 minute'
$$;
comment on function settled(xid8, timestamptz) is
    'Whether all that was written before a recovery is visible. Ours is after a minute: no transaction of ours lasts longer; '
    'those of others may, and do not matter.';

create function wants(p_endpoint text, p_events text[], p_type text, p_body text) returns boolean language sql immutable as $$
    select case
        when p_type = 'WebhookTest' or not (p_type = any (p_events) or '*' = any (p_events)) then false
        when p_type = 'WebhookDisabled' then p_body::json #>> '{data,endpoint}' <> p_endpoint
        else true
    end
$$;
comment on function wants(text, text[], text, text) is
    'Whether an endpoint with these events wants one that was not written for it: no test of another endpoint, and not the '
    'news that it was disabled itself.';

create function stop_recoveries() returns trigger language plpgsql as $$
begin
    update recoveries set state = 'stopped', ended_at = now()
    where endpoint_id = new.id and state in ('counting', 'running');
    return null;
end $$;
comment on function stop_recoveries() is
    'What a recovery had on its way fails with the rest when its endpoint is disabled or deleted, by whomever: it could only '
    'claim that nothing is missing.';
create trigger stop_recoveries after update of status, deleted_at on endpoints
    for each row when (new.status = 'disabled' or new.deleted_at is not null) execute function stop_recoveries();

create function forget_events(p_before timestamptz, p_most integer) returns bigint language plpgsql as $$
declare
    candidates text[];
    gone bigint;
begin
    -- Locked first, and looked at in a statement of its own: what is being replayed or recovered this moment is locked, and
    -- skipped; whoever comes later waits, and then finds that it is gone.
    candidates := array(
        select id from outbox
        where created_at < p_before
          and not exists (select from deliveries where event_id = outbox.id and state in ('pending', 'sending'))
        order by created_at
        limit p_most
        for update skip locked);
    delete from outbox
    where id = any (candidates) and created_at < p_before
      and not exists (select from deliveries where event_id = outbox.id and state in ('pending', 'sending'));
    get diagnostics gone = row_count;
    return gone;
end $$;
comment on function forget_events(timestamptz, integer) is
    'Delete events that happened before this moment and that are not to be delivered any more; return how many.';

-- report -------------------------------------------------------------------------------------------------------------

create view report.webhook_health as
select endpoints.org_id, endpoints.id as endpoint_id, split_part(endpoints.url, '?', 1) as url, endpoints.description,
       case when endpoints.deleted_at is null then endpoints.status else 'deleted' end as status, endpoints.status_reason,
       case when lanes.open_at > now() then lanes.open_at end as resting_until,
       case when lanes.open_at > now() then lanes.gate_reason end as resting_because,
       endpoints.failing_since, endpoints.failures as failures_in_a_row, open.waiting, open.due, open.oldest_due_at, dead.failed,
       coalesce(lately.attempts, 0) as attempts, round(lately.succeeded::numeric / lately.attempts, 4) as success_rate,
       lately.median_ms, lately.last_succeeded_at
from endpoints
join lanes on lanes.id = endpoints.id
cross join lateral (
    select count(*) as waiting, count(*) filter (where due_at <= now()) as due,
           min(due_at) filter (where due_at <= now()) as oldest_due_at
    from deliveries where endpoint_id = endpoints.id and state = 'pending'
) as open
cross join lateral (
    select count(*) as failed from deliveries where endpoint_id = endpoints.id and state = 'failed'
) as dead
left join (
    select endpoint_id, count(*) as attempts, count(*) filter (where error is null) as succeeded,
           percentile_cont(0.5) within group (order by duration_ms)::integer as median_ms,
           max(ended_at) filter (where error is null) as last_succeeded_at
    from attempts
    where created_at > now() - interval '1 day' and ended_at is not null and counts and error is distinct from 'interrupted'
    group by endpoint_id
) as lately on lately.endpoint_id = endpoints.id;
comment on view report.webhook_health is 'Endpoints, deleted ones too: what waits for each, what failed, and how the last day went.';
comment on column report.webhook_health.org_id is 'Org that owns the endpoint.';
comment on column report.webhook_health.endpoint_id is 'Endpoint.';
comment on column report.webhook_health.url is 'Where events are posted; without its query, which may hold a secret.';
comment on column report.webhook_health.description is 'What people call it.';
comment on column report.webhook_health.status is 'enabled, paused, disabled or deleted.';
comment on column report.webhook_health.status_reason is 'Why it is paused or disabled.';
comment on column report.webhook_health.resting_until is
    'Until when nothing is sent to it; infinity: until somebody acts; null: it is sent what is due.';
comment on column report.webhook_health.resting_because is 'Why.';
comment on column report.webhook_health.failing_since is 'When the first of its failures in a row was; null after a success.';
comment on column report.webhook_health.failures_in_a_row is 'How many these are.';
comment on column report.webhook_health.waiting is 'Deliveries that wait.';
comment on column report.webhook_health.due is 'Of these, those that are due.';
comment on column report.webhook_health.oldest_due_at is 'Since when the oldest of these is.';
comment on column report.webhook_health.failed is 'Deliveries that were given up, and are kept: dead letters.';
comment on column report.webhook_health.attempts is 'Requests of the last 24 hours that ended; not those that our own network failed.';
comment on column report.webhook_health.success_rate is 'Of these, how many of one were answered 2xx; null when there were none.';
comment on column report.webhook_health.median_ms is 'Of these, half took less: milliseconds to the end of the answer.';
comment on column report.webhook_health.last_succeeded_at is 'When the last of these that succeeded ended.';
