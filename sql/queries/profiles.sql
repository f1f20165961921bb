-- name: new_profile
-- A profile that is created anew is a new generation: it shows none of the messages that were sent. Matches the
-- generation before: a person may have gone back to a kept login meanwhile.
update accounts
set profile_home = %(home)s, profile_generation = profile_generation + 1
where id = %(account)s and leased_by = %(worker)s and lease_until > now() and profile_generation = %(generation)s
returning profile_generation as generation

-- name: use_profile
-- Opens the directory named in Postgres. From now on its sealed copy is incomplete.
with held as (
    select id from accounts
    where id = %(account)s and leased_by = %(worker)s and lease_until > now()
      and profile_home = %(home)s and profile_generation = %(generation)s
    for no key update
), opened as (
    update profiles set whole = false from held where account_id = held.id and whole
)
select id from held

-- name: sealed_profile
select generation, whole, sealed from profiles where account_id = %(account)s and kept_since is null

-- name: any_sealed_profile
select generation from profiles where account_id = %(account)s

-- name: restore_profile
-- Restoring an incomplete copy is a new generation: an older one shows fewer messages than were sent.
with held as (
    select accounts.id, profiles.whole
    from accounts
    join profiles on profiles.account_id = accounts.id and profiles.generation = %(sealed)s
    where accounts.id = %(account)s and leased_by = %(worker)s and lease_until > now()
    for no key update
), opened as (
    update profiles set whole = false from held where account_id = held.id
)
update accounts
set profile_home = %(home)s,
    profile_generation = case when held.whole and profile_generation = %(sealed)s then profile_generation
                              else profile_generation + 1 end
from held
where accounts.id = held.id
returning profile_generation as generation

-- name: store_profile
-- Matches lease, home and generation: a late copy never replaces a newer one, nor does the copy of a running browser
-- replace a complete one. None replaces a kept login, which is deleted when the new one is ready (drop_kept_profile).
with held as (
    select id, org_id from accounts
    where id = %(account)s and leased_by = %(worker)s and lease_until > now()
      and profile_home = %(home)s and profile_generation = %(generation)s
    for no key update
)
insert into profiles (account_id, org_id, generation, whole, sealed, raw_bytes, worker)
select id, org_id, %(generation)s, %(whole)s, %(sealed)s, %(raw_bytes)s, %(worker)s from held
on conflict (account_id) do update
set generation = excluded.generation, whole = excluded.whole, sealed = excluded.sealed, raw_bytes = excluded.raw_bytes,
    worker = excluded.worker, created_at = now()
where profiles.kept_since is null
  and (profiles.generation < excluded.generation
       or profiles.generation = excluded.generation and (excluded.whole or not profiles.whole))
returning account_id

-- name: delete_profile
-- Logged out: the sealed copy is deleted too, and no directory belongs to the account any more.
with held as (
    update accounts
    set linked = false, profile_home = null, profile_generation = profile_generation + 1, pairing_phone = null
    where id = %(account)s and leased_by = %(worker)s
    returning id
)
delete from profiles using held where account_id = held.id

-- name: set_profile_aside
-- The account's page asks for a phone: no directory belongs to the account any more, and the last sealed copy is kept
-- until a new login is ready, a person drops it, or it is too old. A copy that is kept already stays, and keeps its
-- age.
with held as (
    update accounts
    set linked = false, profile_home = null, profile_generation = profile_generation + 1, pairing_phone = null
    where id = %(account)s and leased_by = %(worker)s
    returning id
)
update profiles set kept_since = coalesce(kept_since, now()), whole = false from held where account_id = held.id

-- name: drop_kept_profile
-- A new login is ready.
delete from profiles using accounts
where accounts.id = %(account)s and leased_by = %(worker)s and account_id = accounts.id and kept_since is not null

-- name: living_homes
select home from workers where renewed_at > now() - interval '60 seconds'

-- name: profiles_at_home
select id, profile_generation as generation from accounts where profile_home = %(home)s and linked
