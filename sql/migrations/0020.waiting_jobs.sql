-- Counts the jobs that were queued before lane_depth was there; it locks no job. A migration of its own, since the triggers
-- must be at work before it begins.
-- Oldest code that may run on it: 0.3.0.

do $$ begin
    perform recount_depth(id) from lanes where kind = 'account';
end $$;
