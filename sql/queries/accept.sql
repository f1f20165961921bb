-- name: accept
-- Accept orders of any org; each has that of its API key.
select outcome, job, state, content, account, wake, now
from door.accept(%(orders)s::json, %(ttl)s::interval, %(within)s::interval, %(most)s, %(patience)s)

-- name: wake_accepted
select door.wake_accepted(%(lanes)s)
