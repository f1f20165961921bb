-- Once: what a message was pressed on, why its outcome is unknown, and how a stop for a changed page ends by itself.
-- Oldest code that may run on it: 0.3.0. It writes neither, so that what it pressed is no proof to newer code.

alter table jobs add column pressed_on text, add column error_reason text;
alter table jobs_history add column pressed_on text, add column error_reason text;
create or replace view all_jobs as select * from jobs union all select * from jobs_history;
do $$
declare
    place text;
begin
    foreach place in array array['jobs', 'jobs_history', 'all_jobs'] loop
        execute format('comment on column %I.pressed_on is %L', place,
            'Where Enter was allowed: the disk with the profile, and the boot of its machine.');
        execute format('comment on column %I.error_reason is %L', place,
            'Why the outcome is unknown: other_outgoing, rows_missing, older_profile, anchor_lost, unreadable or at_the_clock.');
    end loop;
end $$;

alter table accounts
    add column unknown_in_a_row integer not null default 0,
    add column probes integer not null default 0,
    add column probe_at timestamptz,
    add column stopped_by text;
comment on column accounts.unknown_in_a_row is 'Messages in a row that ended without a tick; three open the circuit.';
comment on column accounts.probes is 'How often the page was looked at since sending stopped, because it had changed.';
comment on column accounts.probe_at is 'When it is looked at again; null when sending did not stop for that.';
comment on column accounts.stopped_by is 'The selectors by which the page was not known: their version and a hash of them.';

create or replace function job_event(p_type text, p_job jobs) returns text[] language sql as $$
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
                                  || ',"detail":' || to_json(p_job.error_detail)
                                  || coalesce(',"reason":' || to_json(p_job.error_reason), '') || '}'
            else ''
           end
        || ',"metadata":' || coalesce(p_job.metadata::text, 'null')
        || ',"sequence":' || p_job.sequence || '}',
        p_job.id, p_job.account_id, p_job.sequence)
$$;
