-- name: wait_for_reseal
-- Until the end of this transaction, no run of `postrider keys reseal` lists the live processes.
select pg_advisory_xact_lock_shared(hashtext('postrider.reseal'))

-- name: needed_key
select fingerprint, created_at from sealing_keys order by id desc limit 1

-- name: tell_keys
update workers set fingerprints = %(fingerprints)s::text[] where id = %(worker)s

-- name: sign_api
insert into api_processes (id, host, version, fingerprints)
values (%(id)s, %(host)s, %(version)s, %(fingerprints)s::text[])
on conflict (id) do update set renewed_at = now()

-- name: unregister_api
delete from api_processes where id = %(id)s

-- name: hold_reseal
select pg_advisory_xact_lock(hashtext('postrider.reseal'))

-- name: unready_processes
-- Live processes that do not seal with this key. After Postgres restarts, each gets time to register again. Processes
-- of the API too old to report their keys are seen only by their connections.
select 'worker' as role, id, host, version, fingerprints, extract(epoch from now() - renewed_at)::integer as silent
from workers
where greatest(renewed_at, pg_postmaster_start_time()) > now() - %(silent)s * interval '1 second'
  and fingerprints[1] is distinct from %(fingerprint)s
union all
select 'API', id, host, version, fingerprints, extract(epoch from now() - renewed_at)::integer
from api_processes
where greatest(renewed_at, pg_postmaster_start_time()) > now() - %(silent_api)s * interval '1 second'
  and fingerprints[1] is distinct from %(fingerprint)s
union all
select distinct 'API', null, coalesce(host(client_addr), 'this machine'), null, null::text[], null::integer
from pg_stat_activity
where datname = current_database() and application_name = 'postrider api'
order by role, id

-- name: need_key
-- From now on no process starts without this key.
insert into sealing_keys (fingerprint)
select %(fingerprint)s
where %(fingerprint)s is distinct from (select fingerprint from sealing_keys order by id desc limit 1)

-- name: sealed_endpoints
-- `live` marks secrets that may have to be opened again; those of deleted endpoints stay for their history.
select id, id as about, secret as sealed, deleted_at is null as live
from endpoints
where id > %(after)s
order by id
limit %(most)s

-- name: reseal_endpoints
-- Only where the value is still the one that was read. A locked row is skipped and left for later, so that no other
-- transaction has to be waited for.
with given as (
    select * from unnest(%(ids)s::text[], %(stale)s::bytea[], %(fresh)s::bytea[]) as given (id, stale, fresh)
), held as (
    select endpoints.id, fresh
    from given
    join endpoints using (id)
    where secret = stale
    for no key update of endpoints skip locked
)
update endpoints set secret = fresh from held where endpoints.id = held.id returning endpoints.id

-- name: sealed_old_secrets
select id::text, endpoint_id as about, secret as sealed, expires_at > now() as live
from endpoint_secrets
where id > %(after)s::text::bigint
order by endpoint_secrets.id
limit %(most)s

-- name: reseal_old_secrets
with given as (
    select * from unnest(%(ids)s::text[], %(stale)s::bytea[], %(fresh)s::bytea[]) as given (id, stale, fresh)
), held as (
    select endpoint_secrets.id, fresh
    from given
    join endpoint_secrets on endpoint_secrets.id = given.id::bigint
    where secret = stale
    for no key update of endpoint_secrets skip locked
)
update endpoint_secrets set secret = fresh from held where endpoint_secrets.id = held.id
returning endpoint_secrets.id::text

-- name: sealed_headers
-- Headers stored before 0.4.0 are not sealed.
select id, id as about, headers::text as sealed, deleted_at is null as live
from endpoints
where id > %(after)s and headers <> '{}'
order by id
limit %(most)s

-- name: reseal_headers
with given as (
    select * from unnest(%(ids)s::text[], %(stale)s::text[], %(fresh)s::text[]) as given (id, stale, fresh)
), held as (
    select endpoints.id, fresh
    from given
    join endpoints using (id)
    where headers = stale::jsonb
    for no key update of endpoints skip locked
)
update endpoints set headers = fresh::jsonb from held where endpoints.id = held.id returning endpoints.id

-- name: sealed_proxies
-- A deleted account is opened once more, to be logged out.
select id, id as about, proxy as sealed, deleted_at is null or wanted = 'logged_out' as live
from accounts
where id > %(after)s and proxy is not null
order by id
limit %(most)s

-- name: reseal_proxies
with given as (
    select * from unnest(%(ids)s::text[], %(stale)s::bytea[], %(fresh)s::bytea[]) as given (id, stale, fresh)
), held as (
    select accounts.id, fresh
    from given
    join accounts using (id)
    where proxy = stale
    for no key update of accounts skip locked
)
update accounts set proxy = fresh from held where accounts.id = held.id returning accounts.id

-- name: sealed_signing_secrets
select id, id as about, signing_secret as sealed, revoked_at is null as live
from api_keys
where id > %(after)s and signing_secret is not null
order by id
limit %(most)s

-- name: reseal_signing_secrets
with given as (
    select * from unnest(%(ids)s::text[], %(stale)s::bytea[], %(fresh)s::bytea[]) as given (id, stale, fresh)
), held as (
    select api_keys.id, fresh
    from given
    join api_keys using (id)
    where signing_secret = stale
    for no key update of api_keys skip locked
)
update api_keys set signing_secret = fresh from held where api_keys.id = held.id returning api_keys.id

-- name: sealed_profiles
-- Only their first bytes, which identify the key; a profile is many MB.
select account_id as id, generation, substring(sealed from 1 for %(head)s::integer) as head
from profiles
where account_id > %(after)s
order by account_id
limit %(most)s

-- name: profile_to_reseal
select sealed
from profiles
where account_id = %(id)s and substring(sealed from 1 for %(head)s::integer) = %(stale)s

-- name: reseal_profile
-- The first bytes hold the nonce, so no other sealed copy has the same. The age is not changed: it is that of the
-- login.
update profiles
set sealed = %(fresh)s
where account_id = %(id)s and generation = %(generation)s and substring(sealed from 1 for %(head)s::integer) = %(stale)s
returning account_id as id
