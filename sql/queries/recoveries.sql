-- name: create_recovery
-- Events from now on are delivered anyway. A concurrent transaction that disables the endpoint waits for this one, and
-- then stops the recovery.
insert into recoveries (id, org_id, endpoint_id, since, until, place_at)
select %(id)s, org_id, id, %(since)s::timestamptz, least(%(until)s::timestamptz, now()), %(since)s
from endpoints
where id = %(endpoint)s and org_id = %(org)s and deleted_at is null and status <> 'disabled'
  and %(since)s < least(%(until)s, now())
  and (select count(*) from recoveries where endpoint_id = endpoints.id and state in ('counting', 'running')) < %(most)s
for share
returning id

-- name: show_recovery
select id, endpoint_id, since, until, state, total, done, created_at, ended_at
from recoveries
where org_id = %(org)s and endpoint_id = %(endpoint)s and id = %(recovery)s

-- name: recover_some
-- One step of the endpoint's oldest open recovery: look at the next events and count the missing ones; once all are
-- counted, create deliveries for the first of them. Its position advances in the same statement, so that after any
-- crash the next step begins where this one ended. Locks are taken in the same order as by the queries that change an
-- endpoint.
with lane as materialized (
    select id from fenced_if_open(%(lane)s, %(epoch)s)
), endpoint as materialized (
    select endpoints.id, events from lane join endpoints using (id)
    where status = 'enabled' and deleted_at is null
    for share of endpoints
), recovery as materialized (
    select *, state = 'counting' as counts, case state when 'counting' then %(look)s::bigint else %(most)s end as most
    from recoveries
    where endpoint_id = (select id from endpoint) and state in ('counting', 'running') and settled(begun_in, created_at)
    order by created_at, id
    limit 1
    for no key update
), seen as materialized (
    select event.id, event.created_at, wants(endpoint.id, events, type, body) as wanted
    from lane
    cross join recovery
    cross join endpoint
    cross join lateral (
        select id, created_at, type, body
        from outbox
        where org_id = recovery.org_id and created_at >= place_at and created_at < until
          and (created_at, id) > (place_at, place_id)
        order by created_at, id
        limit %(look)s
    ) as event
), missing as materialized (
    select id, created_at
    from seen
    where wanted and coalesce(
        (select state from deliveries where event_id = seen.id and endpoint_id = %(lane)s), 'failed') = 'failed'
    order by created_at, id
    limit (select most from recovery)
), made as (
    insert into deliveries (id, org_id, event_id, event_at, type, endpoint_id)
    select 'dlv_' || replace(gen_random_uuid()::text, '-', ''), org_id, id, created_at, type, %(lane)s
    from outbox
    join missing using (id, created_at)
    where (select not counts from recovery)
    order by created_at, id
    for key share of outbox
    on conflict (event_id, endpoint_id) do update
    set state = 'pending', due_at = now(), replayed = deliveries.attempts, ended_at = null
    where deliveries.state = 'failed'
    returning id
), brought as (
    select count(*) = (select most from recovery) as all_it_may from missing
), place as (
    -- All events looked at, unless the missing ones fill a step.
    select last.id, last.created_at, not all_it_may and (select count(*) from seen) < %(look)s as over
    from brought
    left join lateral (
        select id, created_at from missing where all_it_may
        union all
        select id, created_at from seen where not all_it_may
        order by created_at desc, id desc
        limit 1
    ) as last on true
)
update recoveries
set state = case when not over then recoveries.state when counts then 'running' else 'done' end,
    total = case when counts then recoveries.total + (select count(*) from missing)
                 when over then recoveries.done + (select count(*) from made)
                 else recoveries.total end,
    done = recoveries.done + (select count(*) from made),
    place_at = case when over and counts then recoveries.since else coalesce(place.created_at, recoveries.place_at) end,
    place_id = case when over and counts then '' else coalesce(place.id, recoveries.place_id) end,
    ended_at = case when over and not counts then now() end
from recovery
cross join lane
cross join place
where recoveries.id = recovery.id
returning recoveries.id, recoveries.state, (select count(*) from made) as made
