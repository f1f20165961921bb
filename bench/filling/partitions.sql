-- The monthly partitions before those that a new database has.
do $$
declare
    parent text;
    month date;
begin
    for parent, month in
        select parents.parent, date_trunc('month', now() at time zone 'utc') - back * interval '1 month'
        from unnest('{jobs_history,outbox,attempts}'::text[]) as parents (parent), generate_series(2, 4) as back
    loop
        -- The owner's, as all others are: upkeep drops them with its rights.
        execute format(
            'create table %I partition of %I for values from (%L) to (%L)', parent || to_char(month, '_YYYY_MM'), parent,
            month || ' 00:00:00+00', (month + interval '1 month')::date || ' 00:00:00+00');
        execute format('alter table %I owner to postrider_owner', parent || to_char(month, '_YYYY_MM'));
    end loop;
end $$
