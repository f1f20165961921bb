-- Sessions that outlive crashes and machines: states with their history, sealed profiles, pace, proxies, pairing codes,
-- what comes in, and who does not want to be written to.
-- Oldest code that may run on it: 0.2.0. Older code would write to people who opted out, and heed no pace and no stop.

create or replace function postrider_oldest_code() returns text language sql immutable as $$ select '0.2.0' $$;

-- orgs ---------------------------------------------------------------------------------------------------------------

alter table orgs add column paused_at timestamptz;
comment on column orgs.paused_at is 'Since when all its sending is stopped; null when it is not.';

-- accounts -----------------------------------------------------------------------------------------------------------

alter table accounts
    add column linked boolean not null default false,
    add column state_before text,
    add column time_zone text not null default 'UTC',
    add column pace boolean not null default true,
    add column reconnects integer not null default 0,
    add column pairing_phone text,
    add column pairing_code text,
    add column pairing_expires_at timestamptz,
    add column proxy bytea,
    add column proxy_shown jsonb;
comment on column accounts.linked is 'Its profile holds a login, as far as is known.';
comment on column accounts.state_before is 'The state before this one; waking and sleeping are told apart by it.';
comment on column accounts.time_zone is 'IANA name. Its days and quiet hours are counted in it, and its browser shows it.';
comment on column accounts.pace is 'Whether its messages are paced; the sandbox''s accounts start without.';
comment on column accounts.reconnects is 'Tries to open its session that failed since it was last ready.';
comment on column accounts.pairing_phone is 'The number that a pairing code is wanted for.';
comment on column accounts.pairing_code is 'The pairing code on its screen now.';
comment on column accounts.pairing_expires_at is 'When that code ends.';
comment on column accounts.proxy is 'Sealed JSON {url, spare}: the proxies that its browser uses, with credentials.';
comment on column accounts.proxy_shown is 'The same without credentials.';
update accounts set linked = first_ready_at is not null, pace = transport <> 'sandbox';
create index accounts_asleep_idx on accounts (last_open_at) where state = 'hibernated' and deleted_at is null;

create table account_changes (
    id         bigint generated always as identity primary key,
    org_id     text not null references orgs,
    account_id text not null references accounts,
    from_state text not null,
    to_state   text not null,
    reason     text,
    worker     text,
    created_at timestamptz not null default now()
);
comment on table account_changes is 'Every change of an account''s state, waking and sleeping included.';
comment on column account_changes.id is 'Order of the changes.';
comment on column account_changes.org_id is 'The org it belongs to.';
comment on column account_changes.account_id is 'The account.';
comment on column account_changes.from_state is 'What it was.';
comment on column account_changes.to_state is 'What it became.';
comment on column account_changes.reason is 'Why.';
comment on column account_changes.worker is 'The worker that wrote it; null when no worker did.';
comment on column account_changes.created_at is 'When.';
create index account_changes_account_id_idx on account_changes (account_id, id);
create index account_changes_created_at_idx on account_changes (created_at);

create table profiles (
    account_id text primary key references accounts,
    org_id     text not null references orgs,
    generation bigint not null,
    whole      boolean not null,
    sealed     bytea not null,
    raw_bytes  bigint not null,
    worker     text not null,
    created_at timestamptz not null default now()
);
alter table profiles alter column sealed set storage external;
comment on table profiles is 'The newest sealed copy of each account''s browser profile.';
comment on column profiles.account_id is 'The account.';
comment on column profiles.org_id is 'The org it belongs to.';
comment on column profiles.generation is 'Generation of the profile that it was made of.';
comment on column profiles.whole is
    'It was made of a closed browser and nothing was opened since: what it is opened as goes on as the same generation.';
comment on column profiles.sealed is 'tar, zstd, AES-256-GCM; account and generation are associated data.';
comment on column profiles.raw_bytes is 'Bytes of the profile''s files before they were packed.';
comment on column profiles.worker is 'The worker that sealed it.';
comment on column profiles.created_at is 'When it was sealed.';

-- pace ---------------------------------------------------------------------------------------------------------------

