-- What an account has submitted is planned once per connection. As a part of the queries that ask for it, which name a dozen
-- indexes then, Postgres planned them anew for each message as soon as accounts differed in what they have: 10 ms of CPU.
-- Oldest code that may run on it: 0.3.0. It calls the same function through pace_of.

create or replace function submitted_since(p_account text, p_since timestamptz)
returns table (phone text, started_at timestamptz, submitted_at timestamptz) language plpgsql stable rows 50
-- One plan for all accounts takes the index of an account's jobs only if it may not sort: where there are few accounts, Postgres
-- would rather read what all of them have ended.
set plan_cache_mode = force_generic_plan set enable_sort = off set max_parallel_workers_per_gather = 0 as $$
#variable_conflict use_column
begin
    return query
    (select phone, started_at, submitted_at from jobs
     where account_id = p_account and sent_at is not null and ended_at >= p_since and submitted_at >= p_since
     order by ended_at desc nulls last)
    union all
    (select phone, started_at, submitted_at from jobs
     where account_id = p_account and sent_at is null and ended_at >= p_since and submitted_at >= p_since
     order by ended_at desc nulls last)
    union all
    (select phone, started_at, submitted_at from jobs
     where account_id = p_account and claim is not null and ended_at is null and submitted_at >= p_since)
    union all
    (select phone, started_at, submitted_at from jobs
     where account_id = p_account and claim is null and ended_at is null and started_at is not null
       and submitted_at >= p_since
     order by phone, seq);
end $$;
