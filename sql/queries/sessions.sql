-- name: account_to_drain
-- Deleted, it is only drained to be logged out. `due` tells of work behind its gate: what waits now, and what is half done.
select id, org_id, transport, wanted, state, linked, time_zone, pace, phone, pairing_phone, proxy, profile_home,
       profile_generation, reconnects,
       case when restriction is not null and coalesce(restricted_until > now(), true) then restriction end as restriction,
       coalesce(probe_at <= now(), false) as probe, stopped_by is not null as doubted,
       coalesce(last_open_at < now() - %(keepalive)s * interval '1 day', false) and %(keepalive)s > 0 as stale,
       exists (
           select from jobs
           where account_id = accounts.id and state = 'queued' and priority in (0, 1) and due_at <= now()) as due,
       exists (
           select from jobs where account_id = accounts.id and state in ('sending', 'submitting')) as half_done
from accounts
where id = %(account)s and (deleted_at is null or wanted = 'logged_out')

-- name: accounts_with_due_work
select account_id as id
from unnest(%(accounts)s::text[]) as asked (account_id)
join lanes on lanes.id = asked.account_id
where lanes.open_at <= now() and exists (
    select from jobs
    where jobs.account_id = asked.account_id and state = 'queued' and priority in (0, 1) and due_at <= now())

-- name: lease_account
-- One live session per account in the cluster. A takeover begins 5 s after the lease ended, by Postgres's clock alone. A
-- worker that was declared dead leases nothing any more: nobody would find that when it ends.
update accounts
set leased_by = %(worker)s, lease_until = now() + %(lease)s * interval '1 second'
where id = %(account)s
  and (leased_by is null or leased_by = %(worker)s or lease_until < now() - interval '5 seconds')
  and exists (select from workers where workers.id = %(worker)s)
returning id

-- name: lease_holder
select leased_by, lease_until > now() as live from accounts where id = %(account)s

-- name: release_account
-- Whose profile was put away has it nowhere any more but sealed. move_lane gives its wake-ups back to everybody in the same
-- transaction.
update accounts
set leased_by = null, lease_until = null, heavy_mb = null, profile_home = case when %(put_away)s then null else profile_home end
where id = %(account)s and leased_by = %(worker)s
returning wanted, linked

-- name: held_account
-- What only the holder of the lease may change.
select id, state, state_before, linked, wanted, phone, profile_home
from accounts
where id = %(account)s and leased_by = %(worker)s
for update

-- name: write_state
-- After held_account, in its transaction.
select change_state(accounts, %(state)s, %(reason)s, %(worker)s, %(quiet)s) as lanes
from accounts
where id = %(account)s and leased_by = %(worker)s

-- name: mark_linked
-- Names the generation that showed the code: a person may have gone back to a kept login meanwhile.
update accounts
set linked = true, pairing_phone = null
where id = %(account)s and leased_by = %(worker)s and profile_generation = %(generation)s
returning id

-- name: mark_ready
-- A new number is a new account to WhatsApp: its ramp begins anew. Names the generation, as mark_linked does.
update accounts
set linked = true, last_open_at = now(), reconnects = 0, pairing_phone = null,
    first_ready_at = case when %(changed)s then now() else coalesce(first_ready_at, now()) end,
    phone = coalesce(%(phone)s, phone), profile_name = coalesce(%(name)s, profile_name),
    platform = coalesce(%(platform)s, platform)
where id = %(account)s and leased_by = %(worker)s and profile_generation = %(generation)s
returning id

