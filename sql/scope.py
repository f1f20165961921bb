"""Scopes: whose rows a connection sees. The policies of Postgres read them from three settings of the transaction."""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import LiteralString

from psycopg.sql import SQL, Literal

ALL = "*"  # in place of a list of accounts

#: The settings, for a statement that shares its message with another one.
SET: LiteralString = (
    "select set_config('app.org', %(org)s, true), set_config('app.accounts', %(accounts)s, true),"
    " set_config('app.actor', %(actor)s, true)"
)


@dataclass(frozen=True)
class Scope:
    """The org that a caller acts for, the accounts of it that it may see (None is all), and who it is.

    A scope ends with its transaction: it cannot be left behind on a connection that goes back to its pool.
    """

    org: str
    accounts: tuple[str, ...] | None = None
    actor: str = ""

    @cached_property
    def values(self) -> dict[str, str]:
        """The parameters of SET."""
        accounts = ALL if self.accounts is None else ",".join(self.accounts)
        return {"org": self.org, "accounts": accounts, "actor": self.actor}

    @cached_property
    def begin(self) -> bytes:
        """One message that begins a transaction in this scope."""
        named = {name: Literal(value) for name, value in self.values.items()}
        statement = (
            "begin; set local app.org = {org}; set local app.accounts = {accounts}; set local app.actor = {actor}"
        )
        return SQL(statement).format(**named).as_bytes()


@lru_cache(maxsize=10_000)
def scope_of(org: str, accounts: tuple[str, ...] | None, actor: str) -> Scope:
    """Return the scope of a caller; a caller that comes again gets the same one, with its statement put together."""
    return Scope(org, accounts, actor)
