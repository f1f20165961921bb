-- Old events are deleted from where the statement before has left off. Those that are still to be delivered, of an endpoint
-- that somebody paused and forgot, are so read once, and not again by each statement until it takes too long.
-- Oldest code that may run on it: 0.3.0. It calls the function with two parameters.

create function purge_events(p_before timestamptz, p_most integer, p_after timestamptz, p_after_id text)
returns table (deleted bigint, read bigint, last_at timestamptz, last_id text) language plpgsql as $$
declare
    seen text[];
    candidates text[];
begin
    select array_agg(page.id), count(*), max(page.created_at), (array_agg(page.id order by page.created_at desc, page.id desc))[1]
    into seen, read, last_at, last_id
    from (
        select id, created_at from outbox
        where (created_at, id) > (coalesce(p_after, '-infinity'), p_after_id) and created_at < p_before
        order by created_at, id
        limit p_most
    ) as page;
    -- Locked first, and looked at in a statement of its own: what is being replayed or recovered this moment is locked, and
    -- skipped; whoever comes later waits, and then finds that it is gone.
    candidates := array(
        select id from outbox
        where id = any (seen) and created_at between coalesce(p_after, '-infinity') and last_at
          and not exists (select from deliveries where event_id = outbox.id and state in ('pending', 'sending'))
        for update skip locked);
    delete from outbox
    where id = any (candidates) and created_at between coalesce(p_after, '-infinity') and last_at
      and not exists (select from deliveries where event_id = outbox.id and state in ('pending', 'sending'));
    get diagnostics deleted = row_count;
    return next;
end $$;
comment on function purge_events(timestamptz, integer, timestamptz, text) is
    'Read at most p_most events that happened before p_before, in their order, from after (p_after, p_after_id), and delete those '
    'that are not to be delivered any more. Return how many were deleted and read, and the last that was read.';