-- name: fail_backlog
-- What was meant for another sender, some at a time: Postgres has 10 s for an answer, and 100,000 may wait. After
-- held_account, in its transaction.
with waiting as materialized (
    select jobs.id
    from accounts
    join jobs on jobs.account_id = accounts.id and jobs.state = 'queued'
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
-- Where its end is not known, the next new chat is tried after a day, or with the next month.
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
-- As count_failure, of a page that was not recognised under a message.
update accounts set failures_in_a_row = failures_in_a_row + 1, stopped_by = %(selectors)s
where id = %(account)s and leased_by = %(worker)s
returning failures_in_a_row as failures

-- name: unsettled
-- What is at the clock has been told apart.
select exists (
    select from jobs
    where account_id = %(account)s and state = 'submitting' and error_reason is distinct from 'at_the_clock'
      and submitted_at > now() - %(seconds)s * interval '1 second') as unsettled

-- name: stop_until_known
-- Sending stopped, since the page had changed: it is looked at again after a while, and sooner where other selectors come.
-- Not where somebody has asked since this drain began: to resume counts. What is to be attended to later was not asked, nor
-- what was when the drain began.
-- All are named by which it was looked at, since workers may have older ones.
with held as (
    select id from accounts where id = %(account)s and leased_by = %(worker)s for update
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
-- Its page is known again, what failed counts anew, and what is submitted is looked at at once. What was in hand when it
-- stopped has used up an attempt, and goes behind what waits: it may be its chat alone that is not as it was. An account that
-- was paused meanwhile stays so.
with account as (
    update accounts set probe_at = null, stopped_by = null, failures_in_a_row = 0
    where id = %(account)s and leased_by = %(worker)s and wanted = 'connected'
    returning id, paused
), settling as (
    update jobs set due_at = now()
    from account
    where account_id = account.id and jobs.state = 'submitting'
), blamed as (
    update jobs set attempts = greatest(attempts, 1), due_at = greatest(due_at, now())
    from account
    where jobs.account_id = account.id and jobs.state = 'queued' and jobs.error_code = 'ui_changed'
)
update lanes
set open_at = case when account.paused then 'infinity' else '-infinity' end::timestamptz,
    gate_reason = case when account.paused then 'paused' end
from account
where lanes.id = account.id and lanes.gate_reason = 'ui_changed'

-- name: last_unreadable
-- The message whose status could not be read, unless one was sent since.
select id, phone, message, anchor, bubble
from jobs
where account_id = %(account)s and error_reason = 'unreadable' and state in ('submitting', 'failed')
  and not exists (
      select from jobs as later where later.account_id = jobs.account_id and later.sent_at > jobs.submitted_at)
order by submitted_at desc
limit 1

-- name: probe_with
-- What was not looked at by these selectors is looked at now, once.
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
-- Opens what waited for the session alone. The account is locked first, as every call of the API does: a pause or a
-- disconnect that is being written counts.
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
-- Nobody scanned: the account is to be disconnected, unless somebody asked again since this drain began. After
-- held_account, in its transaction.
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
-- Leased, without a browser, and nobody is to look after them: what an outage of Postgres can leave behind.
select accounts.id
from accounts
join lanes using (id)
where leased_by = %(worker)s and accounts.id = any (%(without_browser)s::text[])
  and coalesce(attend_at < now() - interval '10 seconds', true)

-- name: settle_later
-- What cannot be looked at now must not wake its lane each second. It names the epoch: a newer drain may look at it.
update jobs
set due_at = greatest(due_at, now() + %(seconds)s * interval '1 second')
from fenced(%(lane)s, %(epoch)s) as lane
where account_id = lane.id and state = 'submitting'

-- name: room_elsewhere
select exists (
    select from workers
    where id <> %(worker)s and renewed_at > now() - interval '15 seconds'
      and seats > (select count(*) from accounts where leased_by = workers.id)
) as room

-- name: leased_accounts
select id from accounts where leased_by = %(worker)s

-- name: worker_at_home
-- One that has missed two signs of life is not waited for: it may be frozen.
select workers.id
from accounts
join workers on workers.home = accounts.profile_home
where accounts.id = %(account)s and workers.id <> %(worker)s and workers.renewed_at > now() - interval '12 seconds'
order by workers.created_at desc
limit 1

-- name: restore_accounts
-- The sessions that were open last, one after the other, as many as there are seats: a hundred accounts are not a hundred
-- browsers at once. The rest sleep until something is due.
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
-- Asleep for so long, an account is opened once, or WhatsApp unlinks it. Spread over ten minutes.
update lanes
set attend_at = least(attend_at, now() + random() * interval '10 minutes')
from accounts
where accounts.id = lanes.id and accounts.state = 'hibernated' and accounts.wanted = 'connected'
  and accounts.deleted_at is null and %(days)s > 0 and accounts.last_open_at < now() - %(days)s * interval '1 day'

-- name: set_evidence
update jobs set evidence = %(evidence)s where id = %(job)s
