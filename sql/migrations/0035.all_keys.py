"""Write down the keys of all jobs there are, page by page; no job is locked, and no transaction is long.

Oldest code that may run on it: 0.3.0. A migration of its own, since the trigger must be at work before it begins. It can be
run again.
"""

from yoyo import step

__transactional__ = False

PAGE = 20_000  # jobs
NEXT = """
    with page as materialized (
        select id, org_id, key, content_hash, created_at from {table} where id > %s order by id limit %s
    ), kept as (
        insert into job_keys (org_id, key_hash, job_id, content_hash, created_at)
        select org_id, sha256(convert_to(key, 'UTF8')), id, content_hash, created_at from page where key is not null
        order by 1, 2
        on conflict do nothing
    )
    select max(id) from page
"""


def keep_keys(connection):
    cursor = connection.cursor()
    cursor.execute("select inhrelid::regclass::text from pg_inherits where inhparent = 'jobs_history'::regclass")
    for table in ["jobs", *(name for (name,) in cursor.fetchall())]:
        last = ""
        while last is not None:
            cursor.execute(NEXT.format(table=table), [last, PAGE])
            (last,) = cursor.fetchone()
            connection.commit()


#: Those that an older version accepted in the last minutes: a repeated one is recognised for DEDUPE_SECONDS.
CONTENTS = """
    insert into recent_contents (org_id, content_hash, job_id, created_at)
    select distinct on (org_id, content_hash) org_id, content_hash, id, created_at from jobs
    where key is null and created_at > now() - interval '3 days'
    order by org_id, content_hash, created_at desc
    on conflict do nothing
"""

steps = [step(keep_keys), step(CONTENTS)]
