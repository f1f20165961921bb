-- What reports count, rolled up by account and day: a year of it is read at once, and it outlives the jobs.
-- Oldest code that may run on it: 0.3.0. A trigger marks what its processes change.

-- tables -------------------------------------------------------------------------------------------------------------

create table report_progress (
    account_id   text primary key,
    org_id       text not null,
    zone         text not null,
    known_since  timestamptz not null,
    rolled_until timestamptz not null,
    created_at   timestamptz not null default now(),
    -- Upkeep of an older version deletes accounts without it.
    foreign key (org_id, account_id) references accounts (org_id, id) on delete cascade
);
comment on table report_progress is 'How far each account''s days are rolled up. Later ones are counted when somebody asks.';
comment on column report_progress.account_id is 'The account.';
comment on column report_progress.org_id is 'The org it belongs to.';
comment on column report_progress.zone is 'The time zone of its newest days. Once the account''s is another, they are counted anew.';
comment on column report_progress.known_since is
    'Since when its messages are known: its creation, or the first one that there was when reports were first rolled up.';
comment on column report_progress.rolled_until is 'The end of its last day that is rolled up.';
comment on column report_progress.created_at is 'When its first day was.';

create table report_days (
    account_id          text not null,
    org_id              text not null,
    began_at            timestamptz not null,
    until_at            timestamptz not null,
    day                 date not null,
    zone                text not null,
    accepted            bigint not null default 0,
    open                bigint not null default 0,
    sent                bigint not null default 0,
    delivered           bigint not null default 0,
    read                bigint not null default 0,
    failed              bigint not null default 0,
    outcome_unknown     bigint not null default 0,
    cancelled           bigint not null default 0,
    sent_histogram      integer[] not null default '{}',
    delivered_histogram integer[] not null default '{}',
    counted_at          timestamptz not null default now(),
    sealed_at           timestamptz,
    created_at          timestamptz not null default now(),
    primary key (account_id, began_at)
) with (fillfactor = 80);
comment on table report_days is
    'Messages by account and local day of their acceptance, by what has become of them. Only days that are over, and on which '
    'something happened.';
comment on column report_days.account_id is 'The account. It may be deleted; its days stay.';
comment on column report_days.org_id is 'The org it belongs to.';
comment on column report_days.began_at is 'The first moment of the day.';
comment on column report_days.until_at is 'The first moment after it.';
comment on column report_days.day is 'The day, by the clocks of the zone.';
comment on column report_days.zone is 'The account''s time zone when the day was counted.';
comment on column report_days.accepted is 'Messages that were accepted on that day.';
comment on column report_days.open is 'Of these, those that have not ended.';
comment on column report_days.sent is 'Of these, those that WhatsApp took: sent, delivered or read.';
comment on column report_days.delivered is 'Of these, those that arrived: delivered or read.';
comment on column report_days.read is 'Of these, those that were seen to be read.';
comment on column report_days.failed is 'Of these, those that failed, with those whose outcome is unknown.';
comment on column report_days.outcome_unknown is 'Of those that failed, those that may have arrived.';
comment on column report_days.cancelled is 'Of these, those that were cancelled.';
comment on column report_days.sent_histogram is
    'Of those that were sent, how many took how long from acceptance, or from sendAt when later, to the first tick: see seconds_bucket.';
comment on column report_days.delivered_histogram is 'Of those that were delivered, how many took how long from the first tick to two.';
comment on column report_days.counted_at is 'When it was last counted.';
comment on column report_days.sealed_at is
    'Since when it is not counted any more, because retention deletes its messages; what changes later is added.';
comment on column report_days.created_at is 'When it was first counted.';
create index report_days_day_idx on report_days (org_id, day);
create index report_days_unsealed_idx on report_days (began_at) where sealed_at is null;

