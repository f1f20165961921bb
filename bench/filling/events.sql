-- Events of jobs, each with a delivery that arrived at once.
with event as (
    insert into outbox (id, org_id, type, job_id, account_id, sequence, body, created_at)
    select 'evt_' || n, 'org_default', 'JobCompleted', 'job_' || lpad(n::text, 26, '0'), %(common)s, 1,
           event_body('JobCompleted', json_build_object('jobId', 'order-' || n, 'message', %(message)s)::text),
           now() - interval '1 hour' - (%(events)s - n) * (%(days)s * interval '1 day' / %(events)s)
    from generate_series(%(first)s::bigint, %(last)s::bigint) as n
    returning id, created_at
), delivery as (
    insert into deliveries (
        id, org_id, event_id, event_at, type, endpoint_id, state, attempts, due_at, created_at, ended_at, last_status)
    select 'dlv_' || id, 'org_default', id, created_at, 'JobCompleted', 'whe_' || 1 + mod(abs(hashtext(id)), 10),
           'delivered', 1, created_at, created_at, created_at + interval '1 s', 204
    from event
    returning id, endpoint_id, created_at
)
insert into attempts (org_id, delivery_id, endpoint_id, number, status, duration_ms, created_at, ended_at)
select 'org_default', id, endpoint_id, 1, 204, 12, created_at, created_at + interval '1 s' from delivery
