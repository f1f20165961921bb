"""The fence between orgs: policies on each table of theirs, and what each role may do with it.

Oldest code that may run on it: 0.3.0. It runs as a member of the owner, whom no policy binds.

A table at a time, each in a transaction of its own: together they would hold up all traffic until the last lock is had. Each
can be run again.
"""

from yoyo import step

__transactional__ = False

#: A row is the org's that the transaction has set; without one, nobody's. With `=` alone Postgres would multiply its estimate with
#: that of the query's own `org_id =`, expect a handful of rows, and sort all the org's instead of reading an index in order. Of
#: `case … is not null` it expects that nearly all rows pass, which they do.
TENANT = "case when org_id = (select current_setting('app.org', true)) then true end is not null"
#: Callers may be bound to some accounts; `*` is all of them. Unset is none.
BOUND = """
    case when (select current_setting('app.accounts', true)) = '*'
           or {} = any ((select string_to_array(current_setting('app.accounts', true), ','))::text[]) then true end is not null
"""
#: table → which account a row is of, and what the API may do with it
TABLES = {
    "orgs": (None, "select, update (added_stop_words, ignored_stop_words, opt_out_reply, self_paused_at)"),
    "api_keys": (None, "select, insert, update"),
    "request_signatures": (None, "select, insert"),
    "endpoints": (None, "select, insert, update"),
    "endpoint_secrets": (None, "select, insert, delete"),
    "recoveries": (None, "select, insert, update"),
    "opt_outs": (None, "select, insert, update"),
    "checkups": ("account_id", ""),
    "qr_tokens": ("account_id", ""),
    "profiles": ("account_id", "select (account_id, org_id, kept_since), update (kept_since)"),
    "account_changes": ("account_id", "select"),
    "incoming": ("account_id", "select"),
    "lane_depth": ("lane_id", "select, insert, update"),
    "lane_marks": (None, "insert"),
    "lanes": ("case kind when 'account' then id end", "select, insert, update"),
    "accounts": ("id", "select, insert, update"),
    "attempts": (None, "select"),
    "deliveries": (None, "select, insert, update"),
    "outbox": ("account_id", "select, insert, update (id)"),
    "jobs_history": ("account_id", "select, delete"),
    "jobs": ("account_id", "select, insert, update"),
}
#: Rows that are of no account: all callers of the org see them.
OF_NO_ACCOUNT = {"lanes", "outbox"}
#: What the views of the schema report read.
REPORTED = {"jobs", "jobs_history", "lanes", "accounts", "endpoints", "deliveries", "attempts"}
#: Here a plain `=` is right: no query of a report names an org, so it is what Postgres looks up in an index.
OF_LOGIN = "org_id = (select report_org())"


def policy(table, name, role, kind, condition):
    return f"""
        drop policy if exists {name} on {table};
        create policy {name} on {table} as {kind} for all to {role} using ({condition}) with check ({condition});
    """


def fence(table, account, rights):
    bound = account and BOUND.format(account)
    if table in OF_NO_ACCOUNT:
        bound = bound.replace("case when", f"case when {account} is null or", 1)
    return f"""
        alter table {table} enable row level security;
        {policy(table, "tenant", "postrider_api", "restrictive", TENANT)}
        {policy(table, "accounts", "postrider_api", "restrictive", bound) if bound else ""}
        {policy(table, "api", "postrider_api", "permissive", "true")}
        {policy(table, "worker", "postrider_worker", "permissive", "true")}
        {policy(table, "report", "postrider_views", "permissive", OF_LOGIN) if table in REPORTED else ""}
        {f"grant {rights} on {table} to postrider_api;" if rights else ""}
        grant select, insert, update, delete on {table} to postrider_worker;
        {f"grant select on {table} to postrider_views;" if table in REPORTED else ""}
    """


#: Tables of no org: of processes, and of keys that seal.
SHARED = """
    grant select, insert, update, delete on workers, api_processes, sealing_keys to postrider_worker;
    grant select, insert, update, delete on api_processes to postrider_api;
    grant select on sealing_keys to postrider_api;
    grant select (duties, renewed_at) on workers to postrider_api;
    grant select on _yoyo_migration to postrider_api, postrider_worker;
    grant select on all_jobs, shown_deliveries to postrider_api, postrider_worker;
    grant select on all_jobs to postrider_views;
    grant usage on sequence jobs_seq_seq to postrider_api, postrider_worker;
"""
#: Wake-ups are the workers'; the API has its door.
QUEUE = """
do $$
declare
    name text;
begin
    for name in select relname from pg_class
        where relnamespace = 'public'::regnamespace and relkind = 'r' and relname like 'procrastinate\\_%'
    loop
        execute format('grant select, insert, update, delete on %I to postrider_worker', name);
    end loop;
    for name in select relname from pg_class
        where relnamespace = 'public'::regnamespace and relkind = 'S' and relname like 'procrastinate\\_%'
    loop
        execute format('grant usage on sequence %I to postrider_worker', name);
    end loop;
end $$
"""
#: Views see what their owner sees; so theirs is one that sees the rows of the login's org.
REPORTS = """
do $$
declare
    name text;
begin
    grant usage, create on schema report to postrider_views;
    grant usage on schema report to postrider_report;
    for name in select relname from pg_class where relnamespace = 'report'::regnamespace and relkind = 'v' loop
        execute format('grant select on report.%I to postrider_report', name);
        execute format('alter view report.%I owner to postrider_views', name);
    end loop;
end $$
"""

steps = [
    step(SHARED),
    step(QUEUE),
    *(step(fence(table, account, rights)) for table, (account, rights) in TABLES.items()),
    step(REPORTS),
]
