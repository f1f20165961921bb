-- Most updates of jobs and deliveries touch no index, so that Postgres writes no new index entries for them (heap-only tuples,
-- HOT). For that, no index may have a column that such an update changes, not even in its `where`: so none has `state`. A job
-- waits while it has no claim and no end, and is in flight while it has a claim and no end; a delivery is open while it has no
-- end. The indexes are made beside the traffic (sql/concurrent_indexes.sql).
-- Oldest code that may run on it: 0.3.0. It writes the time of the next look into due_at, and no settled_epoch.

alter table jobs add column look_at timestamptz;
alter table jobs_history add column look_at timestamptz;
-- A column that comes after these needs a new view, since this one ends with one of its own.
create or replace view all_jobs as
    select *, false as in_history from jobs union all select *, true from jobs_history;
comment on column all_jobs.in_history is 'It ended at least three days ago, and has moved to the history.';
do $$
declare
    place text;
begin
    foreach place in array array['jobs', 'jobs_history', 'all_jobs'] loop
        execute format('comment on column %I.look_at is %L', place,
            'When a submitted message is to be looked at next. Not due_at, which an index has.');
        execute format('comment on column %I.due_at is %L', place,
            'When it is to be worked on next: sendAt, or the end of a backoff.');
    end loop;
end $$;

alter table lanes add column settled_epoch bigint;
alter table lanes alter column settled_epoch set default 0;
comment on column lanes.settled_epoch is
    'The last drain that ended in order, and so left no delivery half done. If that is not the one before, the next one looks.';

-- Of attempts: room for their results, so that writing these touches no index either.
do $$
declare
    partition regclass;
begin
    for partition in select inhrelid from pg_inherits where inhparent = 'attempts'::regclass loop
        execute format('alter table %s set (fillfactor = 60)', partition);
    end loop;
end $$;

-- Without it Postgres takes the two for unrelated, expects a thousand times as many, and reads all that ended instead.
create statistics jobs_unsent on (case when sent_at is null then ended_at end) from jobs;
comment on statistics jobs_unsent is 'How many jobs have ended and were not sent, for the index jobs_unsent_list_idx.';

create function submitted_since(p_account text, p_since timestamptz)
returns table (phone text, started_at timestamptz, submitted_at timestamptz) language sql stable as $$
    select phone, started_at, submitted_at from jobs
    where account_id = p_account and sent_at is not null and ended_at >= p_since and submitted_at >= p_since
    union all
    select phone, started_at, submitted_at from jobs
    where account_id = p_account and sent_at is null and ended_at >= p_since and submitted_at >= p_since
    union all
    select phone, started_at, submitted_at from jobs
    where account_id = p_account and claim is not null and ended_at is null and submitted_at >= p_since
    union all
    select phone, started_at, submitted_at from jobs
    where account_id = p_account and claim is null and ended_at is null and started_at is not null
      and submitted_at >= p_since
$$;
comment on function submitted_since(text, timestamptz) is
    'Messages of an account for which Enter was last allowed at or after this moment: jobs that ended since then, jobs in '
    'flight, and jobs that wait again.';

create function newest_sent(p_account text, p_most integer) returns setof jobs language sql stable
-- Postgres knows only how many an account has on average. It would read and sort all of one that has many.
set enable_bitmapscan = off set enable_sort = off as $$
    (select * from jobs
     where account_id = p_account and sent_at is not null
     order by ended_at desc nulls last
     limit p_most)
    union all
    (select * from jobs
     where account_id = p_account and error_code = 'outcome_unknown' and ended_at is not null
     order by ended_at desc nulls last
     limit p_most)
$$;
comment on function newest_sent(text, integer) is
    'The messages of an account in the task table that were sent last, and as many of those that may have been.';

