-- name: create_endpoint
with lane as (
    insert into lanes (id, org_id, kind, queue) values (%(id)s, %(org)s, 'endpoint', 'endpoint-slow')
)
insert into endpoints (id, org_id, url, events, description, secret, headers, retry)
values (
    %(id)s, %(org)s, %(url)s, %(events)s::text[], %(description)s, %(secret)s, %(headers)s::text::jsonb,
    %(retry)s::text::jsonb
)
returning id, url, events, description, status, status_reason, retry, created_at

-- name: list_endpoints
-- Oldest first, or only the one asked for; a page begins after the last row of the one before.
select id, url, events, description, status, status_reason, retry, created_at
from endpoints
where org_id = %(org)s and deleted_at is null
  and (%(endpoint)s::text is null or id = %(endpoint)s)
  and (created_at, id) > (coalesce(%(after_at)s::timestamptz, '-infinity'), %(after_id)s::text)
order by created_at, id
limit %(limit)s

-- name: delete_endpoint
-- It stays for its history, and so that an event that is written this moment finds it; what waits for it ends.
with deleted as (
    update endpoints set deleted_at = now()
    where id = %(endpoint)s and org_id = %(org)s and deleted_at is null
    returning id
), ended as (
    update deliveries set state = 'failed', ended_at = now(), last_error = 'The endpoint was deleted.'
    from deleted
    where endpoint_id = deleted.id and state = 'pending'
)
select id from deleted

-- name: put_bootstrap_endpoint
-- Another URL is another receiver: whatever disabled the old one does not hold for it.
with lane as (
    insert into lanes (id, org_id, kind, queue) values ('whe_bootstrap', 'org_default', 'endpoint', 'endpoint')
    on conflict do nothing
)
insert into endpoints (id, org_id, url, events, description, secret)
values ('whe_bootstrap', 'org_default', %(url)s, '{*}', 'WEBHOOK_URL', %(secret)s)
on conflict (id) do update
set url = excluded.url, secret = excluded.secret, deleted_at = null,
    status = case when endpoints.url = excluded.url then endpoints.status else 'enabled' end,
    status_reason = case when endpoints.url = excluded.url then endpoints.status_reason end
