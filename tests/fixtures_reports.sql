-- A fortnight of two accounts in two zones, from Monday 2026-11-09 on: the data of docs/reporting.md.
insert into lanes (id, org_id, kind, queue) values
    ('acc_berlin', 'org_default', 'account', 'account'), ('acc_paulo', 'org_default', 'account', 'account'),
    ('whe_shop', 'org_default', 'endpoint', 'endpoint');
insert into accounts (id, org_id, name, transport, time_zone, state, created_at, first_ready_at)
values ('acc_berlin', 'org_default', 'Bakery Berlin', 'sandbox', 'Europe/Berlin', 'ready', '2026-11-09 05:00+00', '2026-11-09 05:30+00'),
       ('acc_paulo', 'org_default', 'Padaria Paulista', 'sandbox', 'America/Sao_Paulo', 'ready', '2026-11-09 08:00+00', '2026-11-09 08:30+00');
update accounts set pace = true where id = 'acc_berlin';
update accounts set restriction = 'new_chats', restricted_until = '2099-01-01' where id = 'acc_paulo';
insert into workers (id, host, version, home, seats, duties, pace_limits)
values ('wrk_1', 'here', '0.6.0', 'home', 2, '{sessions,webhooks}',
        '{"per_minute": 20, "per_hour": 100, "per_day": 1000, "ramp_start": 100, "ramp_step": 50, "ramp_max": 2000}');

with days as (
    select account, zone, messages + (number * 7) % 13 as messages, date '2026-11-09' + number as day, number
    from (values ('acc_berlin', 'Europe/Berlin', 40), ('acc_paulo', 'America/Sao_Paulo', 12)) as accounts (account, zone, messages)
    cross join generate_series(0, 13) as number
    -- The bakery is closed on Sundays.
    where not (account = 'acc_berlin' and number in (6, 13))
), orders as (
    select account, number, place, (day + time '08:00' + place * interval '11 minutes') at time zone zone as at,
           (place * 41 + number * 17) % 100 as draw
    from days cross join generate_series(1, messages) as place
), lived as (
    select *, case when draw < 4 then 'failed' when draw < 5 then 'unknown' when draw < 6 then 'hung' when draw < 7 then 'cancelled'
                   when draw < 18 then 'sent' when draw < 42 then 'delivered' else 'read' end as fate,
           -- From 16:00 on more is waiting than is sent in a minute.
           at + make_interval(secs => 2 + (place * place * 7) % 9 + case when place > 43 then 240 else 0 end) as ended
    from orders
)
insert into jobs (id, org_id, account_id, key, content_hash, phone, message, metadata, state, due_at, send_at, expires_at, attempts,
                  error_code, error_detail, created_at, started_at, submitted_at, sent_at, delivered_at, read_at, ended_at, timeline)
select 'job_' || account || '_' || number || '_' || place, 'org_default', account,
       case when account = 'acc_berlin' then 'order-' || number * 100 + place end, '', '1555' || case account when 'acc_berlin' then 1000000 else 2000000 end + (number * 100 + place * 17) % 900,
       'Your order is on its way.', case when number = 11 then '{"campaign":"friday"}' end::json,
       case when fate in ('unknown', 'hung') then 'failed' else fate end, at, at, at + interval '1 day', 1,
       case fate when 'failed' then 'not_on_whatsapp' when 'unknown' then 'outcome_unknown' when 'hung' then 'page_hung' end,
       case fate when 'failed' then 'This number is not on WhatsApp.' when 'unknown' then 'The message may have been sent: no tick was seen.'
                 when 'hung' then 'WhatsApp''s page did not answer.' end,
       at, ended - interval '1 second', ended - interval '1 second', case when fate in ('sent', 'delivered', 'read') then ended end,
       case when fate in ('delivered', 'read') then ended + interval '3 seconds' end,
       case when fate = 'read' then ended + interval '9 minutes' end, ended,
       jsonb_build_array(
           jsonb_build_object('at', to_char(at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), 'status', 'queued'),
           jsonb_build_object('at', to_char(ended at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), 'status',
                              case when fate in ('unknown', 'hung') then 'failed' when fate in ('delivered', 'read') then 'sent' else fate end))
from lived;

-- What waits for Christmas.
insert into jobs (id, org_id, account_id, key, content_hash, phone, message, due_at, send_at, expires_at, created_at, timeline)
select 'job_later_' || n, 'org_default', 'acc_berlin', 'christmas-' || n, '', '15552000' || n, 'Your cake is ready.', '2099-12-24',
       '2099-12-24', '2099-12-25', '2026-11-21 17:00+00', '[{"at":"2026-11-21T17:00:00Z","status":"queued"}]'
from generate_series(100, 119) as n;

insert into incoming (id, org_id, account_id, bubble, phone, chat, text, is_answer, created_at)
select 'msg_' || n, 'org_default', case when n % 3 = 0 then 'acc_paulo' else 'acc_berlin' end, 'b' || n, '1555100' || 1000 + n, '', 'Thank you!',
       n % 4 <> 0, '2026-11-10 12:00+00'::timestamptz + n * interval '7 hours'
from generate_series(1, 36) as n;
insert into opt_outs (id, org_id, phone, account_id, reason, created_at)
values ('opt_1', 'org_default', '15551000117', 'acc_berlin', 'STOP', '2026-11-12 10:00+00'),
       ('opt_2', 'org_default', '15551000217', 'acc_berlin', 'STOPP', '2026-11-19 15:00+00'),
       ('opt_3', 'org_default', '15551000317', 'acc_paulo', 'PARAR', '2026-11-20 15:00+00');

insert into endpoints (id, org_id, url, description, events, secret, status)
values ('whe_shop', 'org_default', 'https://shop.example/hooks', 'Shop', '{*}', '', 'enabled');
