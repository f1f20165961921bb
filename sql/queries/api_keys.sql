-- name: find_key
select * from door.find_key(%(hash)s)

-- name: accept_signature
-- Each signature is accepted once in the cluster: no row means that it was used before. Upkeep deletes the old ones.
insert into request_signatures (signature, org_id)
values (%(signature)s, %(org)s)
on conflict do nothing
returning signature

-- name: other_key
-- A key, revoked or not, that has the hash of API_KEY but another id.
select id, name, revoked_at is not null as revoked from api_keys where key_hash = %(hash)s and id <> 'key_bootstrap'

-- name: put_bootstrap_key
insert into api_keys (id, org_id, name, key_hash, signing_secret)
values ('key_bootstrap', %(org)s, 'API_KEY', %(hash)s, %(signing_secret)s)
on conflict (id) do update
set key_hash = excluded.key_hash, signing_secret = excluded.signing_secret, revoked_at = null

-- name: revoke_bootstrap_key
update api_keys set revoked_at = now() where id = 'key_bootstrap' and revoked_at is null

-- name: create_key
insert into api_keys (id, org_id, name, key_hash, signing_secret)
values (%(id)s, %(org)s, %(name)s, %(hash)s, %(signing_secret)s)

-- name: list_keys
select id, org_id, name, signing_secret is not null as signs, created_at, revoked_at
from api_keys
order by created_at, id

-- name: revoke_key
update api_keys set revoked_at = now() where id = %(id)s and revoked_at is null returning id

-- name: key_of_org
select key_hash from api_keys where org_id = %(org)s and revoked_at is null order by created_at, id limit 1
