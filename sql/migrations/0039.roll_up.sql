-- Rolling up: functions that write down what is counted of days that are over, and hold retention back until then.
-- Oldest code that may run on it: 0.3.0. Its upkeep deletes what is over age without waiting for the roll-up; then reports lack it.

create function rolls_up_alone() returns boolean language plpgsql as $$
begin
    -- What is counted and which marks are taken must be of one moment, or a change between the two would count twice or never.
    if current_setting('transaction_isolation') <> 'repeatable read' then
        raise exception 'days are rolled up in one snapshot: set transaction isolation level repeatable read';
    end if;
    -- Not an advisory lock, which every login may hold.
    return exists (select from report_seal for no key update skip locked);
end $$;
comment on function rolls_up_alone() is 'Whether nobody else is rolling up; nobody else begins until this transaction ends.';

create function count_day(p_account text, p_began_at timestamptz) returns void language plpgsql
-- To plan these views takes ten times as long as to read a day. One plan is right for all, since it begins with the day's row.
set plan_cache_mode = force_generic_plan as $$
begin
    perform set_config('app.org', org_id, true) from report_days where account_id = p_account and began_at = p_began_at;
    update report_days as days
    set accepted = coalesce(counted.accepted, 0), open = coalesce(counted.open, 0), sent = coalesce(counted.sent, 0),
        delivered = coalesce(counted.delivered, 0), read = coalesce(counted.read, 0), failed = coalesce(counted.failed, 0),
        outcome_unknown = coalesce(counted.outcome_unknown, 0), cancelled = coalesce(counted.cancelled, 0),
        sent_histogram = coalesce(counted.sent_histogram, '{}'),
        delivered_histogram = coalesce(counted.delivered_histogram, '{}'), counted_at = now()
    from (values (true)) as one (row)
    left join (
        select * from counted.days where account_id = p_account and began_at = p_began_at and not is_open
    ) as counted on true
    where days.account_id = p_account and days.began_at = p_began_at and coalesce(counted.accepted, 0) >= days.accepted;
    if not found then
        -- Its messages were deleted, by upkeep of an older version or by hand: what it has is more than what can be counted.
        update report_days set sealed_at = now() where account_id = p_account and began_at = p_began_at;
        update report_failures set last_detail = null where account_id = p_account and began_at = p_began_at;
        return;
    end if;
    delete from report_failures where account_id = p_account and began_at = p_began_at;
    insert into report_failures (account_id, org_id, began_at, day, zone, error_code, jobs, first_at, last_at, last_detail)
    select account_id, org_id, began_at, day, zone, error_code, jobs, first_at, last_at, last_detail
    from counted.failures where account_id = p_account and began_at = p_began_at and not is_open;
    delete from report_hours where account_id = p_account and began_at = p_began_at;
    insert into report_hours (account_id, org_id, began_at, hour, day, zone, accepted, sent, failed, cancelled, received, answers,
                              opt_outs, sent_histogram)
    select account_id, org_id, began_at, hour, day, zone, accepted, sent, failed, cancelled, received, answers, opt_outs,
           sent_histogram
    from counted.hours where account_id = p_account and began_at = p_began_at and not is_open;
end $$;
comment on function count_day(text, timestamptz) is 'Count a day that is not sealed, from the messages themselves.';

