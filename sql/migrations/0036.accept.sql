-- Accepting messages: many requests of many orgs in one statement.
-- Oldest code that may run on it: 0.3.0. It accepts by queries of its own.

create type door.verdict as (
    place bigint, outcome text, id text, org text, key text, key_hash bytea, content bytea, account text, wake boolean);
comment on type door.verdict is 'What door.accept has decided about a request.';

create function door.accept(p_orders json, p_ttl interval, p_within interval, p_most bigint, p_patience text)
returns table (outcome text, job text, state text, content bytea, account text, wake boolean, now timestamptz)
language plpgsql security definer set search_path = public, pg_temp as $$
#variable_conflict use_column
declare
    verdicts door.verdict[];
    refused bigint;
    held bigint;
begin
    perform set_config('app.named', 'yes', true), set_config('lock_timeout', p_patience, true);
    -- Names come first, before account, times and room: a repeated request is answered as the first one was. Who has written
    -- down a name has it until the end of this transaction, so that nobody is refused whose equal request is about to be
    -- accepted elsewhere. All calls take names in the same order, and so never deadlock with each other.
    with given as materialized (
        select orders.*, api_keys.org_id as org, sha256(convert_to(orders.key, 'UTF8')) as key_hash,
               greatest(orders.send_at, now()) as starts,
               case when orders.account is null then '' else '=' || orders.account end as wanted
        from rows from (json_to_recordset(p_orders) as (
            api_key bytea, id text, account text, key text, content bytea, phone text, message text, priority smallint,
            metadata text, send_at timestamptz, expires_at timestamptz, request text, signature bytea))
        with ordinality as orders (
            api_key, id, account, key, content, phone, message, priority, metadata, send_at, expires_at, request, signature, place)
        left join api_keys on api_keys.key_hash = orders.api_key and api_keys.revoked_at is null
    ), spent as (
        insert into request_signatures (signature, org_id)
        select distinct on (signature) signature, org from given
        where signature is not null and org is not null
        order by signature, place
        on conflict do nothing
        returning signature
    ), permitted as materialized (
        select given.*
        from given
        where org is not null and (
            signature is null
            or signature in (select signature from spent)
               and place in (select min(place) from given where signature is not null group by signature))
    ), named as (
        insert into job_keys (org_id, key_hash, job_id, content_hash)
        select org, key_hash, id, content from permitted where key is not null
        order by org, key_hash, place
        on conflict do nothing
        returning job_id
    ), unnamed as (
        insert into recent_contents as recent (org_id, content_hash, job_id)
        select distinct on (org, content) org, content, id from permitted
        where key is null and p_within > interval '0'
          -- An insert that conflicts locks the row: many that repeat one request would wait for each other.
          and not exists (
              select from recent_contents as held
              where held.org_id = org and held.content_hash = content and held.created_at > now() - p_within)
        order by org, content, place
        on conflict (org_id, content_hash) do update set job_id = excluded.job_id, created_at = excluded.created_at
        where recent.created_at <= now() - p_within
        returning job_id
    ), first as materialized (
        select permitted.* from permitted
        where id in (select job_id from named) or id in (select job_id from unnamed) or key is null and p_within = interval '0'
    ), senders as materialized (
        select asked.org, asked.wanted, found.id as lane, lanes.open_at <= now() as open, lane_queued(found.id) as queued
        from (select distinct org, wanted, account from first) as asked
        cross join lateral (
            select id from accounts
            where id = asked.account and org_id = asked.org and deleted_at is null
            union all
            -- Two are enough to see that there is not exactly one.
            select min(id) from (
                select id from accounts where asked.account is null and org_id = asked.org and deleted_at is null limit 2) as two
            having count(*) = 1
        ) as found
        join lanes on lanes.id = found.id
    ), judged as materialized (
        select first.*, senders.lane, senders.open, senders.queued,
               case when senders.lane is null then 'account'
                    when send_at < now() - interval '60 seconds' or starts > now() + interval '366 days'
                         or expires_at <= starts then 'time' end as fault
        from first
        left join senders using (org, wanted)
    ), decided as materialized (
        select judged.*,
               case when fault is null and p_most > 0
                         and queued + count(*) filter (where fault is null) over (partition by lane order by place) > p_most
                    then 'room' else fault end as refusal
        from judged
    ), inserted as (
        insert into jobs (
            id, org_id, account_id, key, content_hash, phone, message, priority, metadata,
            due_at, send_at, expires_at, timeline, request_id)
        select id, org, lane, key, content, phone, message, priority, metadata::json,
               starts, starts, coalesce(expires_at, starts + p_ttl), step('queued'), request
        from decided
        where refusal is null
        order by place
        -- Of a job whose key nobody has written down.
        on conflict (org_id, key) where key is not null do nothing
        returning id
    ), known as (
        select given.place, given.id, given.org, given.key, given.key_hash, given.content,
               case when given.org is null then 'key'
                    when permitted.id is null then 'signature'
                    when decided.id is null then coalesce(twin.refusal, 'held')
                    when decided.refusal is null and decided.id not in (select id from inserted) then 'held'
                    else coalesce(decided.refusal, 'queued') end as outcome,
               coalesce(decided.lane, twin.lane) as account,
               decided.refusal is null and decided.open and decided.starts <= now() as wake
        from given
        left join permitted using (place)
        left join decided using (place)
        -- One that is refused, with the same name and content.
        left join decided as twin
            on decided.id is null and permitted.id is not null and twin.org = given.org and twin.content = given.content
            and coalesce(twin.key, '') = coalesce(given.key, '')
    )
    select array_agg((place, known.outcome, id, org, key, key_hash, known.content, known.account, known.wake)::door.verdict
                     order by place),
           count(*) filter (where known.outcome in ('account', 'time', 'room')),
           count(*) filter (where known.outcome = 'held')
    into verdicts, refused, held
    from known;

    if refused > 0 then
        -- What is refused has no name.
        delete from job_keys using unnest(verdicts) as verdict
        where verdict.outcome in ('account', 'time', 'room')
          and job_keys.org_id = verdict.org and job_keys.key_hash = verdict.key_hash and job_keys.job_id = verdict.id;
        delete from recent_contents as recent using unnest(verdicts) as verdict
        where verdict.outcome in ('account', 'time', 'room') and verdict.key is null
          and recent.org_id = verdict.org and recent.content_hash = verdict.content and recent.job_id = verdict.id;
    end if;
    if held = 0 then
        return query
        select verdict.outcome, verdict.id, 'queued', verdict.content, verdict.account, verdict.wake, now()
        from unnest(verdicts) as verdict;
        return;
    end if;
    -- Statements of their own, which see what others had committed when they let go of the name.
    update job_keys set job_id = jobs.id, content_hash = jobs.content_hash
    from unnest(verdicts) as verdict
    join jobs on jobs.org_id = verdict.org and jobs.key = verdict.key
    where verdict.outcome = 'held' and job_keys.org_id = verdict.org and job_keys.key_hash = verdict.key_hash
      and job_keys.job_id = verdict.id and jobs.id <> verdict.id;
    -- A name without a job is free: the job went with its month, or an older version deleted it.
    with held as materialized (
        select job_keys.* from unnest(verdicts) as verdict
        join job_keys on job_keys.org_id = verdict.org and job_keys.key_hash = verdict.key_hash
        where verdict.outcome = 'held'
    )
    delete from job_keys using held
    where job_keys.org_id = held.org_id and job_keys.key_hash = held.key_hash and job_keys.job_id = held.job_id
      and not exists (select from jobs where id = held.job_id)
      and not exists (select from jobs_history where id = held.job_id);
    with held as materialized (
        select recent.* from unnest(verdicts) as verdict
        join recent_contents as recent on recent.org_id = verdict.org and recent.content_hash = verdict.content
        where verdict.outcome = 'held' and verdict.key is null
    )
    delete from recent_contents as recent using held
    where recent.org_id = held.org_id and recent.content_hash = held.content_hash and recent.job_id = held.job_id
      and not exists (select from jobs where id = held.job_id)
      and not exists (select from jobs_history where id = held.job_id);
    return query
    select case when verdict.outcome <> 'held' then verdict.outcome when jobs.state is null then 'again' else 'known' end,
           coalesce(holder.job_id, verdict.id), coalesce(jobs.state, 'queued'), coalesce(holder.content_hash, verdict.content),
           verdict.account, verdict.wake, now()
    from unnest(verdicts) as verdict
    left join lateral (
        select job_id, content_hash from job_keys
        where verdict.outcome = 'held' and org_id = verdict.org and key_hash = verdict.key_hash
        union all
        select job_id, content_hash from recent_contents
        where verdict.outcome = 'held' and verdict.key is null and org_id = verdict.org and content_hash = verdict.content
    ) as holder on true
    left join lateral (
        select state from jobs where id = holder.job_id
        union all
        select state from jobs_history where id = holder.job_id
        limit 1
    ) as jobs on true
    order by verdict.place;
