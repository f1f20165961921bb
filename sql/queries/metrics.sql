-- name: waiting_deliveries
select * from door.waiting_deliveries(%(most)s)

-- name: count_endpoints
select * from door.count_endpoints()

-- name: duties_done
select * from door.duties_done(%(most)s)

-- name: oldest_rows
select * from door.oldest_rows()
