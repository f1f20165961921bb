"""Roles of Postgres: who may do what. `migrate` makes them, and each process takes its own on every connection.

Logins belong to the operator. A login that is a member of a role may take it; the role alone decides what a connection
may do, and which rows it sees (docs/tenancy.md).
"""

import getpass
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from psycopg import errors as postgres
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Composable, Identifier

from errors import RoleRefused, RolesWrong


class Role(StrEnum):
    """A role that connections take, or that owns something."""

    #: owns tables and functions; only migrations take it
    OWNER = "postrider_owner"
    #: what the HTTP API is: bound by the policies of the org that it acts for
    API = "postrider_api"
    #: what workers and commands are: every row of every org
    WORKER = "postrider_worker"
    #: owns the views of the schema report; nobody takes it
    VIEWS = "postrider_views"
    #: may read the schema report; for the logins of people who write SQL
    REPORT = "postrider_report"


POSTGRES_16 = 160_000
#: Those that the login of the service has to be a member of.
TAKEN = (Role.API, Role.WORKER)


def option(role: Role) -> str:
    """Return the option with which a connection takes the role as it begins; RESET ROLE returns to it."""
    return f"-c role={role}"


async def take(connection: psycopg.AsyncConnection[Any], role: Role) -> None:
    """Take the role, also where a pooler has dropped the option. Raises InsufficientPrivilege."""
    await connection.execute(SQL("set role {}").format(Identifier(role)))


def login_of(url: str) -> str:
    """Return the name that a URL logs in with."""
    return str(conninfo_to_dict(url).get("user") or os.environ.get("PGUSER") or getpass.getuser())


# --- making them -------------------------------------------------------------------------------------------------

#: The statements that are still to be run, in their order.
_MISSING: LiteralString = """
    with logins (login) as (
        values (session_user::text) union select coalesce(%(service)s, session_user)
    ), wanted (role, login) as (
        select role, login from unnest(%(taken)s::text[]) as role, logins
        union
        select %(owner)s, session_user
        union
        -- Processes of older versions, which go on as the login that made the tables.
        select %(owner)s, tableowner from pg_tables where schemaname = 'public' and tablename = 'jobs'
        union
        select %(views)s, %(owner)s
    ), rights (role, needed) as (
        values (%(owner)s, array['usage', 'create']), (%(views)s, array['usage'])
        union all
        select role, array['usage'] from unnest(%(taken)s::text[]) as role
    )
    select 1 as step, format('create role %%I nologin', role) as statement
    from unnest(%(roles)s::text[]) as role
    where not exists (select from pg_roles where rolname = role)
    union all
    select 2, format('grant %%I to %%I', role, login) || %(as_member)s
    from wanted
    left join pg_roles as member on member.rolname = login
    left join pg_roles as taken on taken.rolname = role
    where login <> role and (taken.oid is null or member.oid is null
        or not member.rolsuper and not (select bool_and(pg_has_role(member.oid, taken.oid, privilege))
                                        from unnest(%(membership)s::text[]) as privilege))
    union all
    select 3, format('grant %%s on schema public to %%I', array_to_string(needed, ', '), role)
    from rights
    left join pg_roles on rolname = role
    where oid is null or not (
        select bool_and(has_schema_privilege(pg_roles.oid, 'public', privilege)) from unnest(needed) as privilege)
    union all
    select 4, format('grant create on database %%I to %%I', current_database(), role)
    from (values (%(owner)s)) as owner (role)
    left join pg_roles on rolname = role
    where oid is null or not has_database_privilege(oid, current_database(), 'create')
    union all
    -- Since Postgres 15 a new database is so. The owner's functions might run one that somebody else has made there.
    select 5, 'revoke create on schema public from public'
    from pg_namespace, aclexplode(coalesce(nspacl, acldefault('n', nspowner))) as acl
    where nspname = 'public' and grantee = 0 and privilege_type = 'CREATE'
    order by 1, 2
"""


