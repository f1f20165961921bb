-- What people query: schema report, views that stay stable while tables change, and a role that sees nothing else.
-- Oldest code that may run on it: 0.1.0.

create schema report;
comment on schema report is 'Views for reports. They stay stable while the tables beneath them change.';

create view report.jobs as
select org_id, coalesce(key, id) as job_id, account_id, phone, state as status, priority, attempts,
       error_code, error_detail, metadata, created_at, send_at, expires_at, started_at, sent_at, delivered_at, read_at, ended_at,
       round(extract(epoch from sent_at - greatest(created_at, send_at))::numeric, 3) as seconds_to_send
from (select * from jobs union all select * from jobs_history) all_jobs;
comment on view report.jobs is 'Every job with its present status, open and ended.';

create view report.daily_volume as
select org_id, account_id, (created_at at time zone 'utc')::date as day,
       count(*) as accepted,
       count(*) filter (where status in ('sent', 'delivered', 'read')) as sent,
       count(*) filter (where status in ('delivered', 'read')) as delivered,
       count(*) filter (where status = 'read') as read,
       count(*) filter (where status = 'failed') as failed,
       count(*) filter (where status = 'cancelled') as cancelled,
       count(*) filter (where status in ('queued', 'sending', 'submitting')) as open
from report.jobs
group by org_id, account_id, day;
comment on view report.daily_volume is 'Jobs by account and day (UTC) of acceptance, by what became of them.';

create view report.failure_reasons as
select org_id, account_id, error_code, count(*) as jobs,
       min(ended_at) as first_at, max(ended_at) as last_at,
       (array_agg(error_detail order by ended_at desc))[1] as last_detail
from report.jobs
where status = 'failed'
group by org_id, account_id, error_code;
comment on view report.failure_reasons is 'Failed jobs by account and error code.';

create view report.queue_depth as
select lanes.org_id, lanes.id as account_id, accounts.name as account, accounts.state as account_state,
       accounts.paused, nullif(lanes.open_at, '-infinity') as opens_at,
       case when lanes.open_at > now() then lanes.gate_reason end as closed_because,
       count(jobs.id) filter (where jobs.state = 'queued') as queued,
       count(jobs.id) filter (where jobs.state = 'queued' and jobs.due_at <= now()) as due,
       count(jobs.id) filter (where jobs.state in ('sending', 'submitting')) as under_way,
       min(jobs.due_at) filter (where jobs.state = 'queued') as oldest_due_at
from lanes
join accounts on accounts.id = lanes.id and accounts.deleted_at is null
left join jobs on jobs.account_id = accounts.id and jobs.state in ('queued', 'sending', 'submitting')
group by lanes.id, accounts.id;
comment on view report.queue_depth is 'What waits now, by account.';

do $$
declare
    columns constant jsonb := '{
        "jobs": {
            "org_id": "Org that owns the job.",
            "job_id": "jobId as on the wire: the idempotency key, or job_….",
            "account_id": "Account that sends it.",
            "phone": "Recipient, E.164 digits.",
            "status": "queued, sending, submitting, sent, delivered, read, failed or cancelled.",
            "priority": "1 high, 0 normal.",
            "attempts": "How often a worker tried.",
            "error_code": "Why it failed, or why its last attempt did.",
            "error_detail": "The same in a sentence.",
            "metadata": "The object that the client gave along.",
            "created_at": "When it was accepted.",
            "send_at": "When it was asked to be sent.",
            "expires_at": "From when it is not sent any more.",
            "started_at": "When a worker first took it.",
            "sent_at": "When its first tick was seen.",
            "delivered_at": "When two ticks were seen.",
            "read_at": "When blue ticks were seen.",
            "ended_at": "When it was sent, failed or cancelled.",
            "seconds_to_send": "Seconds from acceptance, or from sendAt when later, to the first tick."
        },
        "daily_volume": {
            "org_id": "Org that owns the account.",
            "account_id": "Account.",
            "day": "Day of acceptance, UTC.",
            "accepted": "Jobs accepted that day.",
            "sent": "Of these, those that WhatsApp took: sent, delivered or read.",
            "delivered": "Of these, those seen with two ticks: delivered or read.",
            "read": "Of these, those seen with blue ticks.",
            "failed": "Of these, those that failed.",
            "cancelled": "Of these, those that were cancelled.",
            "open": "Of these, those that are still open."
        },
        "failure_reasons": {
            "org_id": "Org that owns the account.",
            "account_id": "Account.",
            "error_code": "Code of the failure.",
            "jobs": "How many jobs failed with it.",
            "first_at": "When the first did.",
            "last_at": "When the last did.",
            "last_detail": "What the last one said."
        },
        "queue_depth": {
            "org_id": "Org that owns the account.",
            "account_id": "Account.",
            "account": "Name of the account.",
            "account_state": "State of its session.",
            "paused": "Whether the operator paused it.",
            "opens_at": "When its lane opens, or opened; infinity is closed until somebody acts; null was never closed.",
            "closed_because": "Why the lane is closed; null when it is open.",
            "queued": "Jobs that wait.",
            "due": "Of these, those that could go now.",
            "under_way": "Jobs that a worker has in hand.",
            "oldest_due_at": "Since when the oldest waits, or when the next is due."
        }
    }';
    view_name text;
    column_name text;
    description text;
begin
    for view_name in select jsonb_object_keys(columns) loop
        for column_name, description in select * from jsonb_each_text(columns -> view_name) loop
            execute format('comment on column report.%I.%I is %L', view_name, column_name, description);
        end loop;
    end loop;

    -- Roles belong to the whole cluster: another database of it may have made this one, and a managed Postgres may not
    -- let us make any. Then the views are there all the same, and an administrator grants them.
    begin
        create role postrider_report nologin;
    exception
        when duplicate_object or unique_violation then null;
        when insufficient_privilege then raise notice 'role postrider_report was not created: no privilege';
    end;
    if exists (select from pg_roles where rolname = 'postrider_report') then
        grant usage on schema report to postrider_report;
        grant select on all tables in schema report to postrider_report;
        alter default privileges in schema report grant select on tables to postrider_report;
    end if;
end $$;
