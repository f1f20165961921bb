-- name: account_to_drain
-- A deleted account is drained only to be logged out. `due`, `half_done` and `to_settle` say whether it has queued
-- jobs that are due, jobs that are being sent or settled, and jobs to be looked at now, whatever its gate.
select id, org_id, transport, wanted, state, linked, time_zone, pace, phone, pairing_phone, proxy, profile_home,
       profile_generation, reconnects,
       case when restriction is not null and coalesce(restricted_until > now(), true) then restriction end as restriction,
       coalesce(probe_at <= now(), false) as probe, stopped_by is not null as doubted,
       coalesce(last_open_at < now() - %(keepalive)s * interval '1 day', false) and %(keepalive)s > 0 as stale,
       exists (
           select from jobs
           where account_id = accounts.id and claim is null and ended_at is null and priority in (0, 1)
             and due_at <= now()) as due,
       exists (
           select from jobs where account_id = accounts.id and claim is not null and ended_at is null) as half_done,
       exists (
           select from jobs
           where account_id = accounts.id and claim is not null and ended_at is null and state = 'submitting'
             and greatest(due_at, look_at) <= now()) as to_settle
from accounts
where id = %(account)s and (deleted_at is null or wanted = 'logged_out')

-- name: accounts_with_due_work
select account_id as id
from unnest(%(accounts)s::text[]) as asked (account_id)
join lanes on lanes.id = asked.account_id
where lanes.open_at <= now() and exists (
    select from jobs
    where jobs.account_id = asked.account_id and claim is null and ended_at is null and priority in (0, 1)
      and due_at <= now())

-- name: lease_account
-- One live session per account in the cluster. A takeover begins 5 s after the lease ended, by Postgres's clock alone.
-- A worker that was declared dead gets no lease: with no row in workers, its end would not be noticed.
update accounts
set leased_by = %(worker)s, lease_until = now() + %(lease)s * interval '1 second'
where id = %(account)s
  and (leased_by is null or leased_by = %(worker)s or lease_until < now() - interval '5 seconds')
  and exists (select from workers where workers.id = %(worker)s)
returning id

-- name: lease_holder
select leased_by, lease_until > now() as live from accounts where id = %(account)s

-- name: release_account
-- An account whose profile was put away exists only as a sealed copy, so its home is cleared. In the same transaction
-- move_lane moves its wake-ups to the common queue.
update accounts
set leased_by = null, lease_until = null, heavy_mb = null, profile_home = case when %(put_away)s then null else profile_home end
where id = %(account)s and leased_by = %(worker)s
returning wanted, linked

-- name: held_account
-- Locks the account's row for changes that only the holder of the lease may make.
select id, state, state_before, linked, wanted, phone, profile_home
from accounts
where id = %(account)s and leased_by = %(worker)s
for no key update

-- name: write_state
-- Runs after held_account, in the same transaction.
select change_state(accounts, %(state)s, %(reason)s, %(worker)s, %(quiet)s) as lanes
from accounts
where id = %(account)s and leased_by = %(worker)s

-- name: mark_linked
-- Matches the generation that showed the code: a person may have gone back to a kept login meanwhile.
update accounts
set linked = true, pairing_phone = null
where id = %(account)s and leased_by = %(worker)s and profile_generation = %(generation)s
returning id

-- name: mark_ready
-- To WhatsApp a new number is a new account, so its ramp starts over. Matches the generation, as mark_linked does.
update accounts
set linked = true, last_open_at = now(), reconnects = 0, pairing_phone = null,
    first_ready_at = case when %(changed)s then now() else coalesce(first_ready_at, now()) end,
    phone = coalesce(%(phone)s, phone), profile_name = coalesce(%(name)s, profile_name),
    platform = coalesce(%(platform)s, platform)
where id = %(account)s and leased_by = %(worker)s and profile_generation = %(generation)s
returning id

-- name: fail_backlog
-- Jobs that were meant for another sender. A limited number at a time: Postgres has 10 s for an answer, and 100,000 may
-- be waiting. Runs after held_account, in the same transaction.
with waiting as materialized (
    select jobs.id
    from accounts
    join jobs on jobs.account_id = accounts.id and jobs.claim is null and jobs.ended_at is null
    where accounts.id = %(account)s and accounts.leased_by = %(worker)s
    limit %(most)s
    for update of jobs
)
select lanes from end_jobs(array(select id from waiting), 'failed', %(code)s, %(detail)s)

