-- History: ended jobs move to jobs_history and are found there, partitions come and go without holding anybody up, and
-- what is written every few seconds touches no index.
-- Oldest code that may run on it: 0.3.0. Older code would take an idempotency key again whose job has moved.

create or replace function postrider_oldest_code() returns text language sql immutable as $$ select '0.3.0' $$;

-- one view of both ---------------------------------------------------------------------------------------------------

alter table jobs_history alter column ended_at set not null;

create view all_jobs as select * from jobs union all select * from jobs_history;
comment on view all_jobs is 'Every job, whether it is open, ended lately or moved to the history: each stands in one of the two.';
do $$
declare
    name text;
    description text;
begin
    for name, description in
        select attname, col_description(attrelid, attnum) from pg_attribute
        where attrelid = 'jobs'::regclass and attnum > 0 and not attisdropped
    loop
        execute format('comment on column all_jobs.%I is %L', name, description);
    end loop;
end $$;

comment on table jobs is 'The task table: one message to be sent. It holds what is open or ended in the last three days.';

create index jobs_ended_idx on jobs (ended_at) where ended_at is not null;
create index jobs_evidence_idx on jobs (id) where evidence is not null;

-- Not unique: a unique index would have to hold ended_at. A job is in one place, and only jobs takes new keys.
create index jobs_history_id_idx on jobs_history (id);
create index jobs_history_key_idx on jobs_history (org_id, key) where key is not null;
create index jobs_history_list_idx on jobs_history (org_id, created_at desc, id desc);
create index jobs_history_bubble_idx on jobs_history (account_id, bubble) where bubble is not null;
create index jobs_history_ended_idx on jobs_history (ended_at);
create index jobs_history_evidence_idx on jobs_history (id) where evidence is not null;

-- what churns --------------------------------------------------------------------------------------------------------

-- It held last_open_at, which each sign of life writes: none of these updates was heap-only (0 of 201,600), and dead rows
-- piled up 14 times as high until the next vacuum. Who sleeps is looked for every ten minutes, in a table of accounts.
drop index accounts_asleep_idx;

-- what retention looks for -------------------------------------------------------------------------------------------

create index outbox_created_at_idx on outbox (created_at);
create index attempts_created_at_idx on attempts (created_at);
create index deliveries_ended_idx on deliveries (ended_at) where ended_at is not null;
create index deliveries_open_idx on deliveries (event_at) where state in ('pending', 'sending');

-- partitions ---------------------------------------------------------------------------------------------------------

-- What no month has room for: a clock that jumped, a service that was off for months. A write never fails for that.
create table jobs_history_default partition of jobs_history default;
create table outbox_default partition of outbox default;
create table attempts_default partition of attempts default;

create or replace function ensure_partitions() returns void language plpgsql set lock_timeout = '200ms' as $$
declare
    parent text;
    key text;
    month date;
    name text;
begin
    if not pg_try_advisory_xact_lock(hashtext('postrider.ensure_partitions')) then
        return;
    end if;
    for parent, key, month in
        select kind.*, series.at::date
        from (values ('jobs_history', 'ended_at'), ('outbox', 'created_at'), ('attempts', 'created_at')) as kind,
             generate_series(date_trunc('month', now() at time zone 'utc') - interval '1 month',
                             date_trunc('month', now() at time zone 'utc') + interval '2 months', interval '1 month') as series (at)
    loop
        name := parent || to_char(month, '_YYYY_MM');
        continue when to_regclass(name) is not null;
        -- Made apart and attached, since CREATE TABLE … PARTITION OF locks out everybody, and a report that runs for minutes
        -- would hold it up, and behind it the whole service. Whoever is not let in tries again in ten minutes.
        begin
            execute format('lock table only %I in access exclusive mode', parent || '_default');
            execute format('create table %I (like %I including defaults including constraints)', name, parent);
            execute format(
                'with moved as (delete from only %I where %I >= %L and %I < %L returning *) insert into %I select * from moved',
                parent || '_default', key, month || ' 00:00:00+00', key, (month + interval '1 month')::date || ' 00:00:00+00', name);
            execute format('alter table %I attach partition %I for values from (%L) to (%L)',
                           parent, name, month || ' 00:00:00+00', (month + interval '1 month')::date || ' 00:00:00+00');
        exception
            when lock_not_available then raise notice 'partition % is made later: the table is in use', name;
        end;
    end loop;
end $$;
comment on function ensure_partitions() is
    'Create the monthly partitions from last month to two months ahead, with what waited for them in the default partition.';

create function drop_old_partition(p_before timestamptz) returns table (partition text, dropped boolean)
language plpgsql set lock_timeout = '200ms' as $$
declare
    parent text;
    since timestamptz;
    until timestamptz;
begin
    for parent, partition, since, until in
        select bounds.parent::text, bounds.partition::text, bounds.since::timestamptz, bounds.until::timestamptz
        from (
            select inhparent::regclass as parent, inhrelid::regclass as partition,
                   substring(pg_get_expr(relpartbound, pg_class.oid) from 'FROM \(''([^'']+)''\)') as since,
                   substring(pg_get_expr(relpartbound, pg_class.oid) from 'TO \(''([^'']+)''\)') as until
            from pg_inherits
            join pg_class on pg_class.oid = inhrelid
            where inhparent in ('jobs_history'::regclass, 'outbox'::regclass, 'attempts'::regclass)
        ) as bounds
        where bounds.until::timestamptz <= p_before
        order by bounds.until::timestamptz, bounds.partition::text
    loop
        begin
            -- Before, so as not to hold anybody up for nothing, and after, when nobody can write any more.
            perform refuse_open_deliveries(parent, since, until);
            execute format('lock table only %s in access exclusive mode', parent);
            perform refuse_open_deliveries(parent, since, until);
            execute format('drop table %s', partition);
            dropped := true;
        exception
            when lock_not_available or object_in_use then dropped := false;
        end;
        return next;
        -- One in a transaction: its locks hold everybody up until the commit.
        exit when dropped;
    end loop;
end $$;
comment on function drop_old_partition(timestamptz) is
    'Drop the oldest monthly partition that ended before this moment, and return it after those that cannot be dropped now: '
    'that somebody reads, or that hold events which are still to be delivered.';

create function refuse_open_deliveries(p_parent text, p_since timestamptz, p_until timestamptz) returns void
language plpgsql as $$
begin
    if p_parent = 'outbox' and exists (
        select from deliveries where state in ('pending', 'sending') and event_at >= p_since and event_at < p_until)
    then
        raise object_in_use using message = 'events from ' || p_since || ' on are still to be delivered';
    end if;
end $$;
comment on function refuse_open_deliveries(text, timestamptz, timestamptz) is
    'Raise object_in_use when a partition of outbox holds an event that is still to be delivered.';
