-- name: report_of_job
select job_id, account_id, phone, status, attempts, created_at, sent_at, delivered_at, read_at, seconds_to_send
from report.jobs
where job_id = %(job)s
