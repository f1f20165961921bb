-- The clock of the lanes as an index range: what falls due has a mark, and the pulse reads marks instead of every lane.
-- Oldest code that may run on it: 0.3.0. Triggers mark what it writes; its own pulse looks at every lane as before.

create table lane_marks (
    due_at     timestamptz not null,
    lane_id    text not null,
    org_id     text,
    created_at timestamptz not null default now()
) with (autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
-- Not unique: two transactions that mark the same lane for the same moment would wait for each other.
create index lane_marks_due_at_idx on lane_marks (due_at, lane_id);
comment on table lane_marks is
    'When to look at a lane: whoever makes something due, or moves a gate, adds a mark in the same transaction. The pulse deletes '
    'the marks whose time has come, and marks a lane that still has work anew. A mark may be too early or one too many, but never '
    'too late.';
comment on column lane_marks.due_at is 'When to look.';
comment on column lane_marks.lane_id is 'At which lane.';
comment on column lane_marks.org_id is 'The org it belongs to; null where the pulse has added it.';
comment on column lane_marks.created_at is 'When it was added.';

create function lane_due(p_lane lanes) returns timestamptz language plpgsql stable as $$
declare
    due timestamptz;
begin
    if p_lane.kind = 'account' then
        -- The first row by due time comes from an index. With min() over both priorities, or with exists, Postgres would expect
        -- to find a row early where a few lanes hold all that waits, and read the table from its start.
        due := least(
            (select due_at from jobs where account_id = p_lane.id and state = 'queued' and priority = 1 order by due_at limit 1),
            (select due_at from jobs where account_id = p_lane.id and state = 'queued' and priority = 0 order by due_at limit 1));
        if due is not null then
            due := case when exists (select from orgs where orgs.org_id = p_lane.org_id and paused_at is not null)
                        then 'infinity' else greatest(due, p_lane.open_at) end;
        end if;
        return least(
            'infinity', p_lane.attend_at, due,
            (select due_at from jobs where account_id = p_lane.id and state in ('sending', 'submitting')
             order by due_at limit 1));
    end if;
    -- The attend_at of an endpoint is in the future only after an internal error, which must not recur every second.
    if p_lane.attend_at is not null then
        return p_lane.attend_at;
    end if;
    if exists (select from deliveries where endpoint_id = p_lane.id and state = 'sending') then
        return '-infinity';
    end if;
    due := (select due_at from deliveries where endpoint_id = p_lane.id and state = 'pending' order by due_at limit 1);
    due := least(due, (
        select min(case when settled(begun_in, created_at) then '-infinity' else now() + interval '1 second' end)
        from recoveries where endpoint_id = p_lane.id and state in ('counting', 'running')));
    return case when due is null then 'infinity' else greatest(due, p_lane.open_at) end;
end $$;
comment on function lane_due(lanes) is
    'When a lane next has work: attend_at comes, a row is due or a recovery is open behind an open gate, or a row is half done. '
    'infinity: not until somebody adds work or opens a gate.';

create function mark_jobs() returns trigger language plpgsql
-- The plan of a session's first call is kept: a nested loop for one row would be quadratic for many.
set enable_nestloop = off as $$
begin
    -- No mark is in the past: the pulse does not read again what is older than its last turns.
    if tg_op = 'INSERT' then
        insert into lane_marks (due_at, lane_id, org_id)
        select greatest(min(due_at), now()), account_id, min(org_id)
        from came
        where state in ('queued', 'sending', 'submitting')
        group by account_id;
    else
        insert into lane_marks (due_at, lane_id, org_id)
        select greatest(min(came.due_at), now()), came.account_id, min(came.org_id)
        from came
        join went using (id)
        where came.state in ('queued', 'sending', 'submitting')
          and (came.due_at < went.due_at or went.state not in ('queued', 'sending', 'submitting'))
        group by came.account_id;
    end if;
    return null;
end $$;
comment on function mark_jobs() is
    'Mark lanes in which jobs have come, or are due earlier than before; the earliest of each statement is enough.';
create trigger mark_inserts after insert on jobs
    referencing new table as came for each statement execute function mark_jobs();
create trigger mark_updates after update on jobs
    referencing old table as went new table as came for each statement execute function mark_jobs();

create function mark_deliveries() returns trigger language plpgsql
set enable_nestloop = off as $$
begin
    if tg_op = 'INSERT' then
        insert into lane_marks (due_at, lane_id, org_id)
        select greatest(min(due_at), now()), endpoint_id, min(org_id) from came where state in ('pending', 'sending') group by endpoint_id;
    else
        insert into lane_marks (due_at, lane_id, org_id)
        select greatest(min(came.due_at), now()), came.endpoint_id, min(came.org_id)
        from came
        join went using (id)
        where came.state in ('pending', 'sending')
          and (came.due_at < went.due_at or went.state not in ('pending', 'sending'))
        group by came.endpoint_id;
    end if;
    return null;
end $$;
comment on function mark_deliveries() is
    'Mark lanes in which deliveries have come, or are due earlier than before; the earliest of each statement is enough.';
create trigger mark_inserts after insert on deliveries
    referencing new table as came for each statement execute function mark_deliveries();
create trigger mark_updates after update on deliveries
    referencing old table as went new table as came for each statement execute function mark_deliveries();

create function mark_lane() returns trigger language plpgsql as $$
begin
    -- Whatever waits behind the gate: a row of a transaction that has not ended cannot be seen from here, and its own mark may
    -- be used up before the gate has opened.
    insert into lane_marks (due_at, lane_id, org_id)
    values (case when new.attend_at is null and new.open_at < 'infinity' then greatest(new.open_at, now()) else now() end,
            new.id, new.org_id);
    return null;
end $$;
comment on function mark_lane() is 'Mark a lane whose gate or attend_at has changed.';
create trigger mark_lane after update of open_at, attend_at on lanes
    for each row when (old.open_at is distinct from new.open_at or old.attend_at is distinct from new.attend_at)
    execute function mark_lane();
create trigger mark_new_lane after insert on lanes
    for each row when (new.attend_at is not null) execute function mark_lane();

create function mark_recovery() returns trigger language plpgsql as $$
begin
    insert into lane_marks (due_at, lane_id, org_id) values (now(), new.endpoint_id, new.org_id);
    return null;
end $$;
comment on function mark_recovery() is 'Mark the lane of a recovery that is open.';
create trigger mark_recovery after insert or update of state on recoveries
    for each row when (new.state in ('counting', 'running')) execute function mark_recovery();

create function mark_org() returns trigger language plpgsql as $$
begin
    insert into lane_marks (due_at, lane_id, org_id) select now(), id, org_id from lanes where org_id = new.org_id and kind = 'account';
    return null;
end $$;
comment on function mark_org() is 'Mark the accounts of an org that is no longer paused.';
create trigger mark_org after update of paused_at on orgs
    for each row when (old.paused_at is not null and new.paused_at is null) execute function mark_org();
