-- The views of the schema report: what report_days and its neighbours have, under names that stay.
-- Oldest code that may run on it: 0.3.0.

-- what workers are set to --------------------------------------------------------------------------------------------

alter table workers add column pace_limits jsonb;
comment on column workers.pace_limits is 'Its limits of an account''s sending: the settings PACE_* and QUIET_HOURS; null before 0.6.';
grant select (duties, renewed_at, pace_limits) on workers to postrider_views;

create function report.pace(p_account text) returns table (
    minute_limit bigint, minute_used bigint, hour_limit bigint, hour_used bigint, day_limit bigint, day_used bigint,
    resets_at timestamptz, opens_at timestamptz, reason text
) language plpgsql stable security definer set search_path = public, pg_temp as $$
#variable_conflict use_column
begin
    return query
    select pace.minute_limit, pace.minute_used, pace.hour_limit, pace.hour_used, pace.day_limit, pace.day_used,
           pace.resets_at, pace.opens_at, pace.reason
    from accounts
    cross join lateral pace_of(
        accounts.id,
        (select pace_limits from workers where 'sessions' = any (duties) and pace_limits is not null order by renewed_at desc limit 1),
        now()) as pace
    -- The policy says the same; this holds should it be missing.
    where accounts.id = p_account and accounts.org_id = report_org();
end $$;
alter function report.pace(text) owner to postrider_views;
comment on function report.pace(text) is 'What an account has used of its limits, as the newest worker has them; of the reader''s org.';

-- days and hours, those without anything too -------------------------------------------------------------------------

create view counted.all_days as
select org_id, account_id, day, zone, accepted, open, sent, delivered, read, failed, outcome_unknown, cancelled, sent_histogram,
       delivered_histogram
from report_days
union all
select periods.org_id, periods.account_id, calendar.day, periods.zone, coalesce(accepted, 0), coalesce(open, 0), coalesce(sent, 0),
       coalesce(delivered, 0), coalesce(read, 0), coalesce(failed, 0), coalesce(outcome_unknown, 0), coalesce(cancelled, 0),
       coalesce(sent_histogram, '{}'), coalesce(delivered_histogram, '{}')