create table report_failures (
    account_id  text not null,
    org_id      text not null,
    began_at    timestamptz not null,
    day         date not null,
    zone        text not null,
    error_code  text not null,
    jobs        bigint not null,
    first_at    timestamptz,
    last_at     timestamptz,
    last_detail text,
    created_at  timestamptz not null default now(),
    primary key (account_id, began_at, error_code)
);
comment on table report_failures is 'Of the messages of report_days that failed, why.';
comment on column report_failures.account_id is 'The account.';
comment on column report_failures.org_id is 'The org it belongs to.';
comment on column report_failures.began_at is 'The first moment of the day of acceptance.';
comment on column report_failures.day is 'That day, by the clocks of the zone.';
comment on column report_failures.zone is 'The account''s time zone when the day was counted.';
comment on column report_failures.error_code is 'Code of the failure.';
comment on column report_failures.jobs is 'How many messages failed with it.';
comment on column report_failures.first_at is 'When the first of them did.';
comment on column report_failures.last_at is 'When the last of them did.';
comment on column report_failures.last_detail is 'What the last of them said; null once the day is sealed.';
comment on column report_failures.created_at is 'When it was counted.';
create index report_failures_day_idx on report_failures (org_id, day);

create table report_hours (
    account_id     text not null,
    org_id         text not null,
    began_at       timestamptz not null,
    hour           timestamptz not null,
    day            date not null,
    zone           text not null,
    accepted       bigint not null default 0,
    sent           bigint not null default 0,
    failed         bigint not null default 0,
    cancelled      bigint not null default 0,
    received       bigint not null default 0,
    answers        bigint not null default 0,
    opt_outs       bigint not null default 0,
    sent_histogram integer[] not null default '{}',
    created_at     timestamptz not null default now(),
    primary key (account_id, began_at, hour)
);
comment on table report_hours is 'What happened in each hour of a local day: when it happened counts, and not when the message was accepted.';
comment on column report_hours.account_id is 'The account.';
comment on column report_hours.org_id is 'The org it belongs to.';
comment on column report_hours.began_at is 'The first moment of its day.';
comment on column report_hours.hour is 'The moment at which the hour began by the clocks of the zone. Where clocks are put back, there are two.';
comment on column report_hours.day is 'Its day, by the clocks of the zone.';
comment on column report_hours.zone is 'The account''s time zone when the day was counted.';
comment on column report_hours.accepted is 'Messages that were accepted in it.';
comment on column report_hours.sent is 'Messages whose first tick was seen in it.';
comment on column report_hours.failed is 'Messages that failed in it, and were not tried again later.';
comment on column report_hours.cancelled is 'Messages that were cancelled in it.';
comment on column report_hours.received is 'Messages that came in.';
comment on column report_hours.answers is 'Of these, those from numbers to which the account had sent a message in the week before.';
comment on column report_hours.opt_outs is 'Numbers that opted out by a message to the account.';
comment on column report_hours.sent_histogram is 'Of those that were sent, how many had taken how long since acceptance, or sendAt when later.';
comment on column report_hours.created_at is 'When it was counted.';
create index report_hours_day_idx on report_hours (org_id, day);

