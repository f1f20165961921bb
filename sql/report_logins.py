"""Logins of Postgres for people who write SQL: each reads the views of one org, and nothing else (docs/tenancy.md)."""

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, LiteralString

import psycopg
from psycopg import errors as postgres
from psycopg.rows import dict_row
from psycopg.sql import SQL, Identifier, Literal

from errors import OperatorError
from sql.database import Row
from sql.loader import queries
from sql.roles import Role

NAME = re.compile(r"(?!pg_|postrider_)[a-z_][a-z0-9_]{0,62}")
#: By it `revoke` tells a role that was made here from one that somebody made for other things too.
COMMENT: LiteralString = "made by postrider reports login create"
CONNECTIONS = 10  # of one login at once


def create(url: str, name: str, org: str, seconds: int) -> str:
    """Make a login that reads the reports of an org, for `seconds` a statement (0 is any time); return its password.

    `url` is that of a login that may make others. Raises OperatorError.
    """
    if not NAME.fullmatch(name):
        raise OperatorError(
            f"{name} is not a name for a login: a letter or _ and then letters, digits and _, all lower case, 63 at "
            "most, and not beginning with pg_ or postrider_."
        )
    password = secrets.token_urlsafe(24)
    with _connected(url) as connection, connection.transaction():
        if not _run(connection, "find_orgs", org=org):
            raise OperatorError(f"There is no org {org}: see `postrider orgs list`.")
        # As a verifier, so that the password stands in no log of Postgres.
        sealed = connection.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode()
        names = {
            "login": Identifier(name), "reports": Identifier(Role.REPORT), "password": Literal(sealed),
            "comment": Literal(COMMENT), "database": Identifier(connection.info.dbname),
            "connections": Literal(CONNECTIONS), "timeout": Literal(f"{seconds}s"),
        }  # fmt: skip
        connection.execute("reset role")
        with _told(connection, name):
            for statement in _STATEMENTS:
                connection.execute(SQL(statement).format(**names))
        connection.execute(SQL("set local role {}").format(Identifier(Role.OWNER)))
        _run(connection, "add_report_login", login=name, org=org)
    return password


_STATEMENTS: tuple[LiteralString, ...] = (
    "create role {login} login password {password} connection limit {connections} in role {reports}",
    "comment on role {login} is {comment}",
    "grant connect on database {database} to {login}",
    # Not a fence, which are the grants and policies: these spare the others, and the one who types.
    "alter role {login} in database {database} set statement_timeout = {timeout}",
    "alter role {login} in database {database} set default_transaction_read_only = on",
    "alter role {login} in database {database} set search_path = report",
)


def orgs(url: str) -> list[str]:
    """Return the ids of up to two orgs."""
    with _connected(url) as connection:
        return [str(row["org_id"]) for row in _run(connection, "find_orgs", org=None)]


def listed(url: str) -> list[Row]:
    """Return every login for reports, the oldest first."""
    with _connected(url) as connection:
        return _run(connection, "list_report_logins")


def revoke(url: str, name: str) -> bool:
    """Let a login read no reports any more, and drop it if it was made for that; return whether it was dropped.

    Raises OperatorError when it is none.
    """
    with _connected(url) as connection, connection.transaction():
        rows = _run(connection, "remove_report_login", login=name, comment=COMMENT)
        if not rows:
            raise OperatorError(f"There is no login for reports {name}: see `postrider reports login list`.")
        connection.execute("reset role")
        login, reports = Identifier(name), Identifier(Role.REPORT)
        with _told(connection, name):
            if rows[0]["made_for_it"]:
                connection.execute(
                    SQL("revoke all on database {} from {}").format(Identifier(connection.info.dbname), login)
                )
                connection.execute(SQL("drop role {}").format(login))
            elif rows[0]["exists"]:
                connection.execute(SQL("revoke {} from {}").format(reports, login))
        return bool(rows[0]["made_for_it"])


@contextmanager
def _connected(url: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection in the role of the owner, who alone may read and change who reads reports."""
    with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
        connection.execute(SQL("set role {}").format(Identifier(Role.OWNER)))
        yield connection


@contextmanager
def _told(connection: psycopg.Connection[Any], name: str) -> Iterator[None]:
    try:
        yield
    except postgres.DuplicateObject:
        raise OperatorError(
            f"There is a role {name} in this Postgres already: choose another name, or let it read the reports as "
            "docs/tenancy.md says."
        ) from None
    except postgres.InsufficientPrivilege as error:
        raise OperatorError(
            f"The login {connection.info.user} may not do that ({error.diag.message_primary}): set "
            "MIGRATION_DATABASE_URL to one with CREATEROLE, such as the one that `postrider migrate` ran with."
        ) from None
    except postgres.DependentObjectsStillExist as error:
        raise OperatorError(f"The role {name} cannot be dropped: {error.diag.message_detail}") from None


def _run(connection: psycopg.Connection[Any], query: str, **values: object) -> list[Row]:
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(queries()[query], values)
        return cursor.fetchall() if cursor.description else []
