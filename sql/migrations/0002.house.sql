-- The house: orgs, keys, workers, lanes, accounts, jobs, outbox, endpoints, deliveries, attempts.
-- Oldest code that may run on it: 0.1.0.

create function postrider_oldest_code() returns text language sql immutable as $$ select '0.1.0' $$;
comment on function postrider_oldest_code() is
    'The oldest Postrider that may run on this schema. Each migration that old code cannot live with replaces it.';

-- orgs and keys ------------------------------------------------------------------------------------------------------

create table orgs (
    org_id     text primary key,
    name       text not null,
    created_at timestamptz not null default now()
);
comment on table orgs is 'A tenant; it owns everything below.';
comment on column orgs.org_id is 'org_…';
comment on column orgs.name is 'What people call it.';
comment on column orgs.created_at is 'When it was created.';

insert into orgs (org_id, name) values ('org_default', 'Default');

create table api_keys (
    id             text primary key,
    org_id         text not null references orgs,
    name           text not null,
    key_hash       bytea not null unique,
    signing_secret bytea,
    created_at     timestamptz not null default now(),
    revoked_at     timestamptz
);
comment on table api_keys is 'Keys that may call the HTTP API. The key itself is shown once and never stored.';
comment on column api_keys.id is 'key_…; key_bootstrap is the one of the setting API_KEY.';
comment on column api_keys.org_id is 'The org that the key acts for.';
comment on column api_keys.name is 'What people call it.';
comment on column api_keys.key_hash is 'SHA-256 of the key. Keys are 256 random bits, so no slow hash is needed.';
comment on column api_keys.signing_secret is
    'Sealed secret of signed requests; when set, state-changing requests must be signed.';
comment on column api_keys.created_at is 'When it was created.';
comment on column api_keys.revoked_at is 'When it stopped working.';

create table request_signatures (
    signature  bytea primary key,
    org_id     text not null references orgs,
    created_at timestamptz not null default now()
);
comment on table request_signatures is 'Signatures of accepted requests, so that each is accepted once in the cluster.';
comment on column request_signatures.signature is 'The HMAC as sent.';
comment on column request_signatures.org_id is 'The org of the key that signed.';
comment on column request_signatures.created_at is 'When it was accepted; kept for two minutes.';
create index request_signatures_created_at_idx on request_signatures (created_at);

-- workers and lanes --------------------------------------------------------------------------------------------------

create table workers (
    id                text primary key,
    org_id            text references orgs,
    host              text not null,
    version           text not null,
    home              text not null,
    seats             integer not null,
    procrastinate_ids bigint[] not null default '{}',
    created_at        timestamptz not null default now(),
    renewed_at        timestamptz not null default now()
);
comment on table workers is
    'Worker processes that live, or died and wait for their rescue. A row is renewed until the last drain has ended.';
comment on column workers.id is 'wrk_…, one a process.';
comment on column workers.org_id is 'The org that the worker serves; null serves all.';
comment on column workers.host is 'Host name and process id.';
comment on column workers.version is 'Version of the code it runs.';
comment on column workers.home is 'Identity of its directory of browser profiles; a restarted worker has the same.';
comment on column workers.seats is 'How many sessions it has room for.';
comment on column workers.procrastinate_ids is 'Ids of its procrastinate workers, now and earlier.';
comment on column workers.created_at is 'When it started.';
comment on column workers.renewed_at is 'Its last sign of life; older than 30 s means dead.';