from counted.open_periods as periods
cross join lateral (
    select (since at time zone periods.zone)::date + number as day
    from generate_series(0, (now() at time zone periods.zone)::date - (since at time zone periods.zone)::date) as number
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
comment on view counted.all_days is 'report_days, with the days that are not rolled up yet and those on which nothing was accepted.';

create view counted.all_hours as
select org_id, account_id, hour, day, zone, accepted, sent, failed, cancelled, received, answers, opt_outs, sent_histogram
from report_hours
union all
select org_id, account_id, hour, day, zone, accepted, sent, failed, cancelled, received, answers, opt_outs, sent_histogram
from counted.hours
where is_open;
comment on view counted.all_hours is 'report_hours, with those of days that are not rolled up yet.';

create view counted.all_activity as
select org_id, account_id, day, coalesce(max(zone) filter (where happened), max(zone)) as zone, sum(accepted)::bigint as accepted,
       sum(sent)::bigint as sent, sum(failed)::bigint as failed, sum(cancelled)::bigint as cancelled,
       sum(received)::bigint as received, sum(answers)::bigint as answers, sum(opt_outs)::bigint as opt_outs
from (
    select org_id, account_id, day, zone, true as happened, accepted, sent, failed, cancelled, received, answers, opt_outs
    from counted.all_hours
    union all
    select periods.org_id, periods.account_id, (known_since at time zone periods.zone)::date + number, periods.zone, false,
           0, 0, 0, 0, 0, 0, 0
    from counted.open_periods as periods
    cross join lateral generate_series(
        0, (least(now(), deleted_at) at time zone periods.zone)::date - (known_since at time zone periods.zone)::date) as number
) as all_days
group by org_id, account_id, day;
comment on view counted.all_activity is 'What happened on each local day, and days on which nothing did.';

-- the views ----------------------------------------------------------------------------------------------------------

-- By the indexes of what waits and of what is in flight, and not by the state, which no index has.
create or replace view report.queue_depth as
select lanes.org_id, lanes.id as account_id, accounts.name as account, accounts.state as account_state,
       accounts.paused, nullif(lanes.open_at, '-infinity') as opens_at,
       case when lanes.open_at > now() then lanes.gate_reason end as closed_because,
       coalesce(waiting.queued, 0) as queued, coalesce(waiting.due, 0) as due, coalesce(in_flight.jobs, 0) as under_way,
       waiting.oldest_due_at
from lanes
join accounts on accounts.id = lanes.id and accounts.deleted_at is null
left join (
    select account_id, count(*) as queued, count(*) filter (where due_at <= now()) as due, min(due_at) as oldest_due_at
    from jobs where claim is null and ended_at is null group by account_id
) as waiting on waiting.account_id = accounts.id
left join (
    select account_id, count(*) as jobs from jobs where claim is not null and ended_at is null group by account_id
) as in_flight on in_flight.account_id = accounts.id;

create view report.job_timeline as
select org_id, coalesce(key, id) as job_id, account_id, phone, step.number::integer as number, (step.entry ->> 'at')::timestamptz as at,
       step.entry ->> 'status' as status, step.entry ->> 'detail' as detail
from counted.messages
cross join lateral jsonb_array_elements(timeline) with ordinality as step (entry, number);
comment on view report.job_timeline is 'Each step of each message.';

create view report.accounts as
select org_id, id as account_id, name, transport, state, state_reason, state_since, paused, restriction, restricted_until, phone,
       time_zone as zone, created_at, first_ready_at, last_open_at, deleted_at
from accounts;
comment on view report.accounts is 'Accounts, deleted ones too.';

create or replace view report.daily_volume as
select org_id, account_id, day, accepted, sent, delivered, read, failed, cancelled, open, outcome_unknown, zone
from counted.all_days;
comment on view report.daily_volume is
    'Messages by account and day of their acceptance, in the account''s time zone, by what has become of them until now.';

create view report.daily_activity as
select org_id, account_id, day, accepted, sent, failed, cancelled, zone
from counted.all_activity;
comment on view report.daily_activity is
    'What happened on each day, in the account''s time zone: a message counts on the day on which it was accepted, sent, failed or cancelled.';

create view report.delivery_rate as
select org_id, account_id, day, sent, delivered, read, failed, outcome_unknown,
       round(delivered::numeric / nullif(sent, 0), 4) as delivery_rate, round(read::numeric / nullif(delivered, 0), 4) as read_rate,
       round((failed - outcome_unknown)::numeric / nullif(sent + failed - outcome_unknown, 0), 4) as failure_rate,
       day >= ((now() - interval '72 hours') at time zone zone)::date as provisional, zone
from counted.all_days;
comment on view report.delivery_rate is
    'Rates by account and day of acceptance. They may change for 72 hours, since ticks come late.';

create or replace view report.failure_reasons as
select org_id, account_id, error_code, jobs, first_at, last_at, last_detail, day, zone from report_failures where jobs > 0
union all
select org_id, account_id, error_code, jobs, first_at, last_at, last_detail, day, zone from counted.failures where is_open;
comment on view report.failure_reasons is 'Failed messages by account, day of acceptance and error code.';

create view report.latency as
select org_id, account_id, day, sent, percentile(sent_histogram, 0.5) as sent_p50, percentile(sent_histogram, 0.95) as sent_p95,
       percentile(sent_histogram, 0.99) as sent_p99, delivered, percentile(delivered_histogram, 0.5) as delivered_p50,
       percentile(delivered_histogram, 0.95) as delivered_p95, percentile(delivered_histogram, 0.99) as delivered_p99, zone
from counted.all_days;
comment on view report.latency is
    'Seconds from acceptance (or sendAt, when later) to the first tick, and from there to two ticks, by account and day of acceptance.';

create view report.hours as
select org_id, account_id, day, hour, hour at time zone zone as local_hour, accepted, sent, failed, cancelled,
       percentile(sent_histogram, 0.5) as sent_p50, percentile(sent_histogram, 0.95) as sent_p95,
       percentile(sent_histogram, 0.99) as sent_p99, zone
from counted.all_hours;
comment on view report.hours is 'What happened in each hour in which something did, and how long what was sent in it had taken.';

create view report.replies as
select org_id, account_id, day, sent, received, answers, opt_outs, round(answers::numeric / nullif(sent, 0), 4) as answer_rate,
       round(opt_outs::numeric / nullif(sent, 0), 4) as opt_out_rate, zone
from counted.all_activity;
comment on view report.replies is 'What came back, by account and day.';

create view report.balance as
select org_id, account_id, day, accepted, sent, failed, cancelled, open, accepted - sent - failed - cancelled - open as difference, zone
from counted.all_days;
comment on view report.balance is 'Whether it adds up: accepted = sent + failed + cancelled + open, by account and day of acceptance.';

create view report.recipients as
select jobs.org_id, jobs.account_id, jobs.phone, coalesce(jobs.key, jobs.id) as job_id, jobs.created_at as accepted_at,
       case when state in ('delivered', 'read') then true
            when state = 'cancelled' or state = 'failed' and jobs.error_code is distinct from 'outcome_unknown' then false end as got_it,
       case when state in ('queued', 'sending', 'submitting') then 'open'
            when state = 'failed' and jobs.error_code = 'outcome_unknown' then 'unknown' else state end as outcome,
       case when state in ('failed', 'cancelled') then coalesce(jobs.error_code, state) end as reason,
       case when state in ('failed', 'cancelled') then jobs.error_detail end as detail,
       sent_at, delivered_at, read_at, ended_at, metadata
from counted.messages as jobs;
comment on view report.recipients is 'Which numbers got a message and which did not, and why: a row for each message.';

create view report.caps as
select accounts.org_id, accounts.id as account_id, accounts.name as account, accounts.restriction, accounts.restricted_until,
       pace.day_limit, pace.day_used, round(pace.day_used::numeric / nullif(pace.day_limit, 0), 4) as day_share,
       pace.hour_limit, pace.hour_used, pace.resets_at,
       case when lanes.open_at > now() then nullif(lanes.open_at, 'infinity') else pace.opens_at end as opens_at,
       case when lanes.open_at > now() then lanes.gate_reason else pace.reason end as held_by, waiting.queued,
       case when waiting.queued = 0 or lanes.open_at = 'infinity' then null
            when pace.day_limit is not null and waiting.queued > pace.day_limit - pace.day_used
            then pace.resets_at + ceil((waiting.queued - (pace.day_limit - pace.day_used))::numeric / nullif(pace.day_limit, 0) - 1)
                 * interval '1 day'
            when pace.hour_limit is not null
            then greatest(now(), pace.opens_at) + waiting.queued::double precision / nullif(pace.hour_limit, 0) * interval '1 hour'
       end as backlog_ends_at
from accounts
join lanes on lanes.id = accounts.id
cross join lateral report.pace(accounts.id) as pace
cross join lateral (
    select count(*) as queued from jobs where account_id = accounts.id and claim is null and ended_at is null
) as waiting
where accounts.deleted_at is null;
comment on view report.caps is
    'Who is near a limit or restricted, and when what waits will be sent at the earliest, by the limits of the newest worker.';

do $$
declare
    columns constant jsonb := '{
        "job_timeline": {
            "org_id": "Org that owns the message.",
            "job_id": "jobId as on the wire: the idempotency key, or job_….",
            "account_id": "Account that sends it.",
            "phone": "Recipient, E.164 digits.",
            "number": "Number of the step, from 1 on.",
            "at": "When it was.",
            "status": "What it became.",
            "detail": "Why, where there is more to say."
        },
        "accounts": {
            "org_id": "Org that owns the account.",
            "account_id": "Account.",
            "name": "What people call it.",
            "transport": "web: WhatsApp Web; sandbox: our stand-in for it.",
            "state": "State of its session.",
            "state_reason": "Why it is in this state.",
            "state_since": "Since when.",
            "paused": "Whether the operator paused it.",
            "restriction": "What WhatsApp does not let it do at present: new_chats or monthly_cap.",
            "restricted_until": "End of that, where it is known.",
            "phone": "Its own number, E.164 digits, once linked.",
            "zone": "Time zone in which its days are counted.",
            "created_at": "When it was created.",
            "first_ready_at": "When it was first ready to send.",
            "last_open_at": "When its session was last open.",
            "deleted_at": "When it was deleted; null while it is not."
        },
        "daily_volume": {
            "day": "Day of acceptance, in the account''s time zone.",
            "outcome_unknown": "Of those that failed, those that may have arrived.",
            "zone": "Time zone of the day. On the day on which an account''s zone changed there may be a row for each."
        },
        "daily_activity": {
            "org_id": "Org that owns the account.",
            "account_id": "Account.",
            "day": "Day, in the account''s time zone.",
            "accepted": "Messages accepted on that day.",
            "sent": "Messages whose first tick was seen on that day.",
            "failed": "Messages that failed on that day and were not tried again later, those whose outcome is unknown too.",
            "cancelled": "Messages cancelled on that day.",
            "zone": "Time zone of the day."
        },
        "delivery_rate": {
            "org_id": "Org that owns the account.",
            "account_id": "Account.",
            "day": "Day of acceptance, in the account''s time zone.",
            "sent": "Messages of that day that WhatsApp took: sent, delivered or read.",
            "delivered": "Of these, those that arrived: delivered or read.",
            "read": "Of these, those that were seen to be read.",
            "failed": "Messages of that day that failed, those whose outcome is unknown too.",
            "outcome_unknown": "Of those that failed, those that may have arrived.",
            "delivery_rate": "delivered of one that was sent; null when none was.",
            "read_rate": "read of one that was delivered; null when none was. A lower bound: people can switch read receipts off.",
            "failure_rate": "Of one whose outcome is known, how many failed; null when there is none.",
            "provisional": "Whether the day is younger than 72 hours, so that ticks may still come.",
            "zone": "Time zone of the day."
        },
        "failure_reasons": {
            "jobs": "How many messages failed with it.",
            "last_detail": "What the last one said; null once retention deletes the messages.",
            "day": "Day of acceptance, in the account''s time zone.",
            "zone": "Time zone of the day."
        },
        "latency": {
            "org_id": "Org that owns the account.",
            "account_id": "Account.",
            "day": "Day of acceptance, in the account''s time zone.",
            "sent": "Messages of that day that were sent.",
            "sent_p50": "Half of them took at most so many seconds from acceptance, or from sendAt when later, to the first tick, a fifth more or less at most.",
            "sent_p95": "The same of 95 in a hundred.",
            "sent_p99": "The same of 99 in a hundred.",
            "delivered": "Messages of that day that were delivered.",
            "delivered_p50": "Half of them took at most so many seconds from the first tick to two: the recipient''s phone has to be on.",
            "delivered_p95": "The same of 95 in a hundred.",
            "delivered_p99": "The same of 99 in a hundred.",
            "zone": "Time zone of the day."
        },
        "hours": {
            "org_id": "Org that owns the account.",
            "account_id": "Account.",
            "day": "Day, in the account''s time zone.",
            "hour": "The moment at which the hour began.",
            "local_hour": "What the clocks of the zone showed then. Where they are put back, two hours show the same.",
            "accepted": "Messages accepted in it.",
            "sent": "Messages whose first tick was seen in it.",
            "failed": "Messages that failed in it and were not tried again later.",
            "cancelled": "Messages cancelled in it.",
            "sent_p50": "Half of those that were sent had taken at most so many seconds since acceptance, or sendAt when later.",
            "sent_p95": "The same of 95 in a hundred.",
            "sent_p99": "The same of 99 in a hundred.",
            "zone": "Time zone of the day."
        },
        "replies": {
            "org_id": "Org that owns the account.",
            "account_id": "Account.",
            "day": "Day, in the account''s time zone.",
            "sent": "Messages whose first tick was seen on that day.",
            "received": "Messages that came in.",
            "answers": "Of these, those from numbers to which the account had sent a message in the week before. Messages of before version 0.6 are not known to be answers.",
            "opt_outs": "Numbers that opted out by a message to the account.",
            "answer_rate": "answers for one that was sent on the same day; null when none was.",
            "opt_out_rate": "opt_outs for one that was sent on the same day; null when none was.",
            "zone": "Time zone of the day."
        },
        "balance": {
            "org_id": "Org that owns the account.",
            "account_id": "Account.",
            "day": "Day of acceptance, in the account''s time zone.",
            "accepted": "Messages accepted on that day.",
            "sent": "Of these, those that WhatsApp took.",
            "failed": "Of these, those that failed.",
            "cancelled": "Of these, those that were cancelled.",
            "open": "Of these, those that have not ended.",
            "difference": "What is missing: 0.",
            "zone": "Time zone of the day."
        },
        "recipients": {
            "org_id": "Org that owns the message.",
            "account_id": "Account that sends it.",
            "phone": "Recipient, E.164 digits.",
            "job_id": "jobId as on the wire.",
            "accepted_at": "When it was accepted.",
            "got_it": "true: it arrived; false: it did not; null: not known, or not yet.",
            "outcome": "read, delivered, sent (not seen to arrive), unknown (it may have arrived), failed, cancelled or open.",
            "reason": "Code of the failure, or cancelled.",
            "detail": "The same in a sentence.",
            "sent_at": "When its first tick was seen.",
            "delivered_at": "When two ticks were seen.",
            "read_at": "When blue ticks were seen.",
            "ended_at": "When it was sent, failed or cancelled.",
            "metadata": "The object that the client gave along."
        },
        "caps": {
            "org_id": "Org that owns the account.",
            "account_id": "Account.",
            "account": "Name of the account.",
            "restriction": "What WhatsApp does not let it do at present.",
            "restricted_until": "End of that, where it is known.",
            "day_limit": "Messages that it may send today; null is no limit.",
            "day_used": "Messages that it has sent today.",
            "day_share": "Used of one; null without a limit.",
            "hour_limit": "Messages that it may send within an hour; null is no limit.",
            "hour_used": "Messages that it has sent in the last hour.",
            "resets_at": "When its day ends.",
            "opens_at": "From when on it may send; null is now, or when somebody has acted.",
            "held_by": "What it waits for.",
            "queued": "Messages that wait, later ones too.",
            "backlog_ends_at": "When they will all be sent at the earliest, by its limits; null without any, and while somebody has to act."
        }
    }';
    view_name text;
    column_name text;
    description text;
begin
    for view_name in select jsonb_object_keys(columns) loop
        execute format('alter view report.%I owner to postrider_views', view_name);
        execute format('grant select on report.%I to postrider_report, postrider_api', view_name);
        for column_name, description in select * from jsonb_each_text(columns -> view_name) loop
            execute format('comment on column report.%I.%I is %L', view_name, column_name, description);
        end loop;
    end loop;
end $$;
grant usage on schema report to postrider_api;
grant select on report.jobs, report.queue_depth, report.webhook_health to postrider_api;
alter view counted.all_days owner to postrider_views;
alter view counted.all_hours owner to postrider_views;
alter view counted.all_activity owner to postrider_views;
