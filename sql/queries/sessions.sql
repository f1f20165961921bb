-- name: account_to_drain
select id, org_id, transport, wanted, state, paused, restriction, profile_home, profile_generation,
       first_ready_at is not null as linked_before, failures_in_a_row
from accounts
where id = %(account)s and deleted_at is null

-- name: lease_account
-- One live session per account in the cluster. A takeover begins 5 s after the lease ended, by Postgres's clock alone.
update accounts
set leased_by = %(worker)s, lease_until = now() + %(lease)s * interval '1 second'
where id = %(account)s
  and (leased_by is null or leased_by = %(worker)s or lease_until < now() - interval '5 seconds')
returning id

-- name: lease_holder
select leased_by, lease_until > now() as live from accounts where id = %(account)s

-- name: release_account
-- Asleep, when it was linked: its profile stays. move_lane gives its wake-ups back to everybody in the same transaction.
update accounts
set leased_by = null, lease_until = null, qr = null, qr_expires_at = null,
    disconnected_at = case when state in ('ready', 'authenticated') then now() else disconnected_at end,
    state = case when state in ('ready', 'authenticated', 'starting') and first_ready_at is not null then 'hibernated'
                 when state in ('authenticated', 'starting', 'qr_pending') then 'not_started' else state end,
    state_reason = case when state in ('ready', 'authenticated', 'starting', 'qr_pending') then %(reason)s
                        else state_reason end,
    state_since = case when state in ('ready', 'authenticated', 'starting', 'qr_pending') then now() else state_since end
where id = %(account)s and leased_by = %(worker)s

-- name: new_profile
-- A profile that is created or restored is a new generation: an older one shows less than was sent.
update accounts
set profile_home = %(home)s, profile_generation = profile_generation + 1
where id = %(account)s and leased_by = %(worker)s
returning profile_generation

-- name: set_state
update accounts
set state = %(state)s, state_reason = %(reason)s, state_since = case when state = %(state)s then state_since else now() end,
    qr = case when %(state)s = 'qr_pending' then qr end,
    qr_expires_at = case when %(state)s = 'qr_pending' then qr_expires_at end,
    disconnected_at = case when %(state)s in ('disconnected', 'suspected_ban') then now() else disconnected_at end
where id = %(account)s

-- name: set_ready
update accounts
set state = 'ready', state_reason = null, state_since = now(), qr = null, qr_expires_at = null, connected_at = now(),
    last_open_at = now(), first_ready_at = coalesce(first_ready_at, now()), phone = coalesce(%(phone)s, phone)
where id = %(account)s

-- name: set_qr
update accounts
set qr = %(qr)s, qr_expires_at = now() + %(seconds)s * interval '1 second'
where id = %(account)s

-- name: set_restriction
update accounts set restriction = %(restriction)s, restricted_until = null where id = %(account)s

-- name: count_failure
update accounts set failures_in_a_row = failures_in_a_row + 1 where id = %(account)s returning failures_in_a_row

-- name: open_linked_gate
-- Opens what waited for the session alone. The account is locked first, as every call of the API does: a pause or a
-- disconnect that is being written counts.
with account as (
    select id from accounts
    where id = %(account)s and not paused and wanted = 'connected'
    for share
)
update lanes
set open_at = '-infinity', gate_reason = null
from account
where lanes.id = account.id and lanes.gate_reason in ('not_linked', 'profile_elsewhere', 'suspected_ban')

-- name: lock_account
select id from accounts where id = %(account)s for update

-- name: give_back
-- Nobody scanned: the account is to be disconnected, unless somebody asked again since this drain began.
with lane as (
    update lanes
    set open_at = 'infinity', gate_reason = 'not_connected'
    where id = %(account)s and (attend_at is null or attend_at <= %(began)s)
    returning id
)
update accounts
set wanted = 'disconnected', state = 'disconnected', state_reason = %(reason)s, state_since = now(), qr = null,
    qr_expires_at = null
from lane
where accounts.id = lane.id

-- name: leased_accounts
select id from accounts where leased_by = %(worker)s

-- name: worker_at_home
select workers.id
from accounts
join workers on workers.home = accounts.profile_home
where accounts.id = %(account)s and workers.id <> %(worker)s and workers.renewed_at > now() - interval '30 seconds'
order by workers.created_at desc
limit 1