create table lanes (
    id          text primary key,
    org_id      text not null references orgs,
    kind        text not null check (kind in ('account', 'endpoint')),
    queue       text not null,
    open_at     timestamptz not null default '-infinity',
    gate_reason text,
    attend_at   timestamptz,
    epoch       bigint not null default 0,
    drained_by  text,
    wakeup_id   bigint,
    created_at  timestamptz not null default now()
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 1000);
comment on table lanes is 'The serial stream of due work of one account, or of one webhook endpoint.';
comment on column lanes.id is 'Id of the account or endpoint; also the lock and queueing lock of its wake-ups.';
comment on column lanes.org_id is 'The org it belongs to.';
comment on column lanes.kind is 'account: its rows are jobs; endpoint: its rows are deliveries.';
comment on column lanes.queue is 'The procrastinate queue in which it is woken: that of the worker that leases it.';
comment on column lanes.open_at is 'The gate: no row is taken before. infinity is closed.';
comment on column lanes.gate_reason is 'Why the gate was last closed.';
comment on column lanes.attend_at is
    'From when a drain is wanted whatever the gate and the rows say: to connect, to look again at a ban screen.';
comment on column lanes.epoch is 'Raised by each drain; taking and submitting name it, so that an older drain is fenced off.';
comment on column lanes.drained_by is 'Worker of the newest drain.';
comment on column lanes.wakeup_id is 'procrastinate job of the newest drain; null once it has ended.';
comment on column lanes.created_at is 'When it was created.';
create index lanes_attend_at_idx on lanes (attend_at) where attend_at is not null;

-- accounts -----------------------------------------------------------------------------------------------------------

create table accounts (
    id                 text primary key references lanes,
    org_id             text not null references orgs,
    name               text not null,
    transport          text not null check (transport in ('web', 'sandbox')),
    wanted             text not null default 'disconnected' check (wanted in ('connected', 'disconnected', 'logged_out')),
    state              text not null default 'not_started' check (state in (
        'not_started', 'starting', 'qr_pending', 'authenticated', 'ready', 'hibernated',
        'disconnected', 'auth_failed', 'suspected_ban', 'banned', 'circuit_open')),
    state_reason       text,
    state_since        timestamptz not null default now(),
    restriction        text check (restriction in ('new_chats', 'monthly_cap')),
    restricted_until   timestamptz,
    paused             boolean not null default false,
    phone              text,
    profile_name       text,
    platform           text,
    connected_at       timestamptz,
    disconnected_at    timestamptz,
    last_open_at       timestamptz,
    first_ready_at     timestamptz,
    failures_in_a_row  integer not null default 0,
    qr                 text,
    qr_expires_at      timestamptz,
    leased_by          text,
    lease_until        timestamptz,
    profile_home       text,
    profile_generation bigint not null default 0,
    deleted_at         timestamptz,
    created_at         timestamptz not null default now()
) with (fillfactor = 70);
comment on table accounts is 'One WhatsApp account (one phone number) of an org.';
comment on column accounts.id is 'acc_…';
comment on column accounts.org_id is 'The org it belongs to.';
comment on column accounts.name is 'What people call it.';
comment on column accounts.transport is 'web: WhatsApp Web; sandbox: our stand-in for it.';
comment on column accounts.wanted is 'What the operator wants of its session; a drain brings the session to it.';
comment on column accounts.state is 'What its session is.';
comment on column accounts.state_reason is 'Why it is in this state.';
comment on column accounts.state_since is 'Since when.';
comment on column accounts.restriction is 'What WhatsApp does not let it do at present.';
comment on column accounts.restricted_until is 'End of the restriction, where it is known.';
comment on column accounts.paused is 'The operator paused it: the session is kept and nothing is sent.';
comment on column accounts.phone is 'Its own phone number, E.164 digits, once linked.';
comment on column accounts.profile_name is 'Its own profile name, once linked.';
comment on column accounts.platform is 'What kind of phone it is linked to.';
comment on column accounts.connected_at is 'When it was last linked or opened.';
comment on column accounts.disconnected_at is 'When it was last lost.';
comment on column accounts.last_open_at is 'When its session was last open.';
comment on column accounts.first_ready_at is 'When it was first ready; the ramp of the daily limit counts from here.';
comment on column accounts.failures_in_a_row is 'Failures that count for the circuit breaker since the last success.';
comment on column accounts.qr is 'Payload of the QR code on its screen now.';
comment on column accounts.qr_expires_at is 'When that code is replaced.';
comment on column accounts.leased_by is 'The worker that may have its session live.';
comment on column accounts.lease_until is 'End of that lease unless it is renewed.';
comment on column accounts.profile_home is 'The directory of profiles (workers.home) that holds its newest profile.';
comment on column accounts.profile_generation is 'Raised when a profile is created or restored; names that newest profile.';
comment on column accounts.deleted_at is 'When it was deleted; it stays for its history.';
comment on column accounts.created_at is 'When it was created.';
create index accounts_org_id_idx on accounts (org_id, created_at, id) where deleted_at is null;
create index accounts_leased_by_idx on accounts (leased_by) where leased_by is not null;

