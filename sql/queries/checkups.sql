-- name: examined_account
-- What doctor needs to know of an account: which worker holds it, whether another process may open its login, and
-- whether it sends. `kept`: the sealed copy of its login is the newest; the home of a visiting worker (visit_...) is
-- deleted with the worker.
select accounts.id, accounts.org_id, accounts.name, transport, wanted, state, state_reason, state_since, linked, phone,
       coalesce(lease_until >= now() - interval '5 seconds', false) as held, leased_by,
       holder.host, holder.version, coalesce(holder.home like 'visit\_%%', false) as visited,
       exists (
           select from profiles
           where account_id = accounts.id and kept_since is null
             and (whole or profile_home is null or profile_home like 'visit\_%%')) as kept,
       profile_home,
       orgs.stopped or open_at > now() as closed,
       case when orgs.stopped then 'paused' else gate_reason end as closed_because,
       case when open_at between now() and '9999-01-01' then open_at end as opens_at,
       duty_is_done('sessions') as works
from accounts
join lanes using (id)
join orgs on orgs.org_id = accounts.org_id
left join workers as holder on holder.id = leased_by
where accounts.id = %(account)s and deleted_at is null

-- name: want_checkup
insert into checkups (account_id, org_id)
select id, org_id from accounts where id = %(account)s
on conflict (account_id) do update set wanted_at = now()
returning wanted_at

-- name: checkup_since
select answer from checkups where account_id = %(account)s and answered_at > %(since)s

-- name: wanted_checkups
-- Checkups of the accounts that this worker leases. A request older than some minutes is ignored: its caller has
-- stopped waiting. `due` says that messages are due, so that the checkup must not keep the page for long.
select accounts.id, state, state_reason,
       exists (
           select from jobs
           where jobs.account_id = accounts.id and claim is null and ended_at is null and priority in (0, 1) and due_at <= now()
             and open_at <= now())
       or exists (
           select from jobs where jobs.account_id = accounts.id and claim is not null and ended_at is null) as due
from checkups
join accounts on accounts.id = checkups.account_id
join lanes on lanes.id = accounts.id
where leased_by = %(worker)s and coalesce(answered_at < wanted_at, true) and wanted_at > now() - interval '5 minutes'

-- name: answer_checkup
update checkups
set answered_at = clock_timestamp(), worker = %(worker)s, answer = %(answer)s::jsonb
where account_id = %(account)s and exists (select from accounts where id = %(account)s and leased_by = %(worker)s)
