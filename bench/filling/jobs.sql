-- Ended jobs, spread over the days before now. A multiplicative hash spreads accounts, numbers and states, in the same way
-- for each run.
insert into {table} (
    id, org_id, account_id, key, content_hash, phone, message, state, error_code, due_at, send_at, expires_at,
    created_at, started_at, submitted_at, sent_at, ended_at, bubble, seq, priority, attempts, sequence, timeline)
overriding system value
select 'job_' || lpad(n::text, 26, '0'), 'org_default',
       case when mod(h, 2) = 0 then %(common)s when mod(h, 100003) = 1 then %(rare)s
            else 'acc_' || 3 + mod(h / 7, 90) end,
       'order-' || n, '',
       case when mod(h, 200) = 7 then %(common_phone)s when n in (17, %(history)s - 17) then %(rare_phone)s
            else '1555' || lpad((1000 + mod(h, 1000003))::text, 7, '0') end,
       %(message)s, state, case when state = 'failed' then 'not_on_whatsapp' end, at, at, at + interval '1 day',
       at, at, at, case when sent then at end, at + interval '20 s', case when sent then 'true_' || n end, n, 0, 1, 3, '[]'
from (
    select *, state not in ('failed', 'cancelled') as sent
    from (
        select n, h, now() - interval '1 hour' - (%(history)s - n) * (%(days)s * interval '1 day' / %(history)s) as at,
               case when mod(h / 3, 97) = 5 then 'failed' when mod(h / 3, 9973) = 11 then 'cancelled'
                    when mod(h / 3, 31) = 3 then 'sent' when mod(h / 3, 10) < 2 then 'delivered' else 'read' end as state
        from (
            select n, mod(n * 2654435761, 4294967291) as h
            from generate_series(%(first)s::bigint, %(last)s::bigint) as n
        ) as numbers
    ) as states
) as jobs
