-- Health of endpoints: how hard each may be tried, by what it answered lately.
-- Oldest code that may run on it: 0.3.0. Older code would make requests that no rest and no rate holds back.

-- All at once, before anything waits for one of them and holds another.
lock table deliveries, attempts, endpoints in access exclusive mode;

alter table endpoints
    add column per_second    double precision check (per_second > 0),
    add column ready_at      timestamptz,
    add column in_flight     smallint not null default 2,
    add column failures      integer not null default 0,
    add column rests         integer not null default 0,
    add column failing_since timestamptz,
    add column failed_at     timestamptz;
-- Every change of its health is a new version of the row, which no index needs to know of.
alter table endpoints set (fillfactor = 70);
comment on column endpoints.per_second is 'Requests that it wants in a second at most; null for as many as it takes.';
comment on column endpoints.ready_at is 'When per_second allows its next request.';
comment on column endpoints.in_flight is 'Requests that may be under way at once: one after an outage, twice as many with each success.';
comment on column endpoints.failures is 'Requests that failed since the last success.';
comment on column endpoints.rests is 'How often in a row it was left alone since.';
comment on column endpoints.failing_since is
    'When the first of these failures was, or the first after a day without one; null after a success.';
comment on column endpoints.failed_at is 'When the last of these failures was; null after a success.';

alter table deliveries add column replayed integer not null default 0;
comment on column deliveries.replayed is 'Attempts that had been made when it was last replayed; its policy counts from there.';

alter table attempts add column headers jsonb, add column counts boolean not null default true;
comment on column attempts.headers is 'Headers of the answer.';
comment on column attempts.counts is 'Whether it used up one of the delivery''s attempts: not when we had no network.';
