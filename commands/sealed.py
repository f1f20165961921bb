"""Sealed values in the database: `doctor` counts them, `keys reseal` seals them again with the first key."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from enum import Enum, auto

from api.http.validators import minified
from browser.engine.pack import BEGINNING
from crypto import HEAD, CryptoError, Sealer, from_text, to_text
from sql.database import Database, Row
from tasks.web.profiles import about

PAGE = 500  # rows that are read and written at once
NAMED = 10  # values that are named at most, of those that no key opens


class State(Enum):
    """How a value is sealed."""

    first = auto()  # with the first key
    old = auto()  # with another key of the list
    plain = auto()  # not at all: extra headers from before 0.4.0
    closed = auto()  # with no key of the list, or it is corrupt


@dataclass
class Tally:
    """How many values were found in each state."""

    states: dict[State, int] = field(default_factory=lambda: dict.fromkeys(State, 0))
    #: names of values that no key opens and that may still be needed
    closed: list[str] = field(default_factory=list)

    @property
    def all(self) -> int:
        """How many there are, without those that no key opens and that are not needed any more."""
        return sum(self.states.values()) - self.states[State.closed] + len(self.closed)

    @property
    def left(self) -> int:
        """How many could be sealed with the first key, and were not yet."""
        return self.states[State.old] + self.states[State.plain]

    def add(self, state: State, name: str, *, live: bool = True) -> None:
        """Count a value."""
        self.states[state] += 1
        if state is State.closed and live:
            self.closed.append(name)


@dataclass
class Survey:
    """The result of one walk through the database."""

    secrets: Tally = field(default_factory=Tally)
    logins: Tally = field(default_factory=Tally)
    #: how many were sealed again
    written: int = 0

    @property
    def left(self) -> int:
        """How many could be sealed with the first key, and were not yet."""
        return self.secrets.left + self.logins.left

    @property
    def summary(self) -> str:
        """The number of secrets and logins, in words."""
        return f"{self.secrets.all:,} secrets and {self.logins.all:,} logins"

    @property
    def closed(self) -> str:
        """Names of values that no key opens, at most ten; empty if there are none."""
        names = list(dict.fromkeys(self.secrets.closed + self.logins.closed))
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        return ", ".join(names[:NAMED]) + more


@dataclass(frozen=True)
class Kind:
    """The sealed values of one column."""

    #: names of the queries
    read: str
    write: str
    #: the name of a value, with the id of its owner
    name: str
    #: counts the values of a row, and returns them sealed again if that is needed
    look: Callable[["Kind", Sealer, Row, Tally], object | None]
    #: the place before the first page
    begin: str = ""

    def count(self, tally: Tally, state: State, row: Row) -> None:
        """Count a value of a row."""
        tally.add(state, self.name.format(row["about"]), live=row["live"])


def _bare(kind: Kind, sealer: Sealer, row: Row, tally: Tally) -> object | None:
    """Look at a row with one sealed value."""
    state, fresh = _renewed(sealer, bytes(row["sealed"]), row["about"].encode())
    kind.count(tally, state, row)
    return fresh


def _headers(kind: Kind, sealer: Sealer, row: Row, tally: Tally) -> object | None:
    """Look at a row with extra headers, each of which is sealed separately."""
    kept: dict[str, str] = json.loads(row["sealed"])
    fresh: dict[str, str] = {}
    for name, value in kept.items():
        state, fresh[name] = _header(sealer, value, f"{row['about']}/{name}".encode())
        kind.count(tally, state, row)
    return minified(fresh) if fresh != kept else None


def _header(sealer: Sealer, value: str, about: bytes) -> tuple[State, str]:
    try:
        sealed = from_text(value)
    except CryptoError:
        return State.closed, value
    if sealed is None:
        return State.plain, to_text(sealer.seal(value.encode(), about))
    state, fresh = _renewed(sealer, sealed, about)
    return state, to_text(fresh) if fresh else value


def _renewed(sealer: Sealer, sealed: bytes, about: bytes) -> tuple[State, bytes | None]:
    """Return how a value is sealed, and the value sealed with the first key, or None if it is already."""
    try:
        fresh = sealer.renew(sealed, about)
    except CryptoError:
        return State.closed, None
    return State.old if fresh else State.first, fresh


@dataclass
class Renewals:
    """Rows to write."""

    #: for each row's id, how many of its values are sealed again
    counts: dict[str, int] = field(default_factory=dict)
    stale: list[object] = field(default_factory=list)
    fresh: list[object] = field(default_factory=list)

    def add(self, row: Row, fresh: object, count: int) -> None:
        """Add a row."""
        self.counts[row["id"]] = count
        self.stale.append(row["sealed"])
        self.fresh.append(fresh)


#: In this order, since a replaced secret of an endpoint moves to the old ones.
KINDS = (
    Kind("sealed_endpoints", "reseal_endpoints", "the secret of {}", _bare),
    Kind("sealed_old_secrets", "reseal_old_secrets", "an old secret of {}", _bare, begin="0"),
    Kind("sealed_headers", "reseal_headers", "the headers of {}", _headers),
    Kind("sealed_proxies", "reseal_proxies", "the proxy of {}", _bare),
    Kind("sealed_signing_secrets", "reseal_signing_secrets", "the secret of {}", _bare),
)


async def walk(database: Database, sealer: Sealer, survey: Survey, *, renew: bool = False) -> None:
    """Count all sealed values in `survey`, which also shows the progress.

    With `renew`, values that are not sealed with the first key are sealed again and written, unless they have changed
    since they were read; the next walk finds those.
    """
    for kind in KINDS:
        async for rows in _pages(database, kind.read, kind.begin):
            renewals = Renewals()
            for row in rows:
                left = survey.secrets.left
                if (fresh := kind.look(kind, sealer, row, survey.secrets)) is not None:
                    renewals.add(row, fresh, survey.secrets.left - left)
            if renew and renewals.counts:
                written = await database.all(
                    kind.write, ids=list(renewals.counts), stale=renewals.stale, fresh=renewals.fresh
                )
                survey.written += sum(renewals.counts[row["id"]] for row in written)
    async for rows in _pages(database, "sealed_profiles", "", head=HEAD):
        for row in rows:
            state = await _login(database, sealer, row, survey, renew=renew)
            survey.logins.add(state, f"the login of {row['id']}")


async def _pages(database: Database, query: str, after: str, **values: object) -> AsyncIterator[list[Row]]:
    while rows := await database.all(query, after=after, most=PAGE, **values):
        yield rows
        after = rows[-1]["id"]


async def _login(database: Database, sealer: Sealer, row: Row, survey: Survey, *, renew: bool) -> State:
    """Look at a login, if possible only at its first bytes, since the whole is many MB."""
    head = bytes(row["head"])
    place = sealer.place_of(head, BEGINNING)
    if place == 0:
        return State.first
    if place and not renew:
        return State.old
    found = await database.one("profile_to_reseal", id=row["id"], stale=head, head=HEAD)
    if found is None:  # it was replaced meanwhile
        return State.old
    belongs = about(row["id"], row["generation"])
    state, fresh = await asyncio.to_thread(_renewed, sealer, bytes(found["sealed"]), belongs)
    if renew and fresh:
        written = await database.all(
            "reseal_profile", id=row["id"], generation=row["generation"], stale=head, head=HEAD, fresh=fresh
        )
        survey.written += len(written)
    return state