end $$;
comment on function door.accept(json, interval, interval, bigint, text) is
    'Insert a job for each request that may have one, and return for each, in order: its outcome (queued; known: a job has its name; '
    'key, signature, account, time, room: refused; again: ask again), the job, its state and '
    'content, the account, whether its lane is to be woken, and the time.';

create function door.wake_accepted(p_lanes text[]) returns void language plpgsql security definer set search_path = public, pg_temp as $$
begin
    -- A wake-up that is lost, in a crash or because somebody holds the lane's, is made up for by the lane's mark, which was
    -- committed with the messages.
    perform set_config('synchronous_commit', 'off', true), set_config('lock_timeout', '200ms', true);
    insert into procrastinate_jobs (queue_name, task_name, lock, queueing_lock, args)
    select queue, 'drain', id, id, jsonb_build_object('lane', id)
    from lanes
    where id = any (p_lanes) and kind = 'account'
    order by id
    on conflict (queueing_lock) where status = 'todo' do nothing;
end $$;
comment on function door.wake_accepted(text[]) is
    'Give each of these lanes, of any org, a wake-up that waits, unless it has one. Its commit does not wait for the disk.';

revoke execute on function door.wake_accepted(text[]) from public;
grant execute on function door.wake_accepted(text[]) to postrider_api;
revoke execute on function door.accept(json, interval, interval, bigint, text) from public;
grant execute on function door.accept(json, interval, interval, bigint, text) to postrider_api;
