-- name: create_account
-- Its lane is closed until somebody connects it.
with lane as (
    insert into lanes (id, org_id, kind, queue, open_at, gate_reason)
    values (%(id)s, %(org)s, 'account', 'account', 'infinity', 'not_connected')
)
insert into accounts (id, org_id, name, transport, time_zone, pace, proxy, proxy_shown)
values (%(id)s, %(org)s, %(name)s, %(transport)s, coalesce(%(zone)s, 'UTC'),
        coalesce(%(pace)s, %(transport)s <> 'sandbox'), %(proxy)s, %(proxy_shown)s)

-- name: count_accounts
select count(*) as accounts from accounts where org_id = %(org)s and deleted_at is null

-- name: known_zone
select name from pg_timezone_names where name = %(zone)s

-- name: account_to_change
-- A browser may be open from the moment its lease is taken.
select id, time_zone, linked, coalesce(lease_until > now(), false) as open
from accounts
where id = %(account)s and org_id = %(org)s and deleted_at is null
for no key update

-- name: change_account
-- Null leaves a column as it is; a proxy may be set to null.
update accounts
set name = coalesce(%(name)s, name), time_zone = coalesce(%(zone)s, time_zone), pace = coalesce(%(pace)s, pace),
    proxy = case when %(with_proxy)s then %(proxy)s else proxy end,
    proxy_shown = case when %(with_proxy)s then %(proxy_shown)s::jsonb else proxy_shown end
where id = %(account)s

-- name: open_paced_gate
-- Opens a gate that was closed by pace alone, when the account's pace is switched off.
update lanes set open_at = '-infinity', gate_reason = null
where id = %(lane)s and (gate_reason like 'pace%%' or gate_reason = 'quiet_hours')
returning id

-- name: delete_account
-- The row stays for the account's history, and until a drain has logged it out.
update accounts set deleted_at = now() where id = %(account)s

-- name: list_accounts
-- Oldest first, or only the one asked for; a page begins after the last row of the one before. The page is cut before
-- anything is counted. A day is one of the account's time zone.
with page as (
    select accounts.*, accounts as account, midnight((now() at time zone time_zone)::date, time_zone) as began_at,
           case when orgs.stopped then 'infinity' else lanes.open_at end as open_at
    from accounts
    join lanes using (id)
    join orgs on orgs.org_id = accounts.org_id
    where accounts.org_id = %(org)s and accounts.deleted_at is null
      and (%(account)s::text is null or accounts.id = %(account)s)
      and (accounts.created_at, accounts.id) > (%(after_at)s::timestamptz, %(after_id)s::text)
    order by accounts.created_at, accounts.id
    limit %(limit)s
)
select id, name, transport, wanted, state, state_reason, state_since, restriction, restricted_until, paused, phone,
       time_zone, linked, case when pace then 'on' else 'off' end as pace, proxy_shown as proxy,
       profile_name, platform, heavy_mb, can_go_back(page.account) as can_go_back, (select duty_is_done('sessions')) as is_served, connected_at, disconnected_at,
       last_open_at, created_at,
       case when lease_until > now() then leased_by end as worker,
       waiting.queued,
       case when waiting.due_at is not null and open_at < 'infinity'
            then greatest(waiting.due_at, open_at, paced.opens_at) end as next_send_at,
       sent.today as sent_today, received.today as received_today, paced.day_limit as daily_limit, paced.day_used
from page
cross join lateral (
    select lane_queued(page.id) as queued,
           least((select due_at from jobs where account_id = page.id and claim is null and ended_at is null and priority = 1
                  order by due_at limit 1),
                 (select due_at from jobs where account_id = page.id and claim is null and ended_at is null and priority = 0
                  order by due_at limit 1)) as due_at
) as waiting
cross join lateral (
    select count(*) as today from jobs where account_id = page.id and ended_at >= began_at and sent_at >= began_at
) as sent
cross join lateral (
    select count(*) as today from incoming where account_id = page.id and created_at >= began_at
) as received
cross join lateral pace_of(page.id, %(limits)s::jsonb, now()) as paced
order by created_at, id

