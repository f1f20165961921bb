-- Workers have duties: sessions, webhooks, or both.
-- Oldest code that may run on it: 0.3.0. It has both.

alter table workers add column duties text[] not null default '{sessions,webhooks}';
comment on column workers.duties is
    'What it does: sessions (accounts and their messages), webhooks. A visitor, as `postrider doctor` is, has none.';
alter table workers alter column home drop not null;
comment on column workers.home is
    'The identity of its directory of profiles; null of a worker without sessions.';

create function duty_is_done(p_duty text) returns boolean language sql stable as $$
    select exists (select from workers where p_duty = any (duties) and renewed_at > now() - interval '30 seconds')
$$;
comment on function duty_is_done(text) is 'Whether a worker that lives has this duty.';