-- jobs ---------------------------------------------------------------------------------------------------------------

create table jobs (
    id                 text not null,
    org_id             text not null,
    account_id         text not null,
    key                text,
    content_hash       bytea not null,
    phone              text not null,
    message            text not null,
    priority           smallint not null default 0,
    metadata           json,
    state              text not null default 'queued' check (state in (
        'queued', 'sending', 'submitting', 'sent', 'delivered', 'read', 'failed', 'cancelled')),
    due_at             timestamptz not null,
    send_at            timestamptz not null,
    expires_at         timestamptz not null,
    seq                bigint generated always as identity,
    attempts           integer not null default 0,
    claim              uuid,
    claimed_by         text,
    anchor             text,
    profile_generation bigint,
    bubble             text,
    error_code         text,
    error_detail       text,
    sequence           integer not null default 0,
    timeline           jsonb not null default '[]',
    request_id         text,
    created_at         timestamptz not null default now(),
    started_at         timestamptz,
    submitted_at       timestamptz,
    sent_at            timestamptz,
    delivered_at       timestamptz,
    read_at            timestamptz,
    ended_at           timestamptz
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000,
        autovacuum_vacuum_cost_delay = 0);
alter table jobs add primary key (id);
alter table jobs add foreign key (account_id) references accounts;
comment on table jobs is 'The task table: one message to be sent. It holds what is open or ended lately.';
comment on column jobs.id is 'job_…; also its jobId on the wire when it has no idempotency key.';
comment on column jobs.org_id is 'The org it belongs to.';
comment on column jobs.account_id is 'The account that sends it, and its lane.';
comment on column jobs.key is 'Idempotency key, and then its jobId on the wire.';
comment on column jobs.content_hash is 'SHA-256 of the request as given, after normalisation.';
comment on column jobs.phone is 'Recipient, E.164 digits.';
comment on column jobs.message is 'Text of the message.';
comment on column jobs.priority is '1 high, 0 normal.';
comment on column jobs.metadata is 'The client''s own object, minified; json and not jsonb, to keep it as it was.';
comment on column jobs.state is 'queued, sending, submitting, sent, delivered, read, failed or cancelled.';
comment on column jobs.due_at is 'When it is to be worked on next: sendAt, the end of a backoff, the next look at a half-done row.';
comment on column jobs.send_at is 'When it was asked to be sent.';
comment on column jobs.expires_at is 'From when it is not sent any more.';
comment on column jobs.seq is 'Order of acceptance.';
comment on column jobs.attempts is 'How often a worker tried.';
comment on column jobs.claim is 'Token of the worker''s claim; a result names it.';
comment on column jobs.claimed_by is 'The worker of that claim.';
comment on column jobs.anchor is 'Id of the last bubble seen in the chat before Enter was pressed.';
comment on column jobs.profile_generation is 'Generation of the profile that pressed Enter.';
comment on column jobs.bubble is 'Id of the message''s bubble in that profile.';
comment on column jobs.error_code is 'Why it failed, or why its last attempt did.';
comment on column jobs.error_detail is 'The same in a sentence.';
comment on column jobs.sequence is 'Number of events sent of it.';
comment on column jobs.timeline is 'What happened to it: [{at, status, detail}], oldest first.';
comment on column jobs.request_id is 'The HTTP request that created it.';
comment on column jobs.created_at is 'When it was accepted.';
comment on column jobs.started_at is 'When a worker first took it.';
comment on column jobs.submitted_at is 'When the last permission to press Enter was written.';
comment on column jobs.sent_at is 'When its first tick was seen.';
comment on column jobs.delivered_at is 'When two ticks were seen.';
comment on column jobs.read_at is 'When blue ticks were seen.';
comment on column jobs.ended_at is 'When it was sent, failed or cancelled.';

