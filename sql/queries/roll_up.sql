-- name: take_report_marks
select take_report_marks(%(most)s) as done

-- name: roll_up_days
select roll_up_days(%(most)s) as done

-- name: seal_report_days
-- What retention may delete within the next hour. Jobs stay for at least 26 hours.
select seal_report_days(now() - greatest(%(days)s * interval '1 day', interval '26 hours') + interval '1 hour') as done

-- name: check_report_day
select account, day, was, counted from check_report_day()
