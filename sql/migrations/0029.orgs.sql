-- More orgs than one: what stops an org, who reads its reports, and what an owner alone may do.
-- Oldest code that may run on it: 0.3.0. It stops all orgs by the same column as before.

-- what stops an org --------------------------------------------------------------------------------------------------

comment on column orgs.paused_at is 'Since when the operator has stopped its sending, with that of all others; null when it has not.';
alter table orgs add column self_paused_at timestamptz;
comment on column orgs.self_paused_at is 'Since when it has stopped its own sending; null when it has not.';
alter table orgs add column stopped boolean not null
    generated always as (paused_at is not null or self_paused_at is not null) stored;
comment on column orgs.stopped is 'Whether nothing of it is sent: the operator or the org itself has stopped it.';

drop trigger mark_org on orgs;
create trigger mark_org after update on orgs
    for each row when (old.stopped and not new.stopped) execute function mark_org();
comment on function mark_org() is 'Mark the accounts of an org that is no longer stopped.';

create or replace function fenced_if_open(p_lane text, p_epoch bigint) returns table (id text) rows 1 language plpgsql as $$
begin
    return query select lanes.id from lanes
    where lanes.id = p_lane and epoch = p_epoch and open_at <= now()
      and not (kind = 'account' and exists (select from orgs where orgs.org_id = lanes.org_id and stopped))
    for no key update;
end $$;
comment on function fenced_if_open(text, bigint) is
    'Like fenced, but only while the lane''s gate is open. The gate of an account counts as closed while its org is stopped.';

create or replace function lane_due(p_lane lanes) returns timestamptz language plpgsql stable as $$
declare
    due timestamptz;
begin
    if p_lane.kind = 'account' then
        -- The first row by due time comes from an index. With min() over both priorities, or with exists, Postgres would expect
        -- to find a row early where a few lanes hold all that waits, and read the table from its start.
        due := least(
            (select due_at from jobs where account_id = p_lane.id and claim is null and ended_at is null and priority = 1
             order by due_at limit 1),
            (select due_at from jobs where account_id = p_lane.id and claim is null and ended_at is null and priority = 0
             order by due_at limit 1));
        if due is not null then
            due := case when exists (select from orgs where orgs.org_id = p_lane.org_id and stopped)
                        then 'infinity' else greatest(due, p_lane.open_at) end;
        end if;
        return least(
            'infinity', p_lane.attend_at, due,
            (select min(greatest(due_at, look_at)) from jobs
             where account_id = p_lane.id and claim is not null and ended_at is null));
    end if;
    -- The attend_at of an endpoint is in the future only after an internal error, which must not recur every second.
    if p_lane.attend_at is not null then
        return p_lane.attend_at;
    end if;
    -- One that is half done has its time in the past, too.
    due := (select due_at from deliveries where endpoint_id = p_lane.id and ended_at is null order by due_at limit 1);
    due := least(due, (
        select min(case when settled(begun_in, created_at) then '-infinity' else now() + interval '1 second' end)
        from recoveries where endpoint_id = p_lane.id and state in ('counting', 'running')));
    return case when due is null then 'infinity' else greatest(due, p_lane.open_at) end;
end $$;

-- who reads reports --------------------------------------------------------------------------------------------------

create table report_logins (
    login      text primary key,
    org_id     text not null references orgs,
    created_at timestamptz not null default now()
);
comment on table report_logins is 'Logins of Postgres that may read the reports of one org each. A login that is not in it sees no row.';
comment on column report_logins.login is 'The login''s name.';
comment on column report_logins.org_id is 'The org whose rows it sees.';
comment on column report_logins.created_at is 'When it was allowed to.';

-- Until now every member of postrider_report saw all there is: that of the one org. So does the login that migrates. In a new
-- database a member may be one of another service on the same server.
insert into report_logins (login, org_id)
select rolname, 'org_default' from pg_roles
where rolcanlogin and (rolname = session_user or exists (select from accounts) and exists (
    with recursive members (oid) as (
        select member from pg_auth_members where roleid = (select oid from pg_roles where rolname = 'postrider_report')
        union
        select member from pg_auth_members join members on roleid = members.oid
    )
    select from members where members.oid = pg_roles.oid));

create function report_org() returns text language plpgsql stable security definer set search_path = public, pg_temp as $$
begin
    -- The login, and not a setting, which everybody who writes SQL can change.
    return (select org_id from report_logins where login = session_user);
end $$;
comment on function report_org() is 'The org whose reports this login may read; null when none.';

-- what an owner alone may do -----------------------------------------------------------------------------------------

-- Workers own nothing. They call these, which do no more than their names say.
alter function ensure_partitions() security definer;
alter function ensure_partitions() set search_path = public, pg_temp;
alter function drop_old_partition(timestamptz) security definer;
alter function drop_old_partition(timestamptz) set search_path = public, pg_temp;
revoke execute on function ensure_partitions(), drop_old_partition(timestamptz) from public;
grant execute on function ensure_partitions(), drop_old_partition(timestamptz) to postrider_worker;

-- views see what their reader may see --------------------------------------------------------------------------------

alter view all_jobs set (security_invoker = true);
alter view shown_deliveries set (security_invoker = true);