-- name: connect_account
-- A pairing code that is awaited stays; one of an earlier try is cleared.
update accounts
set wanted = 'connected', reconnects = 0, pairing_phone = case when wanted = 'connected' then pairing_phone end
where id = %(account)s and org_id = %(org)s and deleted_at is null
returning wanted, paused

-- name: disconnect_account
update accounts set wanted = 'disconnected', pairing_phone = null
where id = %(account)s and org_id = %(org)s and deleted_at is null
returning wanted, paused

-- name: log_out_account
update accounts set wanted = 'logged_out', pairing_phone = null
where id = %(account)s and org_id = %(org)s and deleted_at is null
returning wanted, paused

-- name: pause_account
update accounts set paused = true
where id = %(account)s and org_id = %(org)s and deleted_at is null
returning wanted, paused

-- name: resume_account
-- Also ends a quarantine: the count of failures starts over, and new chats are tried again. A login that was kept when
-- the page asked for a phone becomes the account's again and is opened; the profile of a link that was begun since is
-- abandoned. Jobs that were being sent, or were submitted, when the page was not recognised are treated as in
-- open_known_gate.
with held as (
    select accounts as account
    from accounts
    where id = %(account)s and org_id = %(org)s and deleted_at is null
    for no key update
), blamed as (
    update jobs set attempts = greatest(attempts, 1), due_at = greatest(due_at, now())
    from held
    where jobs.account_id = (held.account).id and (held.account).probe_at is not null
      and claim is null and ended_at is null and started_at is not null and jobs.error_code = 'ui_changed'
), settling as (
    update jobs set due_at = least(due_at, now()), look_at = now()
    from held
    where jobs.account_id = (held.account).id and (held.account).probe_at is not null
      and claim is not null and ended_at is null and jobs.state = 'submitting'
), back as (
    update profiles set kept_since = null
    from held
    where account_id = (held.account).id and kept_since is not null and can_go_back(held.account)
    returning account_id
)
update accounts
set paused = false, failures_in_a_row = 0, reconnects = 0, unknown_in_a_row = 0, probes = 0, probe_at = null,
    stopped_by = null, restriction = null, restricted_until = null,
    wanted = case when back.account_id is null then wanted else 'connected' end,
    linked = linked or back.account_id is not null,
    pairing_phone = case when back.account_id is null then pairing_phone end,
    profile_home = case when back.account_id is null then profile_home end,
    profile_generation = profile_generation + case when back.account_id is null then 0 else 1 end
from held
left join back on account_id = (held.account).id
where id = (held.account).id
returning wanted, paused

-- name: pause_gate
-- A gate that is closed without an end keeps its reason: an account in quarantine stays in it.
update lanes set open_at = 'infinity', gate_reason = 'paused' where id = %(lane)s and open_at < 'infinity'

-- name: ask_pairing_code
-- Never for a linked account: asking for a code was seen to unlink it. A code that is shown for another number is not
-- returned.
update accounts
set wanted = 'connected', pairing_phone = %(phone)s,
    pairing_code = case when pairing_phone = %(phone)s then pairing_code end,
    pairing_expires_at = case when pairing_phone = %(phone)s then pairing_expires_at end
where id = %(account)s and org_id = %(org)s and deleted_at is null and not linked
returning wanted, paused

-- name: show_pairing_code
select state, wanted, linked, pairing_phone as phone,
       case when pairing_expires_at > now() then pairing_code end as code,
       case when pairing_expires_at > now() then pairing_expires_at end as expires_at
from accounts
where id = %(account)s and org_id = %(org)s and deleted_at is null

-- name: show_qr
select state, qr, qr_expires_at, qr_expires_at <= now() as expired
from accounts
where id = %(account)s and org_id = %(org)s and deleted_at is null
