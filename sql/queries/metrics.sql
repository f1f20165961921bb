-- name: waiting_deliveries
-- At most `most` of each endpoint that are due, and as many that are due later: a backlog must not make them too slow to
-- count, and neither must a million endpoints for which nothing waits. seconds: how long the oldest of them has been due.
with recursive waited_for (id) as (
    (select endpoint_id from deliveries where ended_at is null order by endpoint_id limit 1)
    union all
    select (
        select endpoint_id from deliveries where ended_at is null and endpoint_id > waited_for.id
        order by endpoint_id limit 1)
    from waited_for
    where id is not null
)
select case when endpoints.status = 'paused' then 'paused'
            when lanes.open_at > now() then 'resting'
            else part.name end as reason,
       sum(waiting.deliveries)::bigint as deliveries,
       greatest(0, extract(epoch from now() - min(waiting.oldest)))::float8 as seconds
from waited_for
join endpoints using (id)
join lanes using (id)
cross join (values ('due', '-infinity', now()), ('later', now(), 'infinity')) as part (name, after, until)
cross join lateral (
    select count(*) as deliveries, min(due_at) as oldest
    from (
        select due_at from deliveries
        where endpoint_id = endpoints.id and ended_at is null and state = 'pending'
          and due_at > part.after::timestamptz and due_at <= part.until
        order by due_at
        limit %(most)s
    ) as first
) as waiting
where endpoints.deleted_at is null and waiting.deliveries > 0
group by 1

-- name: count_endpoints
select status, count(*) as endpoints from endpoints where deleted_at is null group by 1

-- name: duties_done
-- Work that waits behind an open gate is counted only where no process does that duty: only then does it matter, and it
-- is too slow to be counted often. Not more than `most` are counted.
select duty,
       (select count(*) from workers where duty = any (duties) and renewed_at > now() - interval '30 seconds') as workers,
       case when duty_is_done(duty) then 0
            when duty = 'sessions' then (
                select count(*) from (
                    select from jobs join lanes on lanes.id = account_id
                    where claim is null and ended_at is null and due_at <= now() and open_at <= now() limit %(most)s) as first)
            else (
                select count(*) from (
                    select from deliveries join lanes on lanes.id = endpoint_id
                    where ended_at is null and due_at <= now() and open_at <= now() limit %(most)s) as first)
            end as waiting
from unnest(array['sessions', 'webhooks']) as duty

-- name: oldest_rows
-- How old the oldest row is that upkeep moves or deletes for its age, by table; each is the first of an index.
select oldest.name, extract(epoch from now() - at)::float8 as seconds
from (
    select 'jobs', min(ended_at) from jobs
    union all select 'jobs_history', min(ended_at) from jobs_history
    union all select 'outbox', min(created_at) from outbox
    union all select 'deliveries', min(ended_at) from deliveries
    union all (select 'attempts', created_at from attempts order by id limit 1)
    union all select 'incoming', min(created_at) from incoming
) as oldest (name, at)
where at is not null
