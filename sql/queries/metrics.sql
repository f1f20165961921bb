-- name: waiting_deliveries
-- seconds: since when the oldest of them is due.
select case when endpoints.status = 'paused' then 'paused'
            when lanes.open_at > now() then 'resting'
            when due_at > now() then 'later'
            else 'due' end as reason,
       count(*) as deliveries,
       greatest(0, extract(epoch from now() - min(due_at)))::float8 as seconds
from deliveries
join endpoints on endpoints.id = deliveries.endpoint_id
join lanes on lanes.id = deliveries.endpoint_id
where state = 'pending'
group by 1

-- name: count_endpoints
select status, count(*) as endpoints from endpoints where deleted_at is null group by 1