create table jobs_history (like jobs including comments) partition by range (ended_at);
comment on table jobs_history is 'Ended jobs, by month of their end, so that retention is a dropped partition.';

create unique index jobs_key_idx on jobs (org_id, key) where key is not null;
create index jobs_content_idx on jobs (org_id, content_hash, created_at) where key is null;
create index jobs_due_idx on jobs (account_id, priority, due_at, seq) where state = 'queued';
create index jobs_tried_idx on jobs (account_id, phone, seq) where state = 'queued' and attempts > 0;
create index jobs_half_done_idx on jobs (account_id, due_at) where state in ('sending', 'submitting');
create index jobs_expiry_idx on jobs (expires_at) where state = 'queued';
create index jobs_sent_idx on jobs (account_id, sent_at) where sent_at is not null;
create index jobs_list_idx on jobs (org_id, created_at desc, id desc);
create index jobs_ticks_idx on jobs (account_id, submitted_at)
    where bubble is not null and (state in ('sent', 'delivered') or error_code = 'outcome_unknown');
create index jobs_submitted_idx on jobs (submitted_at) where state = 'submitting';

-- outbox and webhooks ------------------------------------------------------------------------------------------------

create table outbox (
    id         text not null,
    org_id     text not null references orgs,
    type       text not null,
    job_id     text,
    account_id text,
    sequence   integer not null default 0,
    body       text not null,
    created_at timestamptz not null default now(),
    primary key (id, created_at)
) partition by range (created_at);
comment on table outbox is 'Something that happened. Written in the same transaction as what it tells of.';
comment on column outbox.id is 'evt_…, the webhook-id of every attempt.';
comment on column outbox.org_id is 'The org it belongs to.';
comment on column outbox.type is 'JobCompleted, JobFailed and so on.';
comment on column outbox.job_id is 'The job it tells of.';
comment on column outbox.account_id is 'The account it tells of.';
comment on column outbox.sequence is 'data.sequence: grows per job.';
comment on column outbox.body is 'The body as it is signed and sent, byte for byte.';
comment on column outbox.created_at is 'When it happened.';
create index outbox_job_id_idx on outbox (job_id, sequence);

create table endpoints (
    id            text primary key references lanes,
    org_id        text not null references orgs,
    url           text not null,
    events        text[] not null,
    description   text not null default '',
    secret        bytea not null,
    headers       jsonb not null default '{}',
    retry         jsonb not null default '{}',
    status        text not null default 'enabled' check (status in ('enabled', 'paused', 'disabled')),
    status_reason text,
    deleted_at    timestamptz,
    created_at    timestamptz not null default now()
);
comment on table endpoints is 'URLs that an org registered for events.';
comment on column endpoints.id is 'whe_…; whe_bootstrap is the one of the setting WEBHOOK_URL.';
comment on column endpoints.org_id is 'The org it belongs to.';
comment on column endpoints.url is 'Where events are posted.';
comment on column endpoints.events is 'Types it wants; {*} wants all.';
comment on column endpoints.description is 'What people call it.';
comment on column endpoints.secret is 'Sealed signing secret.';
comment on column endpoints.headers is 'Headers of its own on every request.';
comment on column endpoints.retry is 'Its retry policy where it differs from the default.';
comment on column endpoints.status is 'enabled; paused: events wait; disabled: none are kept.';
comment on column endpoints.status_reason is 'Why it is paused or disabled.';
comment on column endpoints.deleted_at is 'When it was deleted; it stays for its history.';
comment on column endpoints.created_at is 'When it was registered.';
create index endpoints_org_id_idx on endpoints (org_id, created_at, id) where deleted_at is null;

