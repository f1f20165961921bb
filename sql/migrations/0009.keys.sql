-- Encryption keys: which ones each living process opens with, and which one everything was sealed anew with.
-- Oldest code that may run on it: 0.3.0. It says nothing of its keys, and `postrider keys reseal` refuses while it runs.

alter table workers add column fingerprints text[];
comment on column workers.fingerprints is
    'Fingerprints of its encryption keys, the one that seals first; null of code that does not tell.';

create table api_processes (
    id           text primary key,
    org_id       text references orgs,
    host         text not null,
    version      text not null,
    fingerprints text[] not null,
    created_at   timestamptz not null default now(),
    renewed_at   timestamptz not null default now()
);
comment on table api_processes is 'Processes of the HTTP API that live, or died without a word lately.';
comment on column api_processes.id is 'api_…, one a process; its connections have it in their application_name.';
comment on column api_processes.org_id is 'The org that it serves; null serves all.';
comment on column api_processes.host is 'Host name and process id.';
comment on column api_processes.version is 'Version of the code it runs.';
comment on column api_processes.fingerprints is 'Fingerprints of its encryption keys, the one that seals first.';
comment on column api_processes.created_at is 'When it started.';
comment on column api_processes.renewed_at is 'Its last sign of life; older than a minute means dead.';

create table sealing_keys (
    id          bigint generated always as identity primary key,
    org_id      text references orgs,
    fingerprint text not null,
    created_at  timestamptz not null default now()
);
comment on table sealing_keys is
    'Encryption keys that `postrider keys reseal` sealed everything anew with. No process starts without the newest.';
comment on column sealing_keys.id is 'Order of the runs.';
comment on column sealing_keys.org_id is 'The org whose secrets they were; null means all.';
comment on column sealing_keys.fingerprint is 'Fingerprint of the key.';
comment on column sealing_keys.created_at is 'When the run began.';
