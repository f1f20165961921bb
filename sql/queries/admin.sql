-- name: pause_all
-- Orgs that are paused already keep their time.
update orgs set paused_at = coalesce(paused_at, now()) returning paused_at

-- name: resume_all
update orgs set paused_at = null

-- name: create_qr_token
insert into qr_tokens (token_hash, org_id, account_id, expires_at)
select %(hash)s, org_id, id, now() + %(seconds)s * interval '1 second'
from accounts
where id = %(account)s and deleted_at is null
returning account_id

-- name: trade_qr_token
-- One statement, so that of two visits at the same moment only one gets the token. The same visit gets it again.
update qr_tokens
set spent_at = coalesce(spent_at, now()),
    visit_hash = %(visit)s,
    visit_expires_at = coalesce(visit_expires_at, now() + %(seconds)s * interval '1 second')
where token_hash = %(hash)s
  and (spent_at is null and expires_at > now() or visit_hash = %(visit)s and visit_expires_at > now())
returning account_id

-- name: qr_token
select spent_at is not null as spent, spent_at is null and expires_at > now() as good from qr_tokens where token_hash = %(hash)s

-- name: qr_visit
select accounts.id, name, wanted, linked, state, qr, qr_expires_at, qr_expires_at <= now() as expired, pairing_phone,
       extract(epoch from qr_expires_at - now())::float8 as seconds_left,
       visit_expires_at <= now() or deleted_at is not null as over
from qr_tokens
join accounts on accounts.id = qr_tokens.account_id
where visit_hash = %(visit)s