-- name: set_qr
with shown as (
    update accounts
    set qr = %(qr)s, qr_expires_at = now() + %(seconds)s * interval '1 second'
    where id = %(account)s and leased_by = %(worker)s
    returning id, org_id, qr_expires_at
)
select record_event(org_id, 'QrIssued', '{"account":' || to_json(id) || ',"expiresAt":"' || iso(qr_expires_at) || '"}',
                    null, id, 0) as lanes
from shown

-- name: set_pairing_code
update accounts
set pairing_code = %(code)s, pairing_expires_at = now() + %(seconds)s * interval '1 second', qr = null, qr_expires_at = null
where id = %(account)s and leased_by = %(worker)s

-- name: set_restriction
-- If its end is not known, the next new chat is tried after a day, or with monthly_cap at the start of the next month.
update accounts
set restriction = %(restriction)s,
    restricted_until = case when %(restriction)s is not null then coalesce(
        %(until)s::timestamptz,
        case when %(restriction)s = 'monthly_cap' then date_trunc('month', now()) + interval '1 month'
             else now() + interval '1 day' end) end
where id = %(account)s and leased_by = %(worker)s
  and (restriction is distinct from %(restriction)s or restricted_until <= now())

-- name: lift_restriction
update accounts set restriction = null, restricted_until = null
where id = %(account)s and leased_by = %(worker)s and restriction is not null

-- name: note_memory
update accounts set heavy_mb = %(mb)s
where id = %(account)s and leased_by = %(worker)s and heavy_mb is distinct from %(mb)s

-- name: count_failure
update accounts set failures_in_a_row = failures_in_a_row + 1
where id = %(account)s and leased_by = %(worker)s
returning failures_in_a_row as failures

-- name: doubt_page
-- As count_failure, for a page that was not recognised while sending a message.
update accounts set failures_in_a_row = failures_in_a_row + 1, stopped_by = %(selectors)s
where id = %(account)s and leased_by = %(worker)s
returning failures_in_a_row as failures

-- name: unsettled
-- Jobs whose message shows the clock icon are left out: their state is known.
select exists (
    select from jobs
    where account_id = %(account)s and claim is not null and ended_at is null and state = 'submitting'
      and error_reason is distinct from 'at_the_clock'
      and submitted_at > now() - %(seconds)s * interval '1 second') as unsettled

-- name: stop_until_known
-- Sending stopped because the page had changed: it is probed again after a pause, or sooner when a worker with other
-- selectors starts. Not if somebody asked for the account since this drain began: their request to resume takes
-- precedence. An attend_at in the future, or equal to the one at the drain's start, is no such request. `stopped_by`
-- lists every version of the selectors that the page was checked with, since workers may run older ones.
with held as (
    select id from accounts where id = %(account)s and leased_by = %(worker)s for no key update
), lane as (
    select lanes.id
    from held
    join lanes using (id)
    where attend_at is null or attend_at <= %(began)s or attend_at > now() or attend_at = %(attend_at)s
    for update of lanes
)
update accounts
set probes = probes + 1,
    stopped_by = case when %(selectors)s = any (string_to_array(stopped_by, E'\n')) then stopped_by
                      else concat_ws(E'\n', stopped_by, %(selectors)s::text) end,
    probe_at = now() + (%(pauses)s::float8[])[least(probes + 1, cardinality(%(pauses)s::float8[]))] * interval '1 second'
from lane
where accounts.id = lane.id
returning extract(epoch from probe_at - now())::float8 as seconds

-- name: open_known_gate
-- The page is recognised again: the count of failures starts over, and submitted jobs are looked at at once. The job
-- that was being sent when the account stopped has an attempt counted and goes behind the waiting ones: perhaps only
-- its own chat has changed. An account that was paused meanwhile stays paused.
with account as (
    update accounts set probe_at = null, stopped_by = null, failures_in_a_row = 0
    where id = %(account)s and leased_by = %(worker)s and wanted = 'connected'
    returning id, paused
), settling as (
    update jobs set due_at = least(due_at, now()), look_at = now()
    from account
    where account_id = account.id and claim is not null and ended_at is null and jobs.state = 'submitting'
), blamed as (
    update jobs set attempts = greatest(attempts, 1), due_at = greatest(due_at, now())
    from account
    where jobs.account_id = account.id and claim is null and ended_at is null and started_at is not null
      and jobs.error_code = 'ui_changed'
)
update lanes
set open_at = case when account.paused then 'infinity' else '-infinity' end::timestamptz,
    gate_reason = case when account.paused then 'paused' end
from account
where lanes.id = account.id and lanes.gate_reason = 'ui_changed'

