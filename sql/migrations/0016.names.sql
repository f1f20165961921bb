-- Names that say what a thing does, and columns that nothing ever wrote.
-- Oldest code that may run on it: 0.3.0.

alter function forget_events(timestamptz, integer) rename to purge_events;

-- Code of 0.5.0 and before calls it by its old name while it still runs beside this one.
create function forget_events(p_before timestamptz, p_most integer) returns bigint language sql as
    'select purge_events(p_before, p_most)';
comment on function forget_events(timestamptz, integer) is 'The old name of purge_events, for one release.';

alter table workers drop column org_id;
alter table api_processes drop column org_id;