create function adjust_sealed_days(p_marks bigint[]) returns void language plpgsql as $$
begin
    update report_days as days
    set open = days.open + change.open, sent = days.sent + change.sent, delivered = days.delivered + change.delivered,
        read = days.read + change.read, failed = days.failed + change.failed,
        outcome_unknown = days.outcome_unknown + change.outcome_unknown, cancelled = days.cancelled + change.cancelled,
        counted_at = now()
    from (
        select sealed.account_id, sealed.began_at,
               coalesce(sum(weight) filter (where state in ('queued', 'sending', 'submitting')), 0) as open,
               coalesce(sum(weight) filter (where state in ('sent', 'delivered', 'read')), 0) as sent,
               coalesce(sum(weight) filter (where state in ('delivered', 'read')), 0) as delivered,
               coalesce(sum(weight) filter (where state = 'read'), 0) as read,
               coalesce(sum(weight) filter (where state = 'failed'), 0) as failed,
               coalesce(sum(weight) filter (where state = 'failed' and error_code = 'outcome_unknown'), 0) as outcome_unknown,
               coalesce(sum(weight) filter (where state = 'cancelled'), 0) as cancelled
        from report_marks as marks
        cross join lateral (values (-1, old_state, old_error_code), (1, new_state, new_error_code)) as was (weight, state, error_code)
        join report_days as sealed on sealed.account_id = marks.account_id and sealed.sealed_at is not null
            and accepted_at >= sealed.began_at and accepted_at < sealed.until_at
        where marks.id = any (p_marks)
        group by 1, 2
    ) as change
    where days.account_id = change.account_id and days.began_at = change.began_at;

    insert into report_failures as failures (account_id, org_id, began_at, day, zone, error_code, jobs, first_at, last_at)
    select days.account_id, days.org_id, days.began_at, days.day, days.zone, coalesce(error_code, 'unknown'), sum(weight),
           min(ended_at), max(ended_at)
    from report_marks as marks
    cross join lateral (values (-1, old_state, old_ended_at, old_error_code), (1, new_state, new_ended_at, new_error_code))
        as was (weight, state, ended_at, error_code)
    join report_days as days on days.account_id = marks.account_id and days.sealed_at is not null
        and accepted_at >= days.began_at and accepted_at < days.until_at
    where marks.id = any (p_marks) and state = 'failed'
    group by 1, 2, 3, 4, 5, 6
    on conflict (account_id, began_at, error_code) do update
    set jobs = failures.jobs + excluded.jobs, last_at = greatest(failures.last_at, excluded.last_at);

    insert into report_hours as hours (account_id, org_id, began_at, hour, day, zone, sent, failed, cancelled)
    select days.account_id, days.org_id, days.began_at, hour_of(ended_at, days.zone), days.day, days.zone,
           coalesce(sum(weight) filter (where state in ('sent', 'delivered', 'read')), 0),
           coalesce(sum(weight) filter (where state = 'failed'), 0),
           coalesce(sum(weight) filter (where state = 'cancelled'), 0)
    from report_marks as marks
    cross join lateral (values (-1, old_state, old_ended_at), (1, new_state, new_ended_at)) as was (weight, state, ended_at)
    join report_days as days on days.account_id = marks.account_id and days.sealed_at is not null
        and ended_at >= days.began_at and ended_at < days.until_at
    where marks.id = any (p_marks)
    group by 1, 2, 3, 4, 5, 6
    on conflict (account_id, began_at, hour) do update
    set sent = hours.sent + excluded.sent, failed = hours.failed + excluded.failed,
        cancelled = hours.cancelled + excluded.cancelled;
end $$;
comment on function adjust_sealed_days(bigint[]) is
    'Add these changes to the days that are sealed, which cannot be counted again; their histograms stay.';

create function take_report_marks(p_most integer, p_changes integer, p_except text[]) returns bigint language plpgsql as $$
declare
    account record;
    touched record;
    done bigint := 0;
begin
    if not rolls_up_alone() then
        return null;
    end if;
    -- An account at a time, so that a day of which thousands of messages have changed is counted once for all of them.
    for account in
        select account_id as id, array_agg(marks.id) as taken
        from (
            select id, account_id from report_marks where account_id <> all (p_except) order by id limit p_changes
        ) as marks
        group by account_id
        order by min(marks.id)
    loop
        perform adjust_sealed_days(account.taken);
        for touched in
            select days.began_at, days.accepted
            from report_marks as marks
            cross join lateral (values (accepted_at), (old_ended_at), (new_ended_at)) as moment (at)
            join report_days as days on days.account_id = marks.account_id and days.sealed_at is null
                and at >= days.began_at and at < days.until_at
            where marks.id = any (account.taken)
            group by days.began_at, days.accepted
            order by days.began_at
        loop
            perform count_day(account.id, touched.began_at);
            done := done + 1 + touched.accepted / 1000;
        end loop;
        delete from report_marks where id = any (account.taken);
        done := done + 1 + cardinality(account.taken) / 1000;
        exit when done >= p_most;
    end loop;
    return done;
end $$;
comment on function take_report_marks(integer, integer, text[]) is
    'Take the oldest p_changes at most, and count the days of these messages anew; some accounts can be left out. Return how much was '
    'done, about p_most at most and 0 when nothing is left: 1 for each account, each day and each thousand messages and changes. Null '
    'while another transaction rolls up.';

