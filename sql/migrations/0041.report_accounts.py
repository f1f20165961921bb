"""Callers who are bound to some accounts read the reports of these alone.

Oldest code that may run on it: 0.3.0. A table at a time, each in a transaction of its own: together they would hold up all
traffic until the last lock is had. Each can be run again.
"""

from yoyo import step

__transactional__ = False

FUNCTION = """
create or replace function report_accounts() returns text[] language plpgsql stable set search_path = public, pg_temp as $$
begin
    -- A login for reports reads its whole org, and a worker counts it. The API says whose rows it asks for, or sees none.
    if current_setting('role') <> 'postrider_api' or current_setting('app.accounts', true) = '*' then
        return null;
    end if;
    return coalesce(string_to_array(current_setting('app.accounts', true), ','), '{}');
end $$;
comment on function report_accounts() is 'The accounts whose reports the caller may read; null is all of its org.';
"""
#: Rows that are of no account (lanes of endpoints) are for all callers. Of `case … is not null` Postgres expects that nearly all rows pass, which they do.
BOUND = """
    case when (select report_accounts()) is null or {0} is null or {0} = any ((select report_accounts())::text[]) then true end is not null
"""
#: table that the views read → which account a row is of
TABLES = {
    "accounts": "id",
    "lanes": "case kind when 'account' then id end",
    "incoming": "account_id",
    "report_progress": "account_id",
    "report_days": "account_id",
    "report_failures": "account_id",
    "report_hours": "account_id",
    "jobs_history": "account_id",
    "jobs": "account_id",
}


def bind(table, account):
    condition = BOUND.format(account)
    return f"""
        drop policy if exists report_accounts on {table};
        create policy report_accounts on {table} as restrictive for all to postrider_views
        using ({condition}) with check ({condition});
    """


steps = [step(FUNCTION), *(step(bind(table, account)) for table, account in TABLES.items())]