create table report_marks (
    id             bigint generated always as identity primary key,
    org_id         text not null,
    account_id     text not null,
    accepted_at    timestamptz not null,
    old_state      text not null,
    old_ended_at   timestamptz,
    old_error_code text,
    new_state      text not null,
    new_ended_at   timestamptz,
    new_error_code text,
    created_at     timestamptz not null default clock_timestamp()
) with (autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
comment on table report_marks is 'Changes of messages whose day may be rolled up: what a message was, and what it has become.';
comment on column report_marks.id is 'Order of writing.';
comment on column report_marks.org_id is 'The org it belongs to.';
comment on column report_marks.account_id is 'The account of the message.';
comment on column report_marks.accepted_at is 'When it was accepted.';
comment on column report_marks.old_state is 'Its state before.';
comment on column report_marks.old_ended_at is 'When it had ended before.';
comment on column report_marks.old_error_code is 'Why it had failed before.';
comment on column report_marks.new_state is 'Its state now.';
comment on column report_marks.new_ended_at is 'When it ended.';
comment on column report_marks.new_error_code is 'Why it failed.';
comment on column report_marks.created_at is 'When it changed.';

create table report_seal (
    one_row       boolean primary key default true check (one_row),
    sealed_before timestamptz not null,
    created_at    timestamptz not null default now()
);
comment on table report_seal is 'One row: what retention may delete without a loss to the reports.';
comment on column report_seal.one_row is 'There is one row.';
comment on column report_seal.sealed_before is 'Days that began before this moment are sealed: messages and answers from before it may go.';
comment on column report_seal.created_at is 'Since when reports are rolled up: nothing is missing of an account that is younger.';
insert into report_seal (sealed_before) values ('-infinity');

-- which answers what -------------------------------------------------------------------------------------------------

-- Decided when it comes in: later the message that it answers may be deleted.
alter table incoming add column is_answer boolean;
comment on column incoming.is_answer is
    'Whether the account had sent a message to its sender in the week before; null in rows of before 0.6, or when its number became known later.';

create function was_sent_to(p_account accounts, p_phone text) returns boolean language sql stable as $$
    select case when p_phone is not null then exists (
        select from all_jobs
        where org_id = p_account.org_id and phone = any (phone_forms(p_phone)) and account_id = p_account.id
          and sent_at is not null and ended_at > now() - interval '7 days') end
$$;
comment on function was_sent_to(accounts, text) is
    'Whether an account has sent a message to a number in the last seven days; null without a number.';

-- the fence ----------------------------------------------------------------------------------------------------------

-- As in 0031.policies. The API writes marks, and reads the rest by the views of the schema report alone.
do $$
declare
    name text;
    tenant constant text := 'case when org_id = (select current_setting(''app.org'', true)) then true end is not null';
    bound constant text :=
        'case when (select current_setting(''app.accounts'', true)) = ''*''
                or account_id = any ((select string_to_array(current_setting(''app.accounts'', true), '',''))::text[])
              then true end is not null';
begin
    foreach name in array array['report_progress', 'report_days', 'report_failures', 'report_hours', 'report_marks'] loop
        execute format('alter table %I enable row level security', name);
        execute format('create policy tenant on %I as restrictive for all to postrider_api using (%s) with check (%s)',
                       name, tenant, tenant);
        execute format('create policy accounts on %I as restrictive for all to postrider_api using (%s) with check (%s)',
                       name, bound, bound);
        execute format('create policy api on %I for all to postrider_api using (true) with check (true)', name);
        execute format('create policy worker on %I for all to postrider_worker using (true) with check (true)', name);
        execute format('grant select, insert, update, delete on %I to postrider_worker', name);
    end loop;
    foreach name in array array['report_progress', 'report_days', 'report_failures', 'report_hours', 'incoming', 'opt_outs'] loop
        execute format('create policy report on %I for all to postrider_views using (%s) with check (%s)', name,
                       'org_id = (select report_org())', 'org_id = (select report_org())');
        execute format('grant select on %I to postrider_views', name);
    end loop;
end $$;
grant insert on report_marks to postrider_api;
grant usage on sequence report_marks_id_seq to postrider_api, postrider_worker;
grant select, update on report_seal to postrider_worker;

-- marks --------------------------------------------------------------------------------------------------------------

create function mark_report() returns trigger language plpgsql as $$
begin
    insert into report_marks (org_id, account_id, accepted_at, old_state, old_ended_at, old_error_code,
                              new_state, new_ended_at, new_error_code)
    values (new.org_id, new.account_id, new.created_at, old.state, old.ended_at, old.error_code,
            new.state, new.ended_at, new.error_code);
    return null;
end $$;
comment on function mark_report() is 'Write down what a message was and what it has become.';
-- Not for a message of the last hour: its day is rolled up an hour after its end at the earliest. So most messages write none.
create trigger mark_report after update on jobs
    for each row
    when (old.state <> new.state and (old.ended_at is not null or new.ended_at is not null)
          and old.created_at < clock_timestamp() - interval '1 hour')
    execute function mark_report();