create function midnight_before(p_at timestamptz, p_zone text) returns timestamptz language plpgsql stable as $$
begin
    return midnight((p_at at time zone p_zone)::date, p_zone);
exception
    -- After a move to a server with older zones. It must not hold up the accounts of others.
    when invalid_parameter_value then return null;
end $$;
comment on function midnight_before(timestamptz, text) is 'The begin of the day in a zone; null in a zone that Postgres does not know.';

create function accounts_to_roll_up(p_except text[]) returns table (
    id text, org_id text, created_at timestamptz, zone text, old_zone text, known_since timestamptz, rolled_until timestamptz,
    boundary timestamptz
) language plpgsql stable as $$
#variable_conflict use_column
begin
    return query
    with zones as materialized (
        -- The last midnight that was an hour and two minutes ago: no transaction of ours lasts longer than a minute, and
        -- changes of messages that are younger than an hour are not marked.
        select zone, midnight_before(now() - interval '62 minutes', zone) as boundary
        from (select distinct time_zone as zone from accounts) as used
    )
    select accounts.id, accounts.org_id, accounts.created_at, time_zone as zone, report_progress.zone as old_zone, known_since,
           rolled_until, boundary
    from accounts
    join zones on zones.zone = time_zone
    left join report_progress on account_id = accounts.id
    where accounts.id <> all (p_except) and boundary is not null
      and (rolled_until is null or report_progress.zone <> time_zone or rolled_until < boundary)
    order by accounts.id;
end $$;
comment on function accounts_to_roll_up(text[]) is
    'Accounts with days that are over and not rolled up, or whose time zone is another by now, with the end of the last such day.';

create function roll_up_days(p_most integer, p_except text[]) returns bigint language plpgsql as $$
declare
    account record;
    next date;
    since timestamptz;
    until timestamptz;
    rolled bigint := 0;
begin
    if not rolls_up_alone() then
        return null;
    end if;
    for account in select * from accounts_to_roll_up(p_except) limit p_most loop
        if account.old_zone <> account.zone then
            -- Its days are others now; but those that are sealed.
            delete from report_failures as gone using report_days as days
            where days.account_id = account.id and sealed_at is null and gone.account_id = account.id and gone.began_at = days.began_at;
            delete from report_hours as gone using report_days as days
            where days.account_id = account.id and sealed_at is null and gone.account_id = account.id and gone.began_at = days.began_at;
            delete from report_days where account_id = account.id and sealed_at is null;
            account.rolled_until := (select max(until_at) from report_days where account_id = account.id);
        end if;
        since := account.rolled_until;
        if since is null then
            since := least(
                (select min(created_at) from jobs where org_id = account.org_id and account_id = account.id),
                (select min(created_at) from jobs_history where org_id = account.org_id and account_id = account.id),
                (select min(created_at) from incoming where account_id = account.id),
                (select min(created_at) from opt_outs where opt_outs.account_id = account.id),
                account.boundary);
            since := midnight((since at time zone account.zone)::date, account.zone);
        end if;
        -- What an account had that is older than the roll-up may be deleted in part.
        account.known_since := coalesce(account.known_since, case
            when account.created_at > (select created_at from report_seal) then account.created_at else since end);
        while since < account.boundary and rolled < p_most loop
            next := (since at time zone account.zone)::date + 1;
            until := midnight(next, account.zone);
            insert into report_days (account_id, org_id, began_at, until_at, day, zone)
            values (account.id, account.org_id, since, until, next - 1, account.zone)
            -- Waits for nobody: what another transaction has just rolled up ends this one.
            on conflict do nothing;
            perform count_day(account.id, since);
            rolled := rolled + 1 + (
                select accepted / 1000 from report_days where account_id = account.id and began_at = since);
            delete from report_days
            where account_id = account.id and began_at = since and accepted = 0
              and not exists (select from report_hours where account_id = account.id and began_at = since);
            since := until;
        end loop;
        insert into report_progress (account_id, org_id, zone, known_since, rolled_until)
        values (account.id, account.org_id, account.zone, account.known_since, since)
        on conflict (account_id) do update set zone = excluded.zone, rolled_until = excluded.rolled_until;
        rolled := rolled + 1;
        exit when rolled >= p_most;
    end loop;
    return rolled;
