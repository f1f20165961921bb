-- Functions of many queries: end jobs, check a lane's fence, purge old rows.
-- Oldest code that may run on it: 0.3.0. Its own queries write the same.

create function end_jobs(
    p_ids text[], p_state text, p_why text default null, p_detail text default null, p_reason text default null,
    p_bubble text default null
) returns table (lanes text[]) language plpgsql
-- One plan for one job and for a thousand, made once per connection.
set plan_cache_mode = force_generic_plan as $$
begin
    return query with ended as (
        update jobs
        set state = p_state, ended_at = now(), claim = null, bubble = coalesce(p_bubble, bubble),
            sent_at = case when p_state = 'sent' then now() else sent_at end,
            error_code = case p_state when 'failed' then p_why when 'cancelled' then error_code end,
            error_detail = case p_state when 'failed' then p_detail when 'cancelled' then error_detail end,
            error_reason = case p_state when 'failed' then p_reason when 'cancelled' then error_reason end,
            sequence = sequence + 1, timeline = timeline || step(p_state, p_why)
        from unnest(p_ids) as held (id)
        where jobs.id = held.id
        returning jobs as job
    )
    select job_event(case p_state when 'sent' then 'JobCompleted' when 'failed' then 'JobFailed' else 'JobCancelled' end, job)
    from ended;
end $$;
comment on function end_jobs(text[], text, text, text, text, text) is
    'End jobs that the calling statement has locked, as sent, failed or cancelled, each with a timeline step and an event. '
    'Return a row per job: the lanes to wake. p_why is the detail of the step and the error_code of a failed job; p_detail '
    'and p_reason are the rest of its error.';

create function fenced(p_lane text, p_epoch bigint) returns table (id text) rows 1 language plpgsql as $$
begin
    return query select lanes.id from lanes where lanes.id = p_lane and epoch = p_epoch for no key update;
end $$;
comment on function fenced(text, bigint) is
    'Lock a lane for the drain with its present epoch. An older drain gets no row, and so writes nothing.';

create function fenced_if_open(p_lane text, p_epoch bigint) returns table (id text) rows 1 language plpgsql as $$
begin
    return query select lanes.id from lanes
    where lanes.id = p_lane and epoch = p_epoch and open_at <= now()
      and not (kind = 'account' and exists (
          select from orgs where orgs.org_id = lanes.org_id and paused_at is not null))
    for no key update;
end $$;
comment on function fenced_if_open(text, bigint) is
    'Like fenced, but only while the lane''s gate is open. The gate of an account counts as closed while its org is paused.';

create function purge(p_table regclass, p_time name, p_before timestamptz, p_most integer) returns bigint language plpgsql as $$
declare
    gone bigint;
begin
    -- A locked row keeps its ctid.
    execute format('delete from %1$s where ctid = any (array(
                        select ctid from %1$s where %2$I < $1 order by %2$I limit $2 for update skip locked))', p_table, p_time)
        using p_before, p_most;
    get diagnostics gone = row_count;
    return gone;
end $$;
comment on function purge(regclass, name, timestamptz, integer) is
    'Delete at most p_most of the oldest rows whose column p_time is before p_before; locked rows are skipped. Return their '
    'number. Not for partitioned tables, whose ctids are not unique.';
