-- What the pulse looks at each second no longer grows with the number of lanes and endpoints that there are.
-- Oldest code that may run on it: 0.3.0. Its own pulse looks at each of them as before.

create function lanes_with_work(p_after text, p_most integer) returns setof text language plpgsql stable as $$
declare
    lane text := p_after;
    attended text[];
begin
    -- Apart: in the order of lanes, Postgres would read all that have no attend_at.
    with those as materialized (select id from lanes where attend_at is not null)
    select array_agg(id) into attended from those where id > p_after;
    for _ in 1..p_most loop
        -- A step of an index for each kind of work, and not one for each row.
        lane := (
            select min(id)
            from (
                (select account_id from jobs where account_id > lane and state = 'queued' order by account_id limit 1)
                union all
                (select account_id from jobs where account_id > lane and state in ('sending', 'submitting')
                 order by account_id limit 1)
                union all
                (select endpoint_id from deliveries where endpoint_id > lane and state = 'pending'
                 order by endpoint_id limit 1)
                union all
                (select endpoint_id from deliveries where endpoint_id > lane and state = 'sending'
                 order by endpoint_id limit 1)
                union all
                (select endpoint_id from recoveries where endpoint_id > lane and state in ('counting', 'running')
                 order by endpoint_id limit 1)
                union all
                select min(id) from unnest(attended) as id where id > lane
            ) as next (id));
        exit when lane is null;
        return next lane;
    end loop;
end $$;
comment on function lanes_with_work(text, integer) is
    'The next lanes after one, in the order of their ids, that have an open row or an attend_at.';

create function mark_gone_endpoint() returns trigger language plpgsql as $$
begin
    insert into lane_marks (due_at, lane_id, org_id) values (now(), new.id, new.org_id);
    return null;
end $$;
comment on function mark_gone_endpoint() is
    'Mark the lane of an endpoint that is disabled or deleted: the pulse fails what still waits for it.';
create trigger mark_gone_endpoint after update of status, deleted_at on endpoints
    for each row when (new.status = 'disabled' or new.deleted_at is not null) execute function mark_gone_endpoint();
