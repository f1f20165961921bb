-- name: lock_contents
-- Orders without a key have no unique index that would stop duplicates, so equal ones are serialized by advisory locks.
-- The buckets come sorted, which prevents deadlocks.
select pg_advisory_xact_lock(hashtext('postrider.accept'), bucket) from unnest(%(buckets)s::integer[]) as bucket

-- name: jobs_of_keys
-- A key lives as long as its job, which every statement sees in exactly one of jobs and the history. A job moves days
-- after its end, so none that is inserted after this query can move before this transaction inserts.
select id, key, content_hash, state from all_jobs where org_id = %(org)s and key = any (%(keys)s::text[])

-- name: jobs_of_contents
-- Newest last: an equal order joins that one. None is old enough to have moved to the history.
select id, key, content_hash, state
from jobs
where org_id = %(org)s and key is null and content_hash = any (%(contents)s::bytea[])
  and created_at > now() - %(within)s::interval
order by created_at

-- name: senders
select accounts.id, lanes.open_at <= now() as open, lane_queued(accounts.id) as queued
from accounts
join lanes using (id)
where accounts.org_id = %(org)s and accounts.deleted_at is null and accounts.id = any (%(accounts)s::text[])

-- name: first_senders
-- Two rows are enough to see that there is not exactly one.
select accounts.id, lanes.open_at <= now() as open, lane_queued(accounts.id) as queued
from accounts
join lanes using (id)
where accounts.org_id = %(org)s and accounts.deleted_at is null
limit 2

-- name: insert_jobs
-- `seq`, the order of acceptance, follows the order in the request. The rows are inserted sorted by key, though: two
-- requests with the same keys in opposite orders would deadlock on the unique index. jobs has no foreign keys: a job takes
-- its org and its account from the account's row.
with given as materialized (
    select id, account_id, key, content_hash, phone, message, priority, metadata, expires_at,
           greatest(send_at, now()) as send_at,
           nextval(pg_get_serial_sequence('jobs', 'seq')) as seq
    from unnest(
        %(ids)s::text[], %(accounts)s::text[], %(keys)s::text[], %(contents)s::bytea[], %(phones)s::text[],
        %(messages)s::text[], %(priorities)s::smallint[], %(metadata)s::text[], %(send_at)s::timestamptz[],
        %(expires_at)s::timestamptz[]
    ) as orders (id, account_id, key, content_hash, phone, message, priority, metadata, send_at, expires_at)
)
insert into jobs (
    id, org_id, account_id, key, content_hash, phone, message, priority, metadata,
    due_at, send_at, expires_at, seq, timeline, request_id
)
overriding system value
select given.id, sender.org_id, sender.id, key, content_hash, phone, message, priority, metadata::json,
       send_at, send_at, coalesce(expires_at, send_at + %(ttl)s::interval), seq, step('queued'), %(request)s
from given
join (select id, org_id from accounts) as sender on sender.id = account_id and sender.org_id = %(org)s
order by key
on conflict (org_id, key) where key is not null do nothing
returning id, due_at <= now() as due
