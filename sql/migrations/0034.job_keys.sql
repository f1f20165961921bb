-- Which job an idempotency key belongs to, in one table: the search no longer asks every month of the history.
-- Oldest code that may run on it: 0.3.0. A trigger writes down the keys of the jobs that it inserts.

create table job_keys (
    org_id       text not null,
    key_hash     bytea not null,
    job_id       text not null,
    content_hash bytea not null,
    created_at   timestamptz not null default now(),
    primary key (org_id, key_hash)
) with (autovacuum_vacuum_scale_factor = 0.05);
create index job_keys_created_at_idx on job_keys using brin (created_at) with (autosummarize = on);
comment on table job_keys is 'The idempotency key of each job that has one, for as long as there is the job, in whichever table.';
comment on column job_keys.org_id is 'The org of the job.';
comment on column job_keys.key_hash is 'SHA-256 of the key.';
comment on column job_keys.job_id is 'The job.';
comment on column job_keys.content_hash is 'SHA-256 of the request: a key is not taken for another one.';
comment on column job_keys.created_at is 'When the key was written down.';

create table recent_contents (
    org_id       text not null,
    content_hash bytea not null,
    job_id       text not null,
    created_at   timestamptz not null default now(),
    primary key (org_id, content_hash)
) with (autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
create index recent_contents_created_at_idx on recent_contents (created_at);
comment on table recent_contents is
    'The last job of each request without an idempotency key: an equal one within DEDUPE_SECONDS is the same job.';
comment on column recent_contents.org_id is 'The org of the job.';
comment on column recent_contents.content_hash is 'SHA-256 of the request.';
comment on column recent_contents.job_id is 'The job.';
comment on column recent_contents.created_at is 'When the job was accepted.';

-- what is inserted without door.accept -------------------------------------------------------------------------------

create function keep_names() returns trigger language plpgsql security definer set search_path = public, pg_temp as $$
begin
    insert into job_keys (org_id, key_hash, job_id, content_hash)
    select org_id, sha256(convert_to(key, 'UTF8')), id, content_hash from came where key is not null
    order by 1, 2
    on conflict do nothing;
    insert into recent_contents as recent (org_id, content_hash, job_id)
    select distinct on (org_id, content_hash) org_id, content_hash, id from came
    where key is null and created_at > now() - interval '3 days'
    order by org_id, content_hash
    on conflict (org_id, content_hash) do update set job_id = excluded.job_id, created_at = excluded.created_at
    where recent.created_at <= now() - interval '10 seconds';
    -- An API of an older version has looked for an equal request before a newer one inserted its own. It tries again, once, after
    -- this error, and finds it.
    if current_setting('application_name') like 'postrider api%' and exists (
        select from came join recent_contents as recent using (org_id, content_hash)
        where came.key is null and recent.job_id <> came.id and recent.created_at > now() - interval '10 seconds')
    then
        raise serialization_failure using message = 'an equal request has just been accepted';
    end if;
    return null;
end $$;
revoke execute on function keep_names() from public;
comment on function keep_names() is
    'Write down keys and contents of jobs that older versions, restores and the like insert; door.accept has done so before.';
create trigger keep_names after insert on jobs
    referencing new table as came for each statement
    when (coalesce(current_setting('app.named', true), '') <> 'yes')
    execute function keep_names();

-- the fence ----------------------------------------------------------------------------------------------------------

-- As in 0031.policies. The API reaches both tables by door.accept alone.
do $$
declare
    name text;
    tenant constant text := 'case when org_id = (select current_setting(''app.org'', true)) then true end is not null';
begin
    foreach name in array array['job_keys', 'recent_contents'] loop
        execute format('alter table %I enable row level security', name);
        execute format('create policy tenant on %I as restrictive for all to postrider_api using (%s) with check (%s)',
                       name, tenant, tenant);
        execute format('create policy api on %I for all to postrider_api using (true) with check (true)', name);
        execute format('create policy worker on %I for all to postrider_worker using (true) with check (true)', name);
        execute format('grant select, insert, update, delete on %I to postrider_worker', name);
    end loop;
end $$;

-- retention ----------------------------------------------------------------------------------------------------------

create function forget_keys(p_before timestamptz, p_after_org text, p_after_key text, p_most integer)
returns table (read bigint, last_org text, last_key text) language plpgsql security definer set search_path = public, pg_temp as $$
declare
    name text;
begin
    select inhrelid::regclass::text into name
    from pg_inherits
    join pg_class on pg_class.oid = inhrelid
    where inhparent = 'jobs_history'::regclass
      and substring(pg_get_expr(relpartbound, pg_class.oid) from 'TO \(''([^'']+)''\)')::timestamptz <= p_before
    order by substring(pg_get_expr(relpartbound, pg_class.oid) from 'TO \(''([^'']+)''\)')::timestamptz
    limit 1;
    if name is null then
        return query select 0::bigint, null::text, null::text;
        return;
    end if;
    return query execute format('
        with page as materialized (
            select id, org_id, key from %s
            where key is not null and (org_id, key) > ($1, $2)
            order by org_id, key
            limit $3
        ), gone as (
            delete from job_keys using page
            where job_keys.org_id = page.org_id and job_keys.key_hash = sha256(convert_to(page.key, ''UTF8''))
              and job_keys.job_id = page.id
        )
        select count(*), (array_agg(org_id order by org_id desc, key desc))[1], (array_agg(key order by org_id desc, key desc))[1]
        from page', name)
    using p_after_org, p_after_key, p_most;
end $$;
revoke execute on function forget_keys(timestamptz, text, text, integer) from public;
grant execute on function forget_keys(timestamptz, text, text, integer) to postrider_worker;
comment on function forget_keys(timestamptz, text, text, integer) is
    'Of the oldest month of the history that ended before this moment, and that is about to be dropped, delete the keys that come '
    'after a place, at most so many. Return how many jobs were read, and the new place.';
