-- name: report_of_job
select job_id, account_id, phone, status, attempts, created_at, sent_at, delivered_at, read_at, seconds_to_send
from report.jobs
where job_id = %(job)s

-- name: add_report_login
insert into report_logins (login, org_id) values (%(login)s, %(org)s)

-- name: list_report_logins
-- A login that somebody dropped by hand is still in the table.
select login, org_id, created_at, rolname is not null and rolcanlogin as can_log_in
from report_logins
left join pg_roles on rolname = login
order by created_at, login

-- name: remove_report_login
-- Whether the login was made for this: then its role has this comment.
with gone as (
    delete from report_logins where login = %(login)s returning login
)
select coalesce(shobj_description(pg_roles.oid, 'pg_authid') = %(comment)s, false) as made_for_it,
       pg_roles.oid is not null as exists
from gone
left join pg_roles on rolname = gone.login

-- name: report_views
-- Those that this role may read, and that see what postrider_views sees: a view of somebody else's would show all orgs.
select relname as view, obj_description(pg_class.oid, 'pg_class') as description, attname as name,
       format_type(atttypid, atttypmod) as type, col_description(pg_class.oid, attnum) as about
from pg_class
join pg_attribute on attrelid = pg_class.oid and attnum > 0 and not attisdropped
where relnamespace = 'report'::regnamespace and relkind = 'v' and relowner = 'postrider_views'::regrole
  and has_table_privilege(pg_class.oid, 'select')
order by relname, attnum
