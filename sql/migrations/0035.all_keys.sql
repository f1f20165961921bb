-- Writes down the keys of all jobs there are; it locks none of them. A migration of its own, since the trigger must be at work
-- before it begins.
-- Oldest code that may run on it: 0.3.0.

insert into job_keys (org_id, key_hash, job_id, content_hash)
select org_id, sha256(convert_to(key, 'UTF8')), id, content_hash from all_jobs where key is not null
order by 1, 2
on conflict do nothing;

insert into recent_contents (org_id, content_hash, job_id, created_at)
select distinct on (org_id, content_hash) org_id, content_hash, id, created_at from jobs
where key is null and created_at > now() - interval '3 days'
order by org_id, content_hash, created_at desc
on conflict do nothing;
