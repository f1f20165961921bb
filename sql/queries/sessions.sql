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

-- name: set_wanted
update accounts set wanted = %(wanted)s where id = %(account)s

-- name: set_restriction
update accounts set restriction = %(restriction)s, restricted_until = null where id = %(account)s

-- name: count_failure
update accounts set failures_in_a_row = failures_in_a_row + 1 where id = %(account)s returning failures_in_a_row

-- name: open_linked_gate
-- Opens what waited for the session alone; a pause stays.
update lanes
set open_at = '-infinity', gate_reason = null
from accounts
where lanes.id = %(account)s and accounts.id = lanes.id and not accounts.paused
  and lanes.gate_reason in ('not_connected', 'not_linked', 'profile_elsewhere', 'suspected_ban')
