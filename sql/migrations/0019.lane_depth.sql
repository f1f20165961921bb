-- How many messages wait in each account's lane, counted as they come and go.
-- Oldest code that may run on it: 0.3.0. Triggers count what it writes.

create table lane_depth (
    lane_id    text not null,
    stripe     smallint not null,
    org_id     text not null,
    queued     bigint not null,
    counted_at timestamptz,
    created_at timestamptz not null default now(),
    primary key (lane_id, stripe)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 1000,
        autovacuum_vacuum_cost_delay = 0);
comment on table lane_depth is
    'How many jobs of each account are queued, as a sum of parts: each connection adds to one of 16, so that few wait for '
    'each other. A single part may be below zero.';
comment on column lane_depth.lane_id is 'The account, and its lane.';
comment on column lane_depth.stripe is 'Which part: the process id of the connection''s backend modulo 16; 16 has corrections.';
comment on column lane_depth.org_id is 'The org it belongs to.';
comment on column lane_depth.queued is 'What that part adds to the sum.';
comment on column lane_depth.counted_at is 'Of part 16: when the account''s jobs were last counted, to check the sum.';
comment on column lane_depth.created_at is 'When a connection first added to it.';

create function lane_queued(p_lane text) returns bigint language sql stable as $$
    select coalesce(sum(queued), 0)::bigint from lane_depth where lane_id = p_lane
$$;
comment on function lane_queued(text) is 'How many jobs of an account are queued.';

create function count_queued() returns trigger language plpgsql as $$
begin
    -- In the order of lanes, so that two statements about the same lanes never deadlock here.
    if tg_op = 'INSERT' then
        insert into lane_depth as depth (lane_id, stripe, org_id, queued)
        select account_id, mod(pg_backend_pid(), 16), org_id, count(*)
        from came
        where state = 'queued'
        group by account_id, org_id
        order by account_id
        on conflict (lane_id, stripe) do update set queued = depth.queued + excluded.queued;
    elsif tg_op = 'DELETE' then
        insert into lane_depth as depth (lane_id, stripe, org_id, queued)
        select account_id, mod(pg_backend_pid(), 16), org_id, -count(*)
        from went
        where state = 'queued'
        group by account_id, org_id
        order by account_id
        on conflict (lane_id, stripe) do update set queued = depth.queued + excluded.queued;
    else
        insert into lane_depth as depth (lane_id, stripe, org_id, queued)
        select account_id, mod(pg_backend_pid(), 16), org_id, sum(moved)
        from (
            select account_id, org_id, 1 as moved from came where state = 'queued'
            union all
            select account_id, org_id, -1 from went where state = 'queued'
        ) as moves
        group by account_id, org_id
        having sum(moved) <> 0
        order by account_id
        on conflict (lane_id, stripe) do update set queued = depth.queued + excluded.queued;
    end if;
    return null;
end $$;
comment on function count_queued() is 'Keep lane_depth as jobs become queued, or stop being so.';

create trigger count_queued_inserts after insert on jobs
    referencing new table as came for each statement execute function count_queued();
create trigger count_queued_updates after update on jobs
    referencing old table as went new table as came for each statement execute function count_queued();
create trigger count_queued_deletes after delete on jobs
    referencing old table as went for each statement execute function count_queued();

create function recount_depth(p_lane text) returns bigint language plpgsql as $$
declare
    missed bigint;
begin
    -- Two at once would both add what is missing.
    perform pg_advisory_xact_lock(hashtext('postrider.recount'));
    -- One snapshot has each job and its count, or neither.
    select count(*) - lane_queued(p_lane) into missed from jobs where account_id = p_lane and state = 'queued';
    insert into lane_depth as depth (lane_id, stripe, org_id, queued, counted_at)
    select id, 16, org_id, missed, clock_timestamp() from lanes where id = p_lane
    on conflict (lane_id, stripe) do update set queued = depth.queued + excluded.queued, counted_at = excluded.counted_at;
    return missed;
end $$;
comment on function recount_depth(text) is
    'Count the queued jobs of an account, and correct its lane_depth. Return how many it had missed; below zero: had too many.';