create index jobs_pace_idx on jobs (account_id, submitted_at desc) where submitted_at is not null;

alter table jobs add column evidence text;
comment on column jobs.evidence is 'Where the picture and the page of its last failure are kept, under EVIDENCE_URL.';
alter table jobs add column submitter uuid;
comment on column jobs.submitter is
    'The claim under which Enter was allowed to be pressed last; only its holder may say that it was not.';
alter table jobs_history add column evidence text;
alter table jobs_history add column submitter uuid;
comment on column jobs_history.submitter is 'The claim under which Enter was allowed to be pressed last.';
comment on column jobs_history.evidence is 'Where the picture and the page of its last failure are kept, under EVIDENCE_URL.';

-- what comes in ------------------------------------------------------------------------------------------------------

create table incoming (
    id         text primary key,
    org_id     text not null references orgs,
    account_id text not null references accounts,
    bubble     text not null,
    phone      text,
    chat       text not null,
    text       text not null,
    created_at timestamptz not null default now(),
    unique (account_id, bubble)
);
comment on table incoming is 'Messages that came in while a session was live, or that it caught up on; each once.';
comment on column incoming.id is 'msg_…';
comment on column incoming.org_id is 'The org it belongs to.';
comment on column incoming.account_id is 'The account that received it.';
comment on column incoming.bubble is 'Id of its bubble on the page.';
comment on column incoming.phone is 'Its sender, E.164 digits; null where the page shows a name alone.';
comment on column incoming.chat is 'What the page calls the chat.';
comment on column incoming.text is 'Its text; empty when it has none.';
comment on column incoming.created_at is 'When it was seen.';
create index incoming_account_id_idx on incoming (account_id, created_at);
create index incoming_org_id_idx on incoming (org_id, created_at desc, id desc);
create index incoming_created_at_idx on incoming (created_at);

create table opt_outs (
    id         text primary key,
    org_id     text not null references orgs,
    phone      text not null,
    account_id text references accounts,
    reason     text not null,
    created_at timestamptz not null default now(),
    lifted_at  timestamptz
);
comment on table opt_outs is 'People who do not want to be written to, and those who once did not.';
comment on column opt_outs.id is 'opt_…';
comment on column opt_outs.org_id is 'The org that may not write to them.';
comment on column opt_outs.phone is 'E.164 digits.';
comment on column opt_outs.account_id is 'The account that they told; null when it was entered by hand.';
comment on column opt_outs.reason is 'The word that they wrote, or what was given by hand.';
comment on column opt_outs.created_at is 'Since when.';
comment on column opt_outs.lifted_at is 'When it was lifted; null while it holds.';
create unique index opt_outs_phone_idx on opt_outs (org_id, phone) where lifted_at is null;
create index opt_outs_org_id_idx on opt_outs (org_id, created_at desc, id desc);

-- the page that shows a QR code to whoever holds a token ------------------------------------------------------------

create table qr_tokens (
    token_hash       bytea primary key,
    org_id           text not null references orgs,
    account_id       text not null references accounts,
    visit_hash       bytea unique,
    created_at       timestamptz not null default now(),
    expires_at       timestamptz not null,
    spent_at         timestamptz,
    visit_expires_at timestamptz
);
comment on table qr_tokens is 'Tokens for the page /qr. Token and cookie are shown once and never stored.';
comment on column qr_tokens.token_hash is 'SHA-256 of the token.';
comment on column qr_tokens.org_id is 'The org of the account.';
comment on column qr_tokens.account_id is 'The account whose code may be seen.';
comment on column qr_tokens.visit_hash is 'SHA-256 of the cookie that the first visit got for it.';
comment on column qr_tokens.created_at is 'When it was made.';
comment on column qr_tokens.expires_at is 'Until when it can be traded for a cookie.';
comment on column qr_tokens.spent_at is 'When it was.';
comment on column qr_tokens.visit_expires_at is 'End of that cookie.';
create index qr_tokens_created_at_idx on qr_tokens (created_at);

-- functions ----------------------------------------------------------------------------------------------------------

