-- Counting what reports tell: views with a row for each account and local day, counted from the messages themselves.
-- Oldest code that may run on it: 0.3.0.

-- histograms ---------------------------------------------------------------------------------------------------------

-- Four buckets an octave, from 1/16 s on, and as many as it takes: none is for all that takes longer.
create function seconds_bucket(p_seconds double precision) returns integer language sql immutable as $$
    select case when p_seconds < 0.0625 then 0 else 17 + floor(4 * (ln(p_seconds) / ln(2::double precision)))::integer end
$$;
comment on function seconds_bucket(double precision) is
    'The bucket of a time: 0 is less than 1/16 s, and b is from 2^((b - 17) / 4) to 2^((b - 16) / 4) s. In a histogram it is '
    'the element b + 1.';

create function add_to_histogram(p_histogram integer[], p_bucket integer, p_jobs bigint) returns integer[]
language plpgsql immutable as $$
begin
    if p_bucket is null then
        return p_histogram;
    end if;
    if p_bucket >= cardinality(p_histogram) then
        p_histogram := p_histogram || array_fill(0, array[p_bucket + 1 - cardinality(p_histogram)]);
    end if;
    p_histogram[p_bucket + 1] := p_histogram[p_bucket + 1] + p_jobs;
    return p_histogram;
end $$;
comment on function add_to_histogram(integer[], integer, bigint) is 'A histogram with so many more in a bucket.';
create aggregate histogram(p_bucket integer, p_jobs bigint) (sfunc = add_to_histogram, stype = integer[], initcond = '{}');
comment on aggregate histogram(integer, bigint) is 'The histogram of so many in each bucket.';

create function percentile(p_histogram integer[], p_fraction double precision) returns numeric language plpgsql immutable as $$
declare
    wanted double precision := p_fraction * (select sum(jobs) from unnest(p_histogram) as jobs);
    bucket integer := 0;
begin
    if wanted is null or wanted = 0 then
        return null;
    end if;
    while bucket < cardinality(p_histogram) - 1 and p_histogram[bucket + 1] < wanted loop
        wanted := wanted - p_histogram[bucket + 1];
        bucket := bucket + 1;
    end loop;
    -- Within a bucket, evenly over its exponents.
    return round(case bucket when 0 then 0.0625 * wanted / p_histogram[1]
                             else 2 ^ ((bucket - 17 + wanted / p_histogram[bucket + 1]) / 4) end::numeric, 3);
end $$;
comment on function percentile(integer[], double precision) is
    'The time, in seconds, that such a fraction of a histogram does not exceed; null when it is empty. Off by a fifth at most, '
    'since a bucket ends at 1.19 times of where it begins.';

-- counting -----------------------------------------------------------------------------------------------------------

create function hour_of(p_at timestamptz, p_zone text) returns timestamptz language sql immutable as $$
    select p_at - ((p_at at time zone p_zone) - date_trunc('hour', p_at at time zone p_zone))
$$;
comment on function hour_of(timestamptz, text) is
    'The moment at which the clocks of a zone showed the full hour. Not date_trunc, which makes one of the two hours when clocks are '
    'put back.';

-- Views see what their owner sees: these belong to postrider_views, which sees the org of report_org. For a view that is read as
-- its reader, Postgres would ask what the reader may do, also where a view of the schema report reads it.
create schema counted;
comment on schema counted is 'What the views of the schema report and the roll-up count.';

create view counted.messages as
select org_id, account_id, id, key, phone, state, error_code, error_detail, metadata, timeline, created_at, send_at, sent_at,
       delivered_at, read_at, ended_at
from jobs
union all
select org_id, account_id, id, key, phone, state, error_code, error_detail, metadata, timeline, created_at, send_at, sent_at,
       delivered_at, read_at, ended_at
from jobs_history;
comment on view counted.messages is 'Every message, open and ended.';

create view counted.open_periods as
select accounts.org_id, accounts.id as account_id, coalesce(rolled_until, accounts.created_at) as since, time_zone as zone,
       coalesce(known_since, accounts.created_at) as known_since, deleted_at
from accounts
left join report_progress on account_id = accounts.id;
comment on view counted.open_periods is
    'Since when an account''s days are not rolled up, and are counted when somebody asks; and since when it is known what it had.';

-- From here on each row has the day that it counts for. Days that are rolled up are asked for one by one, to count them again:
-- by the index of the account. Open ones are read for all accounts at once: by the index of the org, from the first moment on that
-- is open. Of a range between two unknown bounds Postgres expects little, and so takes the index; of one bound, a third of all.