end $$;
comment on function roll_up_days(integer, text[]) is
    'Roll up days that are over; of an account whose time zone has changed anew, but for those that are sealed. Return how much was '
    'done, about p_most at most and 0 when nothing is left: 1 for each account, each day and each thousand messages. Null while another '
    'transaction rolls up. Some accounts can be left out.';

create function seal_report_days(p_before timestamptz, p_most integer) returns bigint language plpgsql as $$
declare
    sealed bigint;
begin
    if not rolls_up_alone() then
        return null;
    end if;
    -- Of what is sealed no mark may be left that is in this snapshot: it may be counted already.
    perform take_report_marks(p_most, 100 * p_most, '{}');
    if exists (select from report_marks) then
        return 0;
    end if;
    update report_days set sealed_at = now()
    where (account_id, began_at) in (
        select account_id, began_at from report_days
        where sealed_at is null and began_at < p_before order by began_at limit p_most);
    get diagnostics sealed = row_count;
    -- It may name a number or a chat, and goes with the messages.
    update report_failures as failures set last_detail = null
    from report_days as days
    where days.sealed_at = now() and failures.account_id = days.account_id and failures.began_at = days.began_at;
    update report_seal set sealed_before = greatest(sealed_before, least(
        p_before,
        (select min(began_at) from report_days where sealed_at is null),
        (select min(coalesce(rolled_until, '-infinity')) from accounts left join report_progress on account_id = accounts.id)));
    return sealed;
end $$;
comment on function seal_report_days(timestamptz, integer) is
    'Seal so many days that began before this moment, the oldest first, and allow retention to delete what is older, as far as all days are '
    'rolled up. Return how many were sealed, 0 when none is left; null while another transaction rolls up.';

create function report_day(p_account text, p_began_at timestamptz) returns jsonb language sql stable as $$
    select jsonb_build_object(
        'day', (select to_jsonb(days) - 'counted_at' from report_days as days where account_id = p_account and began_at = p_began_at),
        'failures', (
            select jsonb_agg(to_jsonb(failures) - '{created_at,last_detail}'::text[] order by error_code) from report_failures as failures
            where account_id = p_account and began_at = p_began_at),
        'hours', (
            select jsonb_agg(to_jsonb(hours) - 'created_at' order by hour) from report_hours as hours
            where account_id = p_account and began_at = p_began_at))
$$;
comment on function report_day(text, timestamptz) is 'All that is rolled up of a day, but for texts, which may name a number.';

create function check_report_day() returns table (account text, day date, was jsonb, counted jsonb) language plpgsql as $$
declare
    began timestamptz;
begin
    if not rolls_up_alone() then
        return;
    end if;
    select report_progress.account_id into account from report_progress order by random() limit 1;
    select days.began_at, days.day into began, day from report_days as days
    where account_id = account and sealed_at is null
    order by random()
    limit 1;
    -- With changes that are still to be taken, it may differ.
    if began is null or exists (select from report_marks where account_id = account) then
        return;
    end if;
    was := report_day(account, began);
    perform count_day(account, began);
    counted := report_day(account, began);
    if was <> counted then
        return next;
    end if;
end $$;
comment on function check_report_day() is
    'Count any one day anew that is rolled up and not sealed; return what was there and what is right, if they differ.';

-- retention waits for the roll-up ------------------------------------------------------------------------------------

create function deletable_before(p_before timestamptz) returns timestamptz language sql stable as $$
    select least(p_before, (select sealed_before from report_seal))
$$;
comment on function deletable_before(timestamptz) is
    'This moment, or an earlier one if what reports count is not sealed until then: only what is older may be deleted.';

create or replace function drop_old_partition(p_before timestamptz) returns table (partition text, dropped boolean)
language plpgsql security definer set search_path = public, pg_temp set lock_timeout = '200ms' as $$
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
        where bounds.until::timestamptz <= case bounds.parent when 'jobs_history'::regclass then deletable_before(p_before) else p_before end
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

revoke execute on function rolls_up_alone(), count_day(text, timestamptz), adjust_sealed_days(bigint[]),
    take_report_marks(integer, integer, text[]), roll_up_days(integer, text[]), seal_report_days(timestamptz, integer), check_report_day()
    from public;
grant execute on function rolls_up_alone(), count_day(text, timestamptz), adjust_sealed_days(bigint[]),
    take_report_marks(integer, integer, text[]), roll_up_days(integer, text[]), seal_report_days(timestamptz, integer), check_report_day()
    to postrider_worker;
