-- name: lock_contents
-- Equal orders without a key have no unique index to meet at. The buckets come sorted.
select pg_advisory_xact_lock(hashtext('postrider.accept'), bucket) from unnest(%(buckets)s::integer[]) as bucket

-- name: jobs_of_keys
-- A key lives as long as its job, which is in jobs or in the history, and to one statement in exactly one of them. A job
-- moves days after its end: none that is inserted after this look has moved before this transaction inserts.
select id, key, content_hash, state from all_jobs where org_id = %(org)s and key = any (%(keys)s::text[])

-- name: jobs_of_contents
-- The newest last: it is the one that an equal order joins. None is so old that it has moved to the history.
select id, key, content_hash, state
from jobs
where org_id = %(org)s and key is null and content_hash = any (%(contents)s::bytea[])
  and created_at > now() - %(within)s::interval
order by created_at

-- name: senders
select accounts.id, lanes.open_at <= now() as open
from accounts
join lanes using (id)
where accounts.org_id = %(org)s and accounts.deleted_at is null and accounts.id = any (%(accounts)s::text[])

-- name: first_senders
-- Two are enough to see that there is not exactly one.
select accounts.id, lanes.open_at <= now() as open
from accounts
join lanes using (id)
where accounts.org_id = %(org)s and accounts.deleted_at is null
limit 2

-- name: lock_queue
-- Let those in one after the other that might step over the bound together. Not by the lane's row: a change of state holds
-- the account's row and then wants the lane's, and an insert into jobs, with the lane's in hand, looks at the account's.
select pg_advisory_xact_lock(hashtext('postrider.room'), hashtext(%(account)s))

-- name: count_queued
-- Up to the bound only; more makes no difference.
select count(*) as queued
from (select from jobs where account_id = %(account)s and state = 'queued' limit %(most)s::integer) as waiting

-- name: insert_jobs
-- The order of acceptance (seq) is that of the request. The rows go in by key, though: two requests with the same keys
-- in opposite orders would wait for each other's unique index entries.
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
select id, %(org)s, account_id, key, content_hash, phone, message, priority, metadata::json,
       send_at, send_at, coalesce(expires_at, send_at + %(ttl)s::interval), seq, step('queued'), %(request)s
from given
order by key
on conflict (org_id, key) where key is not null do nothing
returning id, due_at <= now() as due
