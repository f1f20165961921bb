"""Roles of Postgres: who may do what. `migrate` makes them, and each process takes its own on every connection.

Logins belong to the operator. A login that is a member of a role may take it; the role alone decides what a connection
may do, and which rows it sees (docs/tenancy.md).
"""

import getpass
import os
import re
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from psycopg import errors as postgres
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Composable, Identifier

from errors import RolesWrong


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

#: For each statement that is still to be run, a row with its parts. In the order in which they have to be run.
_MISSING: LiteralString = """
    with logins (login) as (
        values (current_user::text) union select %(service)s
    ), wanted (role, login) as (
        select role, login from unnest(%(taken)s::text[]) as role, logins
        union all
        select %(owner)s, current_user
        union all
        select %(views)s, %(owner)s
    )
    select 1, format('create role %%I nologin', role)
    from unnest(%(roles)s::text[]) as role
    where not exists (select from pg_roles where rolname = role)
    union all
    select 2, format('grant %%I to %%I', role, login)
    from wanted
    left join pg_roles as member on member.rolname = login
    left join pg_roles as taken on taken.rolname = role
    where login <> role and (taken.oid is null or member.oid is null or not (
        member.rolsuper or pg_has_role(member.oid, taken.oid, 'usage') and pg_has_role(member.oid, taken.oid, %(set)s)))
    union all
    select 3, format('grant usage, create on schema public to %%I', %(owner)s)
    where not coalesce((
        select has_schema_privilege(oid, 'public', 'usage') and has_schema_privilege(oid, 'public', 'create')
        from pg_roles where rolname = %(owner)s), false)
    union all
    select 4, format('grant create on database %%I to %%I', current_database(), %(owner)s)
    where not coalesce((
        select has_database_privilege(oid, current_database(), 'create')
        from pg_roles where rolname = %(owner)s), false)
    order by 1, 2
"""


def make(connection: psycopg.Connection[Any], service: str) -> None:
    """Make the roles that are missing, and let this login and that of the service take them; in autocommit.

    Raises RolesWrong with the statements that are to be run when this login may not do that.
    """
    wanted = {
        "service": service,
        "roles": list(Role),
        "taken": list(TAKEN),
        "owner": Role.OWNER,
        "views": Role.VIEWS,
        # Since Postgres 16 a member may be one that cannot take the role.
        "set": "set" if connection.info.server_version >= POSTGRES_16 else "member",
    }
    for _, statement in connection.execute(_MISSING, wanted).fetchall():
        try:
            connection.execute(statement)
        except (postgres.DuplicateObject, postgres.UniqueViolation):
            continue  # made at the same moment, for another database of this server
        except (postgres.InsufficientPrivilege, postgres.UndefinedObject) as error:
            left = [row[1] for row in connection.execute(_MISSING, wanted).fetchall()]
            raise RolesWrong(
                f"{connection.info.user} may not make the roles of this database. As an administrator of Postgres, run "
                f"in the database {connection.info.dbname}: {'; '.join(left)};"
            ) from error


# --- what belongs to the owner -----------------------------------------------------------------------------------

_CREATED = re.compile(r"^create (?:or replace )?(?:table|view|function|type) (?:report\.)?(\w+)", re.MULTILINE)
_RENAMED = re.compile(r"^alter function \w+\([^)]*\) rename to (\w+)", re.MULTILINE)

#: What is not the owner's yet, of what migrations make. A partition is named after its table.
_NOT_OWNED: LiteralString = """
    with ours as (
        select oid from pg_roles where rolname in (%(owner)s, %(views)s)
    ), tables as (
        select pg_class.oid, relkind, relowner from pg_class
        left join pg_inherits on inhrelid = pg_class.oid
        where relnamespace = any (array[to_regnamespace('public'), to_regnamespace('report')]::oid[])
          and relkind in ('r', 'p', 'v', 'c')
          and (relname = any (%(names)s) or relname ~ '^(procrastinate|_yoyo|yoyo)_'
               or inhparent::regclass::text = any (%(names)s))
    )
    select case relkind when 'v' then 'view' when 'c' then 'type' else 'table' end, oid::regclass::text
    from tables where relowner not in (select oid from ours)
    union all
    select 'function', pg_proc.oid::regprocedure::text
    from pg_proc
    where pronamespace = 'public'::regnamespace and proowner not in (select oid from ours)
      and (proname = any (%(names)s) or proname ~ '^procrastinate_')
    union all
    select 'type', pg_type.oid::regtype::text
    from pg_type
    where typnamespace = 'public'::regnamespace and typtype = 'e' and typowner not in (select oid from ours)
      and typname ~ '^procrastinate_'
    union all
    select 'schema', nspname from pg_namespace
    where nspname = 'report' and nspowner not in (select oid from ours)
    order by 1, 2
"""


def adopt(connection: psycopg.Connection[Any], migrations: Path, lock_timeout: str) -> None:
    """Give the owner what migrations of older versions made as the login; in autocommit, one thing at a time.

    Raises LockNotAvailable when a table's lock is not had within `lock_timeout`; it can be called again then.
    """
    values = {"owner": Role.OWNER, "views": Role.VIEWS, "names": sorted(_names(migrations))}
    found = connection.execute(_NOT_OWNED, values).fetchall()
    if found:
        connection.execute("select set_config('lock_timeout', %s, false)", [lock_timeout])
    for kind, name in found:
        # The name comes from Postgres, quoted.
        statement = SQL("alter {} {} owner to {}").format(SQL(kind), SQL(name), Identifier(Role.OWNER))
        connection.execute(statement)
    connection.execute("select set_config('lock_timeout', '0', false)")


def _names(migrations: Path) -> Iterator[str]:
    for path in migrations.glob("*.sql"):
        text = path.read_text(encoding="utf-8")
        yield from _CREATED.findall(text)
        yield from _RENAMED.findall(text)


# --- taking them -------------------------------------------------------------------------------------------------


def check(url: str, role: Role) -> None:
    """Raise RolesWrong unless a connection with this URL takes the role, and the role is bound by the policies."""
    login = login_of(url)
    with psycopg.connect(url, connect_timeout=5) as connection:
        try:
            connection.execute(SQL("set role {}").format(Identifier(role)))
        except (postgres.InsufficientPrivilege, postgres.InvalidParameterValue, postgres.UndefinedObject) as error:
            raise RolesWrong(
                f"The login {login} may not take the role {role}: run `postrider migrate`, or, as an administrator of "
                f"Postgres, {_text(connection, SQL('grant {} to {}').format(Identifier(role), Identifier(login)))};"
            ) from error
        bound = connection.execute(
            """
            select not (rolsuper or rolbypassrls), row_security_active('jobs'),
                   exists (select from jobs) or current_setting('app.org', true) <> ''
            from pg_roles where rolname = current_user
            """
        ).fetchone()
        if bound is None:
            raise RolesWrong(f"The role {role} is missing: run `postrider migrate`.")
        ordinary, fenced, seen = bound
        if not (ordinary and fenced):
            raise RolesWrong(
                f"The role {role} is bound by no policies: as an administrator of Postgres, run alter role {role} "
                "nosuperuser nobypassrls; then `postrider migrate`."
            )
        if role is Role.API and seen:
            raise RolesWrong(
                f"The role {role} sees rows without naming an org: its policies were changed, or app.org is set for "
                f"the database or the login {login}. See docs/tenancy.md."
            )


def _text(connection: psycopg.Connection[Any], statement: Composable) -> str:
    return statement.as_string(connection)
