-- name: create_account
-- Its lane is closed until somebody connects it.
with lane as (
    insert into lanes (id, org_id, kind, queue, open_at, gate_reason)
    values (%(id)s, %(org)s, 'account', 'account', 'infinity', 'not_connected')
)
insert into accounts (id, org_id, name, transport) values (%(id)s, %(org)s, %(name)s, %(transport)s)

-- name: list_accounts
-- Oldest first, or only the one asked for; a page begins after the last row of the one before. The page is cut before
-- anything is counted.
with page as (
    select accounts.*, lanes.open_at
    from accounts
    join lanes using (id)
    where accounts.org_id = %(org)s and accounts.deleted_at is null
      and (%(account)s::text is null or accounts.id = %(account)s)
      and (accounts.created_at, accounts.id) > (coalesce(%(after_at)s::timestamptz, '-infinity'), %(after_id)s::text)
    order by accounts.created_at, accounts.id
    limit %(limit)s
)
select id, name, transport, wanted, state, state_reason, state_since, restriction, restricted_until, paused, phone,
       profile_name, platform, connected_at, disconnected_at, last_open_at, created_at,
       case when lease_until > now() then leased_by end as worker,
       waiting.queued,
       case when waiting.queued > 0 and open_at < 'infinity' then greatest(waiting.due_at, open_at) end as next_send_at,
       sent.today as sent_today
from page
cross join lateral (
    select count(*) as queued, min(due_at) as due_at from jobs where account_id = page.id and state = 'queued'
) as waiting
cross join lateral (
    select count(*) as today from jobs where account_id = page.id and sent_at >= date_trunc('day', now())
) as sent
order by created_at, id

-- name: connect_account
update accounts set wanted = 'connected'
where id = %(account)s and org_id = %(org)s and deleted_at is null
returning wanted, paused

-- name: disconnect_account
update accounts set wanted = 'disconnected'
where id = %(account)s and org_id = %(org)s and deleted_at is null
returning wanted, paused

-- name: pause_account
update accounts set paused = true
where id = %(account)s and org_id = %(org)s and deleted_at is null
returning wanted, paused

-- name: resume_account
-- Also the end of a quarantine: the breaker counts anew.
update accounts set paused = false, failures_in_a_row = 0
where id = %(account)s and org_id = %(org)s and deleted_at is null
returning wanted, paused

-- name: pause_gate
-- A gate that is closed for good keeps its reason: an account in quarantine stays in it.
update lanes set open_at = 'infinity', gate_reason = 'paused' where id = %(lane)s and open_at < 'infinity'

-- name: show_qr
select state, qr, qr_expires_at, qr_expires_at <= now() as expired
from accounts
where id = %(account)s and org_id = %(org)s and deleted_at is null