create function change_state(p_account accounts, p_to text, p_reason text, p_worker text, p_quiet boolean)
returns text[] language plpgsql as $$
begin
    if p_account.state = p_to then
        update accounts set state_reason = p_reason where id = p_account.id;
        return '{}';
    end if;
    insert into account_changes (org_id, account_id, from_state, to_state, reason, worker)
    values (p_account.org_id, p_account.id, p_account.state, p_to, p_reason, p_worker);
    update accounts
    set state = p_to, state_before = p_account.state, state_reason = p_reason, state_since = now(),
        connected_at = case when p_to = 'ready' then now() else connected_at end,
        disconnected_at = case when p_account.state in ('authenticated', 'ready') and p_to not in ('authenticated', 'ready')
                               then now() else disconnected_at end,
        qr = case when p_to = 'qr_pending' then qr end,
        qr_expires_at = case when p_to = 'qr_pending' then qr_expires_at end,
        pairing_code = case when p_to = 'qr_pending' then pairing_code end,
        pairing_expires_at = case when p_to = 'qr_pending' then pairing_expires_at end
    where id = p_account.id;
    if p_quiet then
        return '{}';
    end if;
    return record_event(p_account.org_id, 'AccountStateChanged',
        '{"account":' || to_json(p_account.id) || ',"from":' || to_json(p_account.state) || ',"to":' || to_json(p_to)
        || ',"reason":' || coalesce(to_json(p_reason)::text, 'null') || '}',
        null, p_account.id, 0);
end $$;
comment on function change_state(accounts, text, text, text, boolean) is
    'Write an account''s change of state, its history and, unless it is quiet, its event; return the lanes to wake. '
    'The row given is the account as it was.';

-- pace: functions ----------------------------------------------------------------------------------------------------

create type pace_limits as (
    per_minute bigint,
    per_hour   bigint,
    per_day    bigint,
    ramp_start bigint,
    ramp_step  bigint,
    ramp_max   bigint,
    quiet_from time,
    quiet_to   time
);
comment on type pace_limits is 'The limits of an account''s sending, as in the settings PACE_* and QUIET_HOURS; 0 is no limit.';

create function midnight(p_day date, p_zone text) returns timestamptz language sql stable as $$
    -- Postgres takes the later of two midnights, and a midnight that clocks leap over as the moment of the leap.
    select coalesce(min(at), p_day::timestamp at time zone p_zone)
    from (values (interval '0'), (interval '1 hour')) as earlier (by),
         lateral (select (p_day::timestamp at time zone p_zone) - earlier.by as at) as candidate
    where (at at time zone p_zone)::date = p_day
$$;
comment on function midnight(date, text) is 'The first moment of a day in a time zone.';

create function quiet_until(p_at timestamptz, p_from time, p_to time, p_zone text) returns timestamptz language sql stable as $$
    select case when p_from < p_to and clock >= p_from and clock < p_to
                  or p_from > p_to and (clock >= p_from or clock < p_to)
                then (day + case when clock < p_to then 0 else 1 end + p_to) at time zone p_zone end
    from (select (p_at at time zone p_zone)::date as day, (p_at at time zone p_zone)::time as clock) as local
$$;
comment on function quiet_until(timestamptz, time, time, text) is
    'When quiet hours end by the clocks of a time zone; null when it is not quiet. Where clocks show the end twice, or leap '
    'over it, the later moment.';

create function day_limit(p_limits pace_limits, p_days integer) returns bigint language sql immutable as $$
    select least(
        nullif(p_limits.per_day, 0),
        case when p_limits.ramp_start > 0
             then least(p_limits.ramp_start + p_limits.ramp_step * p_days, nullif(p_limits.ramp_max, 0)) end)
$$;
comment on function day_limit(pace_limits, integer) is
    'How many messages an account may send on a day, so many days after the one on which it was first ready; null is no '
    'limit. A per_day of 0 leaves the ramp alone, a ramp_start of 0 is no ramp, and a ramp_max of 0 is a ramp without end.';