create table deliveries (
    id          text primary key,
    org_id      text not null references orgs,
    event_id    text not null,
    event_at    timestamptz not null,
    endpoint_id text not null references endpoints,
    state       text not null default 'pending' check (state in ('pending', 'sending', 'delivered', 'failed')),
    due_at      timestamptz not null default now(),
    attempts    integer not null default 0,
    claim       uuid,
    claimed_by  text,
    last_status integer,
    last_error  text,
    created_at  timestamptz not null default now(),
    ended_at    timestamptz,
    unique (event_id, endpoint_id)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000,
        autovacuum_vacuum_cost_delay = 0);
comment on table deliveries is 'One event on its way to one endpoint.';
comment on column deliveries.id is 'dlv_…';
comment on column deliveries.org_id is 'The org it belongs to.';
comment on column deliveries.event_id is 'The event.';
comment on column deliveries.event_at is 'When it happened; with event_id the key of outbox.';
comment on column deliveries.endpoint_id is 'The endpoint, and its lane.';
comment on column deliveries.state is 'pending, sending (a request is under way), delivered, or failed for good.';
comment on column deliveries.due_at is 'When it is to be sent next.';
comment on column deliveries.attempts is 'How many requests were made.';
comment on column deliveries.claim is 'Token of the worker''s claim; a result names it.';
comment on column deliveries.claimed_by is 'The worker of that claim.';
comment on column deliveries.last_status is 'HTTP status of the last attempt.';
comment on column deliveries.last_error is 'Why the last attempt failed.';
comment on column deliveries.created_at is 'When it was created.';
comment on column deliveries.ended_at is 'When it was delivered or given up.';
create index deliveries_due_idx on deliveries (endpoint_id, due_at, created_at) where state = 'pending';
create index deliveries_half_done_idx on deliveries (endpoint_id) where state = 'sending';

create table attempts (
    id           bigint generated always as identity,
    org_id       text not null references orgs,
    delivery_id  text not null,
    endpoint_id  text not null,
    number       integer not null,
    status       integer,
    error        text,
    duration_ms  integer,
    response     text,
    created_at   timestamptz not null default now(),
    ended_at     timestamptz,
    primary key (id, created_at)
) partition by range (created_at);
comment on table attempts is 'One HTTP request of a delivery; written before it is made, so that a crash leaves a trace.';
comment on column attempts.id is 'Number of the attempt, cluster-wide.';
comment on column attempts.org_id is 'The org it belongs to.';
comment on column attempts.delivery_id is 'The delivery.';
comment on column attempts.endpoint_id is 'The endpoint.';
comment on column attempts.number is '1 for the first attempt of the delivery.';
comment on column attempts.status is 'HTTP status of the answer; null when there was none.';
comment on column attempts.error is 'Why it failed; interrupted when the worker died meanwhile.';
comment on column attempts.duration_ms is 'Milliseconds from the request to the end of the answer.';
comment on column attempts.response is 'Beginning of the answer''s body.';
comment on column attempts.created_at is 'When it began.';
comment on column attempts.ended_at is 'When it ended; null while it is under way.';
create index attempts_delivery_id_idx on attempts (delivery_id, number);

-- functions ----------------------------------------------------------------------------------------------------------

create function ensure_partitions() returns void language plpgsql as $$
declare
    parent text;
    month date;
