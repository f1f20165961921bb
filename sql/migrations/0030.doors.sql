-- Doors: what the API does before an org is known, or for the operator above all orgs. Its role sees no row without an org; each
-- of these functions runs as the owner, does one thing, and returns no more than its caller needs.
-- Oldest code that may run on it: 0.3.0. It does the same by queries of its own, as the owner.
--
-- In PL/pgSQL, whose statements are planned once per connection; Postgres before 18 plans functions in SQL for each call.

create schema door;
comment on schema door is 'Functions by which the API, which sees the rows of one org at a time, does what concerns none or all.';

-- callers ------------------------------------------------------------------------------------------------------------

create function door.find_key(p_hash bytea) returns table (id text, org_id text, key_hash bytea, signing_secret bytea, now timestamptz)
language plpgsql stable security definer set search_path = public, pg_temp as $$
begin
    return query
    select api_keys.id, api_keys.org_id, api_keys.key_hash, api_keys.signing_secret, pg_catalog.now()
    from api_keys where api_keys.key_hash = p_hash and revoked_at is null;
end $$;
comment on function door.find_key(bytea) is 'The key with this SHA-256, unless it is revoked, with its org.';

-- lanes --------------------------------------------------------------------------------------------------------------

create function door.wake(p_lanes text[]) returns void language plpgsql security definer set search_path = public, pg_temp as $$
begin
    -- As the query wake does for workers; of the caller's org alone.
    insert into procrastinate_jobs (queue_name, task_name, lock, queueing_lock, args)
    select queue, 'drain', id, id, jsonb_build_object('lane', id)
    from lanes
    where id = any (p_lanes) and org_id = current_setting('app.org', true)
    order by id
    on conflict (queueing_lock) where status = 'todo' do nothing;
end $$;
comment on function door.wake(text[]) is 'Give each of these lanes of the caller''s org a wake-up that waits, unless it has one.';

create function door.is_drained(p_lane text) returns boolean language plpgsql stable security definer
set search_path = public, pg_temp as $$
begin
    return exists (select from procrastinate_jobs where lock = p_lane and status = 'doing');
end $$;
comment on function door.is_drained(text) is 'Whether a worker is draining this lane.';

-- links to a QR code -------------------------------------------------------------------------------------------------

create function door.create_qr_token(p_account text, p_hash bytea, p_seconds integer) returns text
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    found text[];
begin
    if p_account is null then
        found := array(select id from accounts where deleted_at is null limit 2);
    else
        found := array(select id from accounts where id = p_account and deleted_at is null);
    end if;
    if cardinality(found) <> 1 then
        return null;
    end if;
    insert into qr_tokens (token_hash, org_id, account_id, expires_at)
    select p_hash, org_id, id, now() + p_seconds * interval '1 second' from accounts where id = found[1];
    return found[1];
end $$;
comment on function door.create_qr_token(text, bytea, integer) is
    'Make a token for an account, or for the only one that there is, and return the account; null when there is no such account.';

create function door.trade_qr_token(p_hash bytea, p_visit bytea, p_seconds integer) returns boolean
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    -- One statement, so that of two visits at the same moment only one gets the token. The same visit gets it again.
    update qr_tokens
    set spent_at = coalesce(spent_at, now()),
        visit_hash = p_visit,
        visit_expires_at = coalesce(visit_expires_at, now() + p_seconds * interval '1 second')
    where token_hash = p_hash
      and (spent_at is null and expires_at > now() or visit_hash = p_visit and visit_expires_at > now());
    return found;
end $$;
comment on function door.trade_qr_token(bytea, bytea, integer) is 'Spend a token on a visit, and say whether that was possible.';

create function door.qr_token(p_hash bytea) returns table (spent boolean, good boolean)
language plpgsql stable security definer set search_path = public, pg_temp as $$
begin
    return query
    select spent_at is not null, spent_at is null and expires_at > now() from qr_tokens where token_hash = p_hash;
end $$;
comment on function door.qr_token(bytea) is 'Whether a token is spent, and whether it can be traded; no row when there is none.';