create or replace function pace_of(p_account text, p_limits jsonb, p_at timestamptz)
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
        left join submitted_since(p_account, least(given.began_at, p_at - interval '1 hour')) on true
    ), closed as (
        -- Sent again is allowed when the message that filled the window leaves it, however low the limit was set since.
        select reason, until
        from given, used, lateral (values
            ('pace_minute', case when in_minute >= per_minute then (
                select submitted_at + interval '1 minute' from submitted_since(p_account, p_at - interval '1 minute')
                order by submitted_at desc offset per_minute - 1 limit 1) end),
            ('pace_hour', case when in_hour >= per_hour then (
                select submitted_at + interval '1 hour' from submitted_since(p_account, p_at - interval '1 hour')
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

create or replace function recount_depth(p_lane text) returns bigint language plpgsql as $$
declare
    missed bigint;
begin
    -- Two at once would both add what is missing.
    perform pg_advisory_xact_lock(hashtext('postrider.recount'));
    -- One snapshot has each job and its count, or neither.
    select count(*) - lane_queued(p_lane) into missed
    from jobs where account_id = p_lane and claim is null and ended_at is null;
    insert into lane_depth as depth (lane_id, stripe, org_id, queued, counted_at)
    select id, 16, org_id, missed, clock_timestamp() from lanes where id = p_lane
    on conflict (lane_id, stripe) do update set queued = depth.queued + excluded.queued, counted_at = excluded.counted_at;
    return missed;
end $$;

create or replace function lane_due(p_lane lanes) returns timestamptz language plpgsql stable as $$
declare
    due timestamptz;
begin
    if p_lane.kind = 'account' then
        -- The first row by due time comes from an index. With min() over both priorities, or with exists, Postgres would expect
        -- to find a row early where a few lanes hold all that waits, and read the table from its start.
        due := least(
            (select due_at from jobs where account_id = p_lane.id and claim is null and ended_at is null and priority = 1
             order by due_at limit 1),
            (select due_at from jobs where account_id = p_lane.id and claim is null and ended_at is null and priority = 0
             order by due_at limit 1));
        if due is not null then
            due := case when exists (select from orgs where orgs.org_id = p_lane.org_id and paused_at is not null)
                        then 'infinity' else greatest(due, p_lane.open_at) end;
        end if;
        return least(
            'infinity', p_lane.attend_at, due,
            (select min(greatest(due_at, look_at)) from jobs
             where account_id = p_lane.id and claim is not null and ended_at is null));
    end if;
    -- The attend_at of an endpoint is in the future only after an internal error, which must not recur every second.
    if p_lane.attend_at is not null then
        return p_lane.attend_at;
    end if;
    -- One that is half done has its time in the past, too.
    due := (select due_at from deliveries where endpoint_id = p_lane.id and ended_at is null order by due_at limit 1);
    due := least(due, (
        select min(case when settled(begun_in, created_at) then '-infinity' else now() + interval '1 second' end)
        from recoveries where endpoint_id = p_lane.id and state in ('counting', 'running')));
    return case when due is null then 'infinity' else greatest(due, p_lane.open_at) end;
end $$;

create function fenced_endpoint(p_lane text, p_epoch bigint) returns table (id text, open boolean, doubted boolean)
rows 1 language plpgsql as $$
begin
    return query select lanes.id, open_at <= now(), settled_epoch is distinct from p_epoch - 1
    from lanes where lanes.id = p_lane and epoch = p_epoch for no key update;
end $$;
comment on function fenced_endpoint(text, bigint) is
    'Like fenced, for an endpoint: whether its gate is open, and whether the drain before may have left deliveries half done.';

create or replace function mark_jobs() returns trigger language plpgsql
-- The plan of a session's first call is kept: a nested loop for one row would be quadratic for many.
set enable_nestloop = off as $$
begin
    -- No mark is in the past: the pulse does not read again what is older than its last turns.
    if tg_op = 'INSERT' then
        insert into lane_marks (due_at, lane_id, org_id)
        select greatest(min(due_at), now()), account_id, min(org_id)
        from came
        where state in ('queued', 'sending', 'submitting')
        group by account_id;
    else
        insert into lane_marks (due_at, lane_id, org_id)
        select greatest(min(is_at), now()), account_id, min(org_id)
        from (
            -- The next look is nothing to a job that waits.
            select came.account_id, came.org_id, came.state, went.state as old_state,
                   greatest(came.due_at, case when came.claim is not null then came.look_at end) as is_at,
                   greatest(went.due_at, case when went.claim is not null then went.look_at end) as was_at
            from came
            join went using (id)
        ) as moved
        where state in ('queued', 'sending', 'submitting')
          and (is_at < was_at or old_state not in ('queued', 'sending', 'submitting'))
        group by account_id;
    end if;
    return null;
end $$;

create or replace function lanes_with_work(p_after text, p_most integer) returns setof text language plpgsql stable as $$
declare
    lane text := p_after;
    attended text[];
begin
    -- Apart: in the order of lanes, Postgres would read all that have no attend_at.
    with those as materialized (select id from lanes where attend_at is not null)
    select array_agg(id) into attended from those where id > p_after;
    for _ in 1..p_most loop
        -- A step of an index for each kind of work, and not one for each row.
        lane := (
            select min(id)
            from (
                (select account_id from jobs where account_id > lane and claim is null and ended_at is null
                 order by account_id limit 1)
                union all
                (select account_id from jobs where account_id > lane and claim is not null and ended_at is null
                 order by account_id limit 1)
                union all
                (select endpoint_id from deliveries where endpoint_id > lane and ended_at is null
                 order by endpoint_id limit 1)
                union all
                (select endpoint_id from recoveries where endpoint_id > lane and state in ('counting', 'running')
                 order by endpoint_id limit 1)
                union all
                select min(id) from unnest(attended) as id where id > lane
            ) as next (id));
        exit when lane is null;
        return next lane;
    end loop;
end $$;

create or replace function ensure_partitions() returns void language plpgsql set lock_timeout = '200ms' as $$
declare
    parent text;
    key text;
    month date;
    name text;
begin
    if not pg_try_advisory_xact_lock(hashtext('postrider.ensure_partitions')) then
        return;
    end if;
    for parent, key, month in
        select kind.*, series.at::date
        from (values ('jobs_history', 'ended_at'), ('outbox', 'created_at'), ('attempts', 'created_at')) as kind,
             generate_series(date_trunc('month', now() at time zone 'utc') - interval '1 month',
                             date_trunc('month', now() at time zone 'utc') + interval '2 months', interval '1 month') as series (at)
    loop
        name := parent || to_char(month, '_YYYY_MM');
        continue when to_regclass(name) is not null;
        -- Made apart and attached, since CREATE TABLE … PARTITION OF locks out everybody, and a report that runs for minutes
        -- would hold it up, and behind it the whole service. Whoever is not let in tries again in ten minutes.
        begin
            execute format('lock table only %I in access exclusive mode', parent || '_default');
            execute format('create table %I (like %I including defaults including constraints)%s', name, parent,
                           case parent when 'attempts' then ' with (fillfactor = 60)' else '' end);
            execute format(
                'with moved as (delete from only %I where %I >= %L and %I < %L returning *) insert into %I select * from moved',
                parent || '_default', key, month || ' 00:00:00+00', key, (month + interval '1 month')::date || ' 00:00:00+00', name);
            execute format('alter table %I attach partition %I for values from (%L) to (%L)',
                           parent, name, month || ' 00:00:00+00', (month + interval '1 month')::date || ' 00:00:00+00');
        exception
            when lock_not_available then raise notice 'partition % is made later: the table is in use', name;
        end;
    end loop;
end $$;

create or replace function refuse_open_deliveries(p_parent text, p_since timestamptz, p_until timestamptz) returns void
language plpgsql as $$
begin
    if p_parent = 'outbox' and exists (
        select from deliveries where ended_at is null and event_at >= p_since and event_at < p_until)
    then
        raise object_in_use using message = 'events from ' || p_since || ' on are still to be delivered';
    end if;
end $$;

create function next_type(p_endpoint text, p_after text) returns text language sql stable as $$
    select min(type)
    from (
        (select type from deliveries
         where endpoint_id = p_endpoint and ended_at is null and type > p_after order by type limit 1)
        union all
        (select type from deliveries
         where endpoint_id = p_endpoint and ended_at is not null and last_error is null and type > p_after
         order by type limit 1)
        union all
        (select type from deliveries
         where endpoint_id = p_endpoint and ended_at is not null and last_error is not null and type > p_after
         order by type limit 1)
    ) as next
$$;
comment on function next_type(text, text) is 'The next type of event, by name, of which an endpoint has deliveries; each is a step of an index.';

create or replace view report.webhook_health as
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
    from deliveries where endpoint_id = endpoints.id and ended_at is null and state = 'pending'
) as open
cross join lateral (
    select count(*) as failed from deliveries
    where endpoint_id = endpoints.id and ended_at is not null and last_error is not null
) as dead
left join (
    select endpoint_id, count(*) as attempts, count(*) filter (where error is null) as succeeded,
           percentile_cont(0.5) within group (order by duration_ms)::integer as median_ms,
           max(ended_at) filter (where error is null) as last_succeeded_at
    from attempts
    where created_at > now() - interval '1 day' and ended_at is not null and counts and error is distinct from 'interrupted'
    group by endpoint_id
) as lately on lately.endpoint_id = endpoints.id;