create view counted.jobs as
select jobs.org_id, jobs.account_id, began_at, false as is_open, day, zone, state, error_code, error_detail, jobs.created_at,
       send_at, sent_at, delivered_at, ended_at
from report_days as days
join counted.messages as jobs on jobs.org_id = days.org_id and jobs.account_id = days.account_id
    and jobs.created_at >= began_at and jobs.created_at < until_at
where sealed_at is null
union all
select jobs.org_id, jobs.account_id, since, true, (created_at at time zone zone)::date, zone, state, error_code, error_detail,
       created_at, send_at, sent_at, delivered_at, ended_at
from counted.open_periods as periods
join counted.messages as jobs on jobs.org_id = periods.org_id and jobs.account_id = periods.account_id and created_at >= since
where created_at >= (select min(since) from counted.open_periods)
  and created_at < (select max(timestamptz 'infinity') from counted.open_periods);
comment on view counted.jobs is 'Messages with the day of their acceptance; not those of sealed days.';

create view counted.ends as
select jobs.org_id, jobs.account_id, began_at, false as is_open, day, zone, state, jobs.created_at, send_at, sent_at, ended_at
from report_days as days
join counted.messages as jobs on jobs.account_id = days.account_id
    and ended_at >= began_at and ended_at < until_at and sent_at is not null
where sealed_at is null
union all
select jobs.org_id, jobs.account_id, began_at, false, day, zone, state, jobs.created_at, send_at, sent_at, ended_at
from report_days as days
join counted.messages as jobs on jobs.account_id = days.account_id
    and ended_at >= began_at and ended_at < until_at and ended_at is not null and sent_at is null
where sealed_at is null
union all
select jobs.org_id, jobs.account_id, since, true, (ended_at at time zone zone)::date, zone, state, created_at, send_at, sent_at,
       ended_at
from counted.open_periods as periods
join counted.messages as jobs on jobs.org_id = periods.org_id and jobs.account_id = periods.account_id and ended_at >= since
where ended_at >= (select min(since) from counted.open_periods)
  and ended_at < (select max(timestamptz 'infinity') from counted.open_periods);
comment on view counted.ends is 'Messages that have ended, with the day of their end; not those of sealed days.';

create view counted.answers as
select incoming.org_id, incoming.account_id, began_at, false as is_open, day, zone, incoming.created_at as at,
       case when is_answer then 'answer' else 'message' end as what
from report_days as days
join incoming on incoming.account_id = days.account_id and incoming.created_at >= began_at and incoming.created_at < until_at
where sealed_at is null
union all
select incoming.org_id, incoming.account_id, since, true, (created_at at time zone zone)::date, zone, created_at,
       case when is_answer then 'answer' else 'message' end
from counted.open_periods as periods
join incoming on incoming.account_id = periods.account_id and created_at >= since
where created_at >= (select min(since) from counted.open_periods)
  and created_at < (select max(timestamptz 'infinity') from counted.open_periods)
union all
select opt_outs.org_id, opt_outs.account_id, began_at, false, day, zone, opt_outs.created_at, 'opt-out'
from report_days as days
join opt_outs on opt_outs.account_id = days.account_id and opt_outs.created_at >= began_at and opt_outs.created_at < until_at
where sealed_at is null
union all
select opt_outs.org_id, opt_outs.account_id, since, true, (created_at at time zone zone)::date, zone, created_at, 'opt-out'
from counted.open_periods as periods
join opt_outs on opt_outs.account_id = periods.account_id and created_at >= since
where created_at >= (select min(since) from counted.open_periods)
  and created_at < (select max(timestamptz 'infinity') from counted.open_periods);
comment on view counted.answers is 'Messages that came in, and numbers that opted out, with their day; not those of sealed days.';

create view counted.days as
select org_id, account_id, began_at, is_open, day, zone, sum(jobs)::bigint as accepted,
       coalesce(sum(jobs) filter (where state in ('queued', 'sending', 'submitting')), 0)::bigint as open,
       coalesce(sum(jobs) filter (where state in ('sent', 'delivered', 'read')), 0)::bigint as sent,
       coalesce(sum(jobs) filter (where state in ('delivered', 'read')), 0)::bigint as delivered,
       coalesce(sum(jobs) filter (where state = 'read'), 0)::bigint as read,
       coalesce(sum(jobs) filter (where state = 'failed'), 0)::bigint as failed,
       coalesce(sum(jobs) filter (where state = 'failed' and is_unknown), 0)::bigint as outcome_unknown,
       coalesce(sum(jobs) filter (where state = 'cancelled'), 0)::bigint as cancelled,
       histogram(sent_bucket, jobs) as sent_histogram, histogram(delivered_bucket, jobs) as delivered_histogram
