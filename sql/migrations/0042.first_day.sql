-- An account has no day from before it was created, also while yesterday is not rolled up yet.
-- Oldest code that may run on it: 0.3.0.

create or replace view counted.all_days as
select org_id, account_id, day, zone, accepted, open, sent, delivered, read, failed, outcome_unknown, cancelled, sent_histogram,
       delivered_histogram
from report_days
union all
select periods.org_id, periods.account_id, calendar.day, periods.zone, coalesce(accepted, 0), coalesce(open, 0), coalesce(sent, 0),
       coalesce(delivered, 0), coalesce(read, 0), coalesce(failed, 0), coalesce(outcome_unknown, 0), coalesce(cancelled, 0),
       coalesce(sent_histogram, '{}'), coalesce(delivered_histogram, '{}')
from counted.open_periods as periods
cross join lateral (
    select (greatest(since, known_since) at time zone periods.zone)::date + number as day
    from generate_series(
        0, (now() at time zone periods.zone)::date - (greatest(since, known_since) at time zone periods.zone)::date) as number
) as calendar
left join (select * from counted.days where is_open) as counted
    on counted.account_id = periods.account_id and counted.day = calendar.day
where deleted_at is null or counted.account_id is not null
union all
select periods.org_id, periods.account_id, calendar.day, periods.zone, 0, 0, 0, 0, 0, 0, 0, 0, '{}', '{}'
from counted.open_periods as periods
cross join lateral (
    select (known_since at time zone periods.zone)::date + number as day
    from generate_series(0, least((since at time zone periods.zone)::date - 1, (deleted_at at time zone periods.zone)::date)
                            - (known_since at time zone periods.zone)::date) as number
) as calendar
where not exists (
    select from report_days where report_days.account_id = periods.account_id and report_days.day = calendar.day);