create function door.qr_visit(p_visit bytea)
returns table (id text, name text, wanted text, linked boolean, state text, qr text, qr_expires_at timestamptz, expired boolean,
               pairing_phone text, seconds_left float8, over boolean)
language plpgsql stable security definer set search_path = public, pg_temp as $$
begin
    return query
    select accounts.id, accounts.name, accounts.wanted, accounts.linked, accounts.state, accounts.qr, accounts.qr_expires_at,
           accounts.qr_expires_at <= now(), accounts.pairing_phone,
           extract(epoch from accounts.qr_expires_at - now())::float8,
           visit_expires_at <= now() or deleted_at is not null
    from qr_tokens
    join accounts on accounts.id = qr_tokens.account_id
    where visit_hash = p_visit;
end $$;
comment on function door.qr_visit(bytea) is 'What the page /qr shows to a visit.';

-- the operator -------------------------------------------------------------------------------------------------------

create function door.stop_all() returns timestamptz language plpgsql security definer set search_path = public, pg_temp as $$
begin
    -- An org that is created at this moment is seen here, or sees this.
    lock table orgs in share row exclusive mode;
    update orgs set paused_at = coalesce(paused_at, now());
    return (select min(paused_at) from orgs);
end $$;
comment on function door.stop_all() is 'Stop the sending of every org, and return since when it is stopped.';

create function door.start_all() returns void language plpgsql security definer set search_path = public, pg_temp as $$
begin
    update orgs set paused_at = null where paused_at is not null;
end $$;
comment on function door.start_all() is 'Let every org send again that has not stopped itself.';

create function door.create_org(p_id text, p_name text, p_key text, p_key_name text, p_hash bytea) returns timestamptz
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    created timestamptz;
begin
    lock table orgs in share row exclusive mode;
    insert into orgs (org_id, name, paused_at)
    -- While all are stopped, the new one is too.
    select p_id, p_name, case when count(*) = count(paused_at) then min(paused_at) end from orgs
    returning created_at into created;
    insert into api_keys (id, org_id, name, key_hash) values (p_key, p_id, p_key_name, p_hash);
    return created;
end $$;
comment on function door.create_org(text, text, text, text, bytea) is 'Make an org and its first key, and return when.';

create function door.list_orgs(p_after_at timestamptz, p_after_id text, p_limit bigint)
returns table (id text, name text, paused boolean, accounts bigint, endpoints bigint, keys bigint, created_at timestamptz)
language plpgsql stable security definer set search_path = public, pg_temp as $$
#variable_conflict use_column
begin
    return query
    select orgs.org_id, orgs.name, orgs.stopped,
           (select count(*) from accounts where accounts.org_id = orgs.org_id and deleted_at is null),
           (select count(*) from endpoints where endpoints.org_id = orgs.org_id and deleted_at is null),
           (select count(*) from api_keys where api_keys.org_id = orgs.org_id and revoked_at is null),
           orgs.created_at
    from orgs
    where (orgs.created_at, orgs.org_id) > (p_after_at, p_after_id)
    order by orgs.created_at, orgs.org_id
    limit p_limit;
end $$;
comment on function door.list_orgs(timestamptz, text, bigint) is 'The orgs after one, oldest first, with how much each has.';

-- metrics -----------------------------------------------------------------------------------------------------------