create function pace_of(p_account text, p_limits jsonb, p_at timestamptz)
returns table (
    minute_limit bigint, minute_used bigint, hour_limit bigint, hour_used bigint, day_limit bigint, day_used bigint,
    resets_at timestamptz, quiet_until timestamptz, opens_at timestamptz, reason text
) language sql stable as $$
    with local as (
        select id, time_zone, (p_at at time zone time_zone)::date as day,
               greatest((p_at at time zone time_zone)::date - (first_ready_at at time zone time_zone)::date, 0) as days,
               -- Without pace nothing limits it; what it used is told all the same.
               case when pace then jsonb_populate_record(null::pace_limits, p_limits) end as limits
        from accounts
        where id = p_account
    ), given as (
        select id, time_zone, nullif((limits).per_minute, 0) as per_minute, nullif((limits).per_hour, 0) as per_hour,
               day_limit(limits, coalesce(days, 0)) as per_day, (limits).quiet_from, (limits).quiet_to,
               midnight(day, time_zone) as began_at, midnight(day + 1, time_zone) as resets_at
        from local
    ), used as (
        select count(*) filter (where submitted_at > p_at - interval '1 minute') as in_minute,
               count(*) filter (where submitted_at > p_at - interval '1 hour') as in_hour,
               count(*) filter (where submitted_at >= began_at) as in_day
        from given
        left join jobs on account_id = given.id and submitted_at >= least(began_at, p_at - interval '1 hour')
    ), closed as (
        -- Sent again is allowed when the message that filled the window leaves it, however low the limit was set since.
        select reason, until
        from given, used, lateral (values
            ('pace_minute', case when in_minute >= per_minute then (
                select submitted_at + interval '1 minute' from jobs
                where account_id = given.id and submitted_at is not null
                order by submitted_at desc offset per_minute - 1 limit 1) end),
            ('pace_hour', case when in_hour >= per_hour then (
                select submitted_at + interval '1 hour' from jobs
                where account_id = given.id and submitted_at is not null
                order by submitted_at desc offset per_hour - 1 limit 1) end),
            ('pace_day', case when in_day >= per_day then resets_at end),
            ('quiet_hours', quiet_until(p_at, quiet_from, quiet_to, time_zone))
        ) as closing (reason, until)
        where until is not null
        order by until desc
        limit 1
    )
    select per_minute, in_minute, per_hour, in_hour, per_day, in_day, resets_at,
           quiet_until(p_at, quiet_from, quiet_to, time_zone), coalesce(quiet_until(until, quiet_from, quiet_to, time_zone), until),
           case when quiet_until(until, quiet_from, quiet_to, time_zone) is not null then 'quiet_hours' else reason end
    from given
    cross join used
    left join closed on true
$$;
comment on function pace_of(text, jsonb, timestamptz) is
    'An account''s limits (null: none) and what it used of them, when its day ends, until when it is quiet, and, while it may '
    'send nothing, from when it may again and why not before: pace_minute, pace_hour, pace_day or quiet_hours. A message '
    'counts from its permission to press Enter on.';

create function phone_forms(p_phone text) returns text[] language sql immutable as $$
    select case
        when p_phone ~ '^55[0-9]{2}9[0-9]{8}$' then array[p_phone, left(p_phone, 4) || right(p_phone, 8)]
        when p_phone ~ '^55[0-9]{10}$' then array[p_phone, left(p_phone, 4) || '9' || right(p_phone, 8)]
        when p_phone ~ '^521[0-9]{10}$' then array[p_phone, '52' || right(p_phone, 10)]
        when p_phone ~ '^52[0-9]{10}$' then array[p_phone, '521' || right(p_phone, 10)]
        when p_phone ~ '^549[0-9]{10}$' then array[p_phone, '54' || right(p_phone, 10)]
        when p_phone ~ '^54[0-9]{10}$' then array[p_phone, '549' || right(p_phone, 10)]
        else array[p_phone]
    end
$$;
comment on function phone_forms(text) is
    'A phone number as it was given, and the other form that the same WhatsApp account may have: in Brazil, Mexico and '
    'Argentina WhatsApp keeps older mobile numbers with or without a digit that is dialled.';

create index jobs_bubble_idx on jobs (account_id, bubble) where bubble is not null;
