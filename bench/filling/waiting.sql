-- Messages that wait in one lane, which is not connected.
insert into jobs (id, org_id, account_id, key, content_hash, phone, message, due_at, send_at, expires_at, timeline)
select 'job_w' || n, 'org_default', %(full)s, 'waiting-' || n, '', '1556' || lpad(n::text, 7, '0'), %(message)s,
       now(), now(), now() + interval '7 days', step('queued')
from generate_series(%(first)s::integer, %(last)s::integer) as n
