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
    insert into job_keys as held (org_id, key_hash, job_id, content_hash)
    select org_id, sha256(convert_to(key, 'UTF8')), id, content_hash from came where key is not null
    order by 1, 2
    on conflict (org_id, key_hash) do update set job_id = excluded.job_id, content_hash = excluded.content_hash
    where held.job_id <> excluded.job_id
      and not exists (select from jobs where id = held.job_id)
      and not exists (select from jobs_history where id = held.job_id);
    insert into recent_contents as recent (org_id, content_hash, job_id)
    select distinct on (org_id, content_hash) org_id, content_hash, id from came
    where key is null and created_at > now() - interval '1 minute'
    order by org_id, content_hash
    on conflict (org_id, content_hash) do update set job_id = excluded.job_id, created_at = excluded.created_at
    where recent.created_at <= now() - interval '1 second';
    -- An API of an older version has looked for an equal request just before a newer one inserted its own. It tries again, once,
    -- after this error, and finds it.
    if current_setting('application_name') like 'postrider api%' and exists (
        select from came join recent_contents as recent using (org_id, content_hash)
        where came.key is null and came.created_at > now() - interval '1 minute'
          and recent.created_at > now() - interval '1 second' and recent.job_id not in (select id from came))
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