def make(connection: psycopg.Connection[Any], service: str | None) -> None:
    """Make the roles that are missing, and let this login and that of the service take them; in autocommit.

    Raises RolesWrong with the statements that are to be run when this login may not do that.
    """
    # Since Postgres 16 a member may be one that cannot take the role.
    newer = connection.info.server_version >= POSTGRES_16
    wanted = {
        "service": service,
        "roles": list(Role),
        "taken": list(TAKEN),
        "owner": Role.OWNER,
        "views": Role.VIEWS,
        "membership": ["usage", "set"] if newer else ["member"],
        "as_member": " with inherit true, set true" if newer else "",
    }
    for _, statement in connection.execute(_MISSING, wanted).fetchall():
        # Made at the same moment for another database of this server, or not allowed, which is seen below. Some grants
        # that are not allowed end with no more than a warning.
        with suppress(
            postgres.DuplicateObject, postgres.UniqueViolation, postgres.InsufficientPrivilege, postgres.UndefinedObject
        ):
            connection.execute(statement)
    if left := [statement for _, statement in connection.execute(_MISSING, wanted).fetchall()]:
        raise RolesWrong(
            f"The login {connection.info.user} may not make the roles of this database. As an administrator of "
            f"Postgres, run in the database {connection.info.dbname}: {'; '.join(left)};"
        )


# --- what belongs to the owner -----------------------------------------------------------------------------------

_CREATED = re.compile(
    r"^create (?:or replace )?(?:table|view|function|aggregate|type) (?:(?:report|counted)\.)?(\w+)", re.MULTILINE
)
_RENAMED = re.compile(r"^alter function \w+\([^)]*\) rename to (\w+)", re.MULTILINE)

#: What is not the owner's yet, of what migrations make: kind, name, who is to own it. A partition goes by its table.
_NOT_OWNED: LiteralString = """
    with ours as (
        select oid from pg_roles where rolname in (%(owner)s, %(views)s)
    ), reading (oid) as (
        -- Views see what their owner sees. Since there are policies, theirs sees the org of the login.
        select unnest(array[to_regnamespace('report'), to_regnamespace('counted')]::oid[])
    ), tables as (
        select pg_class.oid, relkind, relowner, relnamespace from pg_class
        left join pg_inherits on inhrelid = pg_class.oid
        where relnamespace in (select to_regnamespace('public')::oid union all select oid from reading)
          and relkind in ('r', 'p', 'v', 'c')
          and (relname = any (%(names)s) or relname ~ '^(procrastinate|_yoyo|yoyo)_'
               or inhparent::regclass::text = any (%(names)s))
    )
    select kind, name, owner from (
        select 'schema' as kind, nspname::text as name, %(owner)s as owner from pg_namespace
        where nspname in ('report', 'counted', 'door') and nspowner not in (select oid from ours)
        union all
        select case relkind when 'v' then 'view' when 'c' then 'type' else 'table' end, oid::regclass::text,
               case when relnamespace in (select oid from reading)
                         and exists (select from pg_policy where polname = 'report')
                    then %(views)s else %(owner)s end
        from tables where relowner not in (select oid from ours)
        union all
        select case prokind when 'a' then 'aggregate' else 'function' end, pg_proc.oid::regprocedure::text,
               case when pronamespace in (select oid from reading) then %(views)s else %(owner)s end
        from pg_proc
        where proowner not in (select oid from ours)
          and (pronamespace = to_regnamespace('door') or pronamespace in (select oid from reading)
               or pronamespace = 'public'::regnamespace and (proname = any (%(names)s) or proname ~ '^procrastinate_'))
        union all
        select 'type', pg_type.oid::regtype::text, %(owner)s
        from pg_type
        where typnamespace = 'public'::regnamespace and typtype = 'e' and typowner not in (select oid from ours)
          and typname ~ '^procrastinate_'
    ) as found
    order by kind <> 'schema', kind, name
"""
#: What older versions let the role read of what their login would create.
_DEFAULT_RIGHTS: LiteralString = """
    select from pg_default_acl
    where defaclnamespace = to_regnamespace('report')
      and defaclrole = (select oid from pg_roles where rolname = current_user)
"""