begin
    -- Two processes that create the same partition at once would fail on the name.
    perform pg_advisory_xact_lock(hashtext('postrider.ensure_partitions'));
    foreach parent in array array['jobs_history', 'outbox', 'attempts'] loop
        for month in select generate_series(date_trunc('month', now() at time zone 'utc') - interval '1 month',
                                            date_trunc('month', now() at time zone 'utc') + interval '2 months',
                                            interval '1 month')::date loop
            execute format('create table if not exists %I partition of %I for values from (%L) to (%L)',
                           parent || to_char(month, '_YYYY_MM'), parent,
                           month || ' 00:00:00+00', (month + interval '1 month')::date || ' 00:00:00+00');
        end loop;
    end loop;
end $$;
comment on function ensure_partitions() is 'Create the monthly partitions from last month to two months ahead.';
do $$ begin perform ensure_partitions(); end $$;

create function iso(at timestamptz) returns text language sql immutable as
$$ select to_char(at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') $$;
comment on function iso(timestamptz) is 'ISO 8601 in UTC with milliseconds and Z, as all times on the wire.';

create function step(status text, detail text default null) returns jsonb language sql stable as
$$ select jsonb_build_array(jsonb_build_object('at', iso(clock_timestamp()), 'status', status, 'detail', detail)) $$;
comment on function step(text, text) is 'One entry of jobs.timeline, to be appended with ||.';

create function record_event(
    p_org_id text, p_type text, p_data text, p_job_id text, p_account_id text, p_sequence integer
) returns text[] language sql as $$
    with event as (
        insert into outbox (id, org_id, type, job_id, account_id, sequence, body)
        values ('evt_' || replace(gen_random_uuid()::text, '-', ''), p_org_id, p_type, p_job_id, p_account_id, p_sequence,
                '{"type":' || to_json(p_type) || ',"timestamp":"' || iso(now()) || '","data":' || p_data || '}')
        returning id, created_at
    ), fanout as (
        insert into deliveries (id, org_id, event_id, event_at, endpoint_id)
        select 'dlv_' || replace(gen_random_uuid()::text, '-', ''), p_org_id, event.id, event.created_at, endpoints.id
        from event, endpoints
        where endpoints.org_id = p_org_id and endpoints.deleted_at is null and endpoints.status <> 'disabled'
          and (p_type = any (endpoints.events) or '*' = any (endpoints.events))
        returning endpoint_id
    )
    select coalesce(array_agg(endpoint_id), '{}') from fanout
$$;
comment on function record_event(text, text, text, text, text, integer) is
    'Write an event and one delivery for each endpoint that asked for its type; return the lanes to wake.';

create function job_event(p_type text, p_job jobs) returns text[] language sql as $$
    select record_event(p_job.org_id, p_type,
        '{"jobId":' || to_json(coalesce(p_job.key, p_job.id))
        || ',"account":' || to_json(p_job.account_id)
        || ',"phone":' || to_json(p_job.phone)
        || ',"status":' || to_json(p_job.state)
        || case p_type
            when 'JobCompleted' then ',"sentAt":"' || iso(p_job.sent_at) || '"'
            when 'JobFailed' then ',"failedAt":"' || iso(p_job.ended_at) || '"'
            when 'JobDelivered' then ',"deliveredAt":"' || iso(p_job.delivered_at) || '"'
            when 'JobRead' then ',"readAt":"' || iso(p_job.read_at) || '"'
            when 'JobCancelled' then ',"cancelledAt":"' || iso(p_job.ended_at) || '"'
           end
        || ',"attempts":' || p_job.attempts
        || case p_type
            when 'JobFailed' then ',"error":{"code":' || to_json(p_job.error_code)
                                  || ',"detail":' || to_json(p_job.error_detail) || '}'
            else ''
           end
        || ',"metadata":' || coalesce(p_job.metadata::text, 'null')
        || ',"sequence":' || p_job.sequence || '}',
        p_job.id, p_job.account_id, p_job.sequence)
$$;
comment on function job_event(text, jobs) is
    'Write the event of a job as it stands. The body is put together as text, since json functions add white space.';