from (
    select org_id, account_id, began_at, is_open, day, zone, state, error_code = 'outcome_unknown' as is_unknown,
           case when state in ('sent', 'delivered', 'read')
                then seconds_bucket(extract(epoch from sent_at - greatest(created_at, send_at))::double precision) end as sent_bucket,
           case when state in ('delivered', 'read')
                then seconds_bucket(extract(epoch from delivered_at - sent_at)::double precision) end as delivered_bucket,
           count(*) as jobs
    from counted.jobs
    group by 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
) as alike
group by org_id, account_id, began_at, is_open, day, zone;
comment on view counted.days is 'What report_days has of days that are not sealed, counted now.';

create view counted.failures as
select org_id, account_id, began_at, is_open, day, zone, coalesce(error_code, 'unknown') as error_code, count(*) as jobs,
       min(ended_at) as first_at, max(ended_at) as last_at, (array_agg(error_detail order by ended_at desc, error_detail))[1] as last_detail
from counted.jobs
where state = 'failed'
group by org_id, account_id, began_at, is_open, day, zone, coalesce(error_code, 'unknown');
comment on view counted.failures is 'What report_failures has of days that are not sealed, counted now.';

create view counted.hours as
select org_id, account_id, began_at, is_open, day, zone, hour_of(quarter, zone) as hour,
       coalesce(sum(number) filter (where what = 'accepted'), 0)::bigint as accepted,
       coalesce(sum(number) filter (where what in ('sent', 'delivered', 'read')), 0)::bigint as sent,
       coalesce(sum(number) filter (where what = 'failed'), 0)::bigint as failed,
       coalesce(sum(number) filter (where what = 'cancelled'), 0)::bigint as cancelled,
       coalesce(sum(number) filter (where what in ('message', 'answer')), 0)::bigint as received,
       coalesce(sum(number) filter (where what = 'answer'), 0)::bigint as answers,
       coalesce(sum(number) filter (where what = 'opt-out'), 0)::bigint as opt_outs,
       histogram(bucket, number) as sent_histogram
from (
    -- By quarters first: the clocks of every zone begin their hours with one, and to ask for a zone costs more than all the rest.
    select org_id, account_id, began_at, is_open, day, zone, date_bin('15 minutes', created_at, '2000-01-01Z') as quarter,
           'accepted' as what, null::integer as bucket, count(*) as number
    from counted.jobs
    group by 1, 2, 3, 4, 5, 6, 7
    union all
    select org_id, account_id, began_at, is_open, day, zone, date_bin('15 minutes', ended_at, '2000-01-01Z'), state,
           case when state in ('sent', 'delivered', 'read')
                then seconds_bucket(extract(epoch from sent_at - greatest(created_at, send_at))::double precision) end,
           count(*)
    from counted.ends
    group by 1, 2, 3, 4, 5, 6, 7, 8, 9
    union all
    select org_id, account_id, began_at, is_open, day, zone, date_bin('15 minutes', at, '2000-01-01Z'), what, null, count(*)
    from counted.answers
    group by 1, 2, 3, 4, 5, 6, 7, 8
) as alike
group by org_id, account_id, began_at, is_open, day, zone, hour_of(quarter, zone);
comment on view counted.hours is 'What report_hours has of days that are not sealed, counted now.';

do $$
declare
    name text;
begin
    grant usage, create on schema counted to postrider_views;
    grant usage on schema counted to postrider_worker;
    foreach name in array array['messages', 'open_periods', 'jobs', 'ends', 'answers', 'days', 'failures', 'hours'] loop
        execute format('alter view counted.%I owner to postrider_views', name);
    end loop;
    grant select on counted.days, counted.failures, counted.hours to postrider_worker;
end $$;

create or replace function report_org() returns text language plpgsql stable security definer set search_path = public, pg_temp as $$
begin
    -- The API acts for the org of its caller, and a worker counts for one org at a time. Nobody else can take their roles: not by
    -- a setting, and not in a function like this one.
    if current_setting('role') in ('postrider_api', 'postrider_worker') then
        return nullif(current_setting('app.org', true), '');
    end if;
    -- The login, and not a setting, which everybody who writes SQL can change.
    return (select org_id from report_logins where login = session_user);
end $$;
comment on function report_org() is
    'The org whose reports this login may read; for the API and workers, the one that they act for. Null when none.';