def adopt(connection: psycopg.Connection[Any], migrations: Path, lock_timeout: str) -> None:
    """Give the owner what migrations of older versions made as the login; in autocommit, one thing at a time.

    Raises LockNotAvailable when a table's lock is not had within `lock_timeout`; it can be called again then. Raises
    RolesWrong for what is another login's.
    """
    values = {"owner": Role.OWNER, "views": Role.VIEWS, "names": sorted(made_by(migrations))}
    found = connection.execute(_NOT_OWNED, values).fetchall()
    if found:
        connection.execute("select set_config('lock_timeout', %s, false)", [lock_timeout])
    for kind, name, owner in found:
        # The name comes from Postgres, quoted.
        statement = SQL("alter {} {} owner to {}").format(SQL(kind), SQL(name), Identifier(owner))
        try:
            connection.execute(statement)
        except postgres.InsufficientPrivilege as error:
            raise RolesWrong(
                f"The {kind} {name} belongs to another login than {connection.info.user}: run `postrider migrate` once "
                "as that login, or as an administrator of Postgres."
            ) from error
    connection.execute("select set_config('lock_timeout', '0', false)")
    if connection.execute(_DEFAULT_RIGHTS).rowcount:
        connection.execute("alter default privileges in schema report revoke select on tables from postrider_report")


def made_by(migrations: Path) -> Iterator[str]:
    """Yield the names of tables, views, functions and types that migrations make, by their texts."""
    for path in migrations.glob("[0-9]*"):
        text = path.read_text(encoding="utf-8")
        yield from _CREATED.findall(text)
        yield from _RENAMED.findall(text)


# --- taking them -------------------------------------------------------------------------------------------------


#: What is wrong with the fence for the role that this connection has taken, one sentence a row.
_HOLES: LiteralString = """
    select format('The role %%s is bound by no policies: run alter role %%I nosuperuser nobypassrls;', rolname, rolname)
    from pg_roles where rolname = current_user and (rolsuper or rolbypassrls)
    union all
    select format('The policies of the table %%s are switched off: run alter table %%s enable row level security;',
                  polrelid::regclass, polrelid::regclass)
    from pg_policy where polname = 'tenant' and not row_security_active(polrelid)
    union all
    select format('The policy tenant of the table %%s was changed.', polrelid::regclass)
    from pg_policy where polname = 'tenant' and pg_get_expr(polqual, polrelid) not like '%%app.org%%'
    union all
    select format('The view %%s shows what %%s sees, and not one org: run `postrider migrate`.',
                  pg_class.oid::regclass, pg_get_userbyid(relowner))
    from pg_class join pg_namespace on pg_namespace.oid = relnamespace
    where nspname in ('report', 'counted') and relkind = 'v' and pg_get_userbyid(relowner) <> %(views)s
    union all
    select 'The table jobs has no policies: run `postrider migrate`.'
    where not exists (select from pg_policy where polname = 'tenant' and polrelid = 'jobs'::regclass)
    union all
    select format('The role %%s sees rows without naming an org: app.org is set for the database or the login.',
                  current_user)
    where %(bound)s and (current_setting('app.org', true) <> '' or exists (select from orgs))
"""


def check(url: str, role: Role) -> None:
    """Raise RolesWrong unless a connection with this URL takes the role, and the role is bound by the policies."""
    login = login_of(url)
    with psycopg.connect(url, connect_timeout=5) as connection:
        try:
            connection.execute(SQL("set role {}").format(Identifier(role)))
        except (postgres.InsufficientPrivilege, postgres.InvalidParameterValue, postgres.UndefinedObject) as error:
            raise RoleRefused(
                f"The login {login} may not take the role {role}: run `postrider migrate`, or, as an administrator of "
                f"Postgres, {_text(connection, SQL('grant {} to {}').format(Identifier(role), Identifier(login)))};"
            ) from error
        try:
            # Rows of `orgs`, which is small and never empty: to see no row of `jobs`, Postgres would have to read all.
            holes = connection.execute(_HOLES, {"bound": role is Role.API, "views": Role.VIEWS}).fetchall()
        except (postgres.InsufficientPrivilege, postgres.UndefinedTable) as error:
            raise RolesWrong(f"The role {role} may not read the schema public: run `postrider migrate`.") from error
    if holes:
        raise RolesWrong(" ".join(sentence for (sentence,) in holes) + " See docs/tenancy.md.")


def _text(connection: psycopg.Connection[Any], statement: Composable) -> str:
    return statement.as_string(connection)