-- name: last_unreadable
-- The message whose status could not be read, unless another one was sent since: among those in flight and the thousand
-- that were sent last.
with latest as materialized (
    (select * from jobs where account_id = %(account)s and claim is not null and ended_at is null)
    union all
    (select * from newest_sent(%(account)s, 1000))
)
select id, phone, message, anchor, bubble
from latest
where error_reason = 'unreadable' and state in ('submitting', 'failed')
  and not exists (select from latest as later where later.sent_at > latest.submitted_at)
order by submitted_at desc
limit 1

-- name: probe_with
-- Probe at once, and only once, the accounts whose page has not been checked with these selectors.
with asked as (
    update accounts set probe_at = now()
    from lanes
    where lanes.id = accounts.id and lanes.gate_reason = 'ui_changed' and lanes.open_at = 'infinity'
      and accounts.probe_at > now() and accounts.deleted_at is null
      and not coalesce(%(selectors)s = any (string_to_array(stopped_by, E'\n')), false)
    returning accounts.id
)
update lanes set attend_at = now()
from asked
where lanes.id = asked.id

-- name: count_reconnect
update accounts set reconnects = reconnects + 1
where id = %(account)s and leased_by = %(worker)s
returning reconnects as failures

-- name: open_linked_gate
-- Opens a gate that was closed only for lack of a session. The account's row is locked first, as in every call of the
-- API, so that a concurrent pause or disconnect is seen.
with account as (
    select id from accounts
    where id = %(account)s and leased_by = %(worker)s and not paused and wanted = 'connected'
    for share
)
update lanes
set open_at = '-infinity', gate_reason = null
from account
where lanes.id = account.id and lanes.gate_reason in ('not_linked', 'profile_elsewhere', 'suspected_ban', 'disconnected')

-- name: disconnect_unscanned
-- The QR code was not scanned: disconnect the account, unless somebody asked for it again since this drain began. Runs
-- after held_account, in the same transaction.
with lane as (
    update lanes
    set open_at = 'infinity', gate_reason = 'not_connected'
    where id = %(account)s and (attend_at is null or attend_at <= %(began)s)
      and exists (select from accounts where id = %(account)s and leased_by = %(worker)s)
    returning id
)
update accounts
set wanted = 'disconnected', pairing_phone = null
from lane
where accounts.id = lane.id
returning accounts.id

-- name: unattended_accounts
-- Accounts that this worker leases without a browser and without a drain to come. An outage of Postgres can leave them
-- so.
select accounts.id
from accounts
join lanes using (id)
where leased_by = %(worker)s and accounts.id = any (%(without_browser)s::text[])
  and coalesce(attend_at < now() - interval '10 seconds', true)

-- name: settle_later
-- A submitted job that cannot be looked at now must not wake its lane every second. Fenced by the epoch: a newer drain
-- may be able to look at it.
update jobs
set look_at = greatest(look_at, now() + %(seconds)s * interval '1 second')
from fenced(%(lane)s, %(epoch)s) as lane
where account_id = lane.id and claim is not null and ended_at is null and state = 'submitting'

-- name: room_elsewhere
select exists (
    select from workers
    where id <> %(worker)s and renewed_at > now() - interval '15 seconds'
      and seats > (select count(*) from accounts where leased_by = workers.id)
) as room

-- name: leased_accounts
select id from accounts where leased_by = %(worker)s

-- name: worker_at_home
-- A worker that has missed two heartbeats may be frozen, and is not waited for.
select workers.id
from accounts
join workers on workers.home = accounts.profile_home
where accounts.id = %(account)s and workers.id <> %(worker)s and workers.renewed_at > now() - interval '12 seconds'
order by workers.created_at desc
limit 1

-- name: restore_accounts
-- Open the most recently open sessions one after the other, at most one per seat, so that a hundred accounts do not
-- start a hundred browsers at once. The rest stay hibernated until something is due.
update lanes
set attend_at = least(attend_at, now() + restored.place * %(apart)s * interval '1 second')
from (
    select id, row_number() over (order by last_open_at desc nulls last) - 1 as place
    from accounts
    where wanted = 'connected' and linked and leased_by is null and deleted_at is null and state = 'hibernated'
    order by last_open_at desc nulls last
    limit %(seats)s
) as restored
where lanes.id = restored.id

-- name: keep_alive
-- WhatsApp unlinks a device that stays offline for long, so an account that has been hibernated for `days` is opened
-- once. The accounts are spread over ten minutes.
update lanes
set attend_at = least(attend_at, now() + random() * interval '10 minutes')
from accounts
where accounts.id = lanes.id and accounts.state = 'hibernated' and accounts.wanted = 'connected'
  and accounts.deleted_at is null and %(days)s > 0 and accounts.last_open_at < now() - %(days)s * interval '1 day'

-- name: set_evidence
update jobs set evidence = %(evidence)s where id = %(job)s
