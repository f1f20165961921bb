-- name: take_report_marks
select take_report_marks(%(most)s, 100 * %(most)s, %(except)s::text[]) as done

-- name: next_of_marks
-- The account whose changes are taken next.
select account_id as account from report_marks where account_id <> all (%(except)s::text[]) order by id limit 1

-- name: roll_up_days
select roll_up_days(%(most)s, %(except)s::text[]) as done

-- name: next_to_roll_up
select id as account from accounts_to_roll_up(%(except)s::text[]) limit 1

-- name: seal_report_days
-- What retention may delete within the next day, so that upkeep of an older version, which does not wait, deletes nothing that is
-- counted again. Jobs stay for at least 26 hours.
select seal_report_days(
    now() - greatest(%(days)s * interval '1 day', interval '26 hours') + interval '1 day', %(most)s) as done

-- name: check_report_day
select account, day, was, counted from check_report_day()