create function door.waiting_deliveries(p_most bigint) returns table (reason text, deliveries bigint, seconds float8)
language plpgsql stable security definer set search_path = public, pg_temp set plan_cache_mode = force_custom_plan as $$
#variable_conflict use_column
begin
    -- At most `most` of each endpoint that are due, and as many that are due later: a backlog must not make them too slow to
    -- count, and neither must a million endpoints for which nothing waits. seconds: how long the oldest of them has been due.
    return query
    with recursive waited_for (id) as (
        (select endpoint_id from deliveries where ended_at is null order by endpoint_id limit 1)
        union all
        select (
            select endpoint_id from deliveries where ended_at is null and endpoint_id > waited_for.id
            order by endpoint_id limit 1)
        from waited_for
        where id is not null
    )
    select case when endpoints.status = 'paused' then 'paused'
                when lanes.open_at > now() then 'resting'
                else part.name end as reason,
           sum(waiting.deliveries)::bigint as deliveries,
           greatest(0, extract(epoch from now() - min(waiting.oldest)))::float8 as seconds
    from waited_for
    join endpoints using (id)
    join lanes using (id)
    cross join (values ('due', '-infinity', now()), ('later', now(), 'infinity')) as part (name, after, until)
    cross join lateral (
        select count(*) as deliveries, min(due_at) as oldest
        from (
            select due_at from deliveries
            where endpoint_id = endpoints.id and ended_at is null and state = 'pending'
              and due_at > part.after::timestamptz and due_at <= part.until
            order by due_at
            limit p_most
        ) as first
    ) as waiting
    where endpoints.deleted_at is null and waiting.deliveries > 0
    group by 1;
end $$;
comment on function door.waiting_deliveries(bigint) is 'How many deliveries wait, by the reason, and for how long the oldest of them has been due.';

create function door.count_endpoints() returns table (status text, endpoints bigint)
language plpgsql stable security definer set search_path = public, pg_temp as $$
#variable_conflict use_column
begin
    return query
    select status, count(*) as endpoints from endpoints where deleted_at is null group by 1;
end $$;
comment on function door.count_endpoints() is 'How many endpoints there are, by their status.';

create function door.duties_done(p_most bigint) returns table (duty text, workers bigint, waiting bigint)
language plpgsql stable security definer set search_path = public, pg_temp set plan_cache_mode = force_custom_plan as $$
#variable_conflict use_column
begin
    -- Work that waits behind an open gate is counted only where no process does that duty: only then does it matter, and it
    -- is too slow to be counted often. Not more than `most` are counted.
    return query
    select duty,
           (select count(*) from workers where duty = any (duties) and renewed_at > now() - interval '30 seconds') as workers,
           case when duty_is_done(duty) then 0
                when duty = 'sessions' then (
                    select count(*) from (
                        select from jobs join lanes on lanes.id = account_id
                        where claim is null and ended_at is null and due_at <= now() and open_at <= now() limit p_most) as first)
                else (
                    select count(*) from (
                        select from deliveries join lanes on lanes.id = endpoint_id
                        where ended_at is null and due_at <= now() and open_at <= now() limit p_most) as first)
                end as waiting
    from unnest(array['sessions', 'webhooks']) as duty;
end $$;
comment on function door.duties_done(bigint) is 'How many workers do each duty, and how much is due that nobody does.';

create function door.oldest_rows() returns table (name text, seconds float8)
language plpgsql stable security definer set search_path = public, pg_temp as $$
#variable_conflict use_column
begin
    -- How old the oldest row is that upkeep moves or deletes for its age, by table; each is the first of an index.
    return query
    select oldest.name, extract(epoch from now() - at)::float8 as seconds
    from (
        select 'jobs', min(ended_at) from jobs
        union all select 'jobs_history', min(ended_at) from jobs_history
        union all select 'outbox', min(created_at) from outbox
        union all select 'deliveries', min(ended_at) from deliveries
        union all (select 'attempts', created_at from attempts order by id limit 1)
        union all select 'incoming', min(created_at) from incoming
    ) as oldest (name, at)
    where at is not null;
end $$;
comment on function door.oldest_rows() is 'How old the oldest row is that upkeep moves or deletes for its age, by table.';

-- who may call them --------------------------------------------------------------------------------------------------

revoke execute on all functions in schema door from public;
grant usage on schema door to postrider_api, postrider_worker;
grant execute on all functions in schema door to postrider_api;
-- Workers look at a lane, and commands of the operator at everything.
grant execute on function door.is_drained(text), door.duties_done(bigint), door.list_orgs(timestamptz, text, bigint),
    door.create_org(text, text, text, text, bytea) to postrider_worker;
