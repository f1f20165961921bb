"""What is sealed in the database: looked at for doctor, and sealed anew with the first key for `keys reseal`."""

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
NAMED = 10  # things that are named, of those that do not open


class State(Enum):
    """What has sealed something."""

    first = auto()  # the first key
    old = auto()  # another one of the list
    plain = auto()  # nothing: extra headers of before 0.4.0
    closed = auto()  # no key of the list; or it was changed


@dataclass
class Tally:
    """How many were found in each state."""

    states: dict[State, int] = field(default_factory=lambda: dict.fromkeys(State, 0))
    #: what does not open, and somebody may still want to
    closed: list[str] = field(default_factory=list)

    @property
    def all(self) -> int:
        """How many there are, without what does not open and nobody wants to."""
        return sum(self.states.values()) - self.states[State.closed] + len(self.closed)

    @property
    def left(self) -> int:
        """How many were not sealed with the first key when they were looked at, and could be."""
        return self.states[State.old] + self.states[State.plain]

    def add(self, state: State, name: str, *, live: bool = True) -> None:
        """Count one."""
        self.states[state] += 1
        if state is State.closed and live:
            self.closed.append(name)


@dataclass
class Survey:
    """What one walk through the database found."""

    secrets: Tally = field(default_factory=Tally)
    logins: Tally = field(default_factory=Tally)
    #: how many were sealed anew
    written: int = 0

    @property
    def left(self) -> int:
        """How many were not sealed with the first key, and could be."""
        return self.secrets.left + self.logins.left

    @property
    def told(self) -> str:
        """Say how many there are."""
        return f"{self.secrets.all:,} secrets and {self.logins.all:,} logins"

    @property
    def closed(self) -> str:
        """Name what does not open, or some of it; nothing where all does."""
        names = list(dict.fromkeys(self.secrets.closed + self.logins.closed))
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        return ", ".join(names[:NAMED]) + more


@dataclass(frozen=True)
class Kind:
    """Secrets of one column."""

    #: the queries
    read: str
    write: str
    #: what each is called
    name: str
    #: how its rows are looked at, which counts what they hold and returns it sealed anew, where it has to be
    look: Callable[["Kind", Sealer, Row, Tally], object | None]
    #: what the first page comes after
    begin: str = ""

    def count(self, tally: Tally, state: State, row: Row) -> None:
        """Count one secret of a row."""
        tally.add(state, self.name.format(row["about"]), live=row["live"])


def _bare(kind: Kind, sealer: Sealer, row: Row, tally: Tally) -> object | None:
    """Look at a row with one secret."""
    state, fresh = _renewed(sealer, bytes(row["sealed"]), row["about"].encode())
    kind.count(tally, state, row)
    return fresh


def _headers(kind: Kind, sealer: Sealer, row: Row, tally: Tally) -> object | None:
    """Look at a row with extra headers, each of which is sealed by itself."""
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
    """Return what has sealed it, and the same sealed with the first key where that has not."""
    try:
        fresh = sealer.renew(sealed, about)
    except CryptoError:
        return State.closed, None
    return State.old if fresh else State.first, fresh


@dataclass
class Anew:
    """Rows that are to be written."""

    #: by their ids, how many secrets each has that are sealed anew
    counts: dict[str, int] = field(default_factory=dict)
    stale: list[object] = field(default_factory=list)
    fresh: list[object] = field(default_factory=list)

    def add(self, row: Row, fresh: object, count: int) -> None:
        """Add one."""
        self.counts[row["id"]] = count
        self.stale.append(row["sealed"])
        self.fresh.append(fresh)


#: In this order: a secret of an endpoint that is replaced becomes an old one.
KINDS = (
    Kind("sealed_endpoints", "reseal_endpoints", "the secret of {}", _bare),
    Kind("sealed_old_secrets", "reseal_old_secrets", "an old secret of {}", _bare, begin="0"),
    Kind("sealed_headers", "reseal_headers", "the headers of {}", _headers),
    Kind("sealed_proxies", "reseal_proxies", "the proxy of {}", _bare),
    Kind("sealed_signing_secrets", "reseal_signing_secrets", "the secret of {}", _bare),
)


async def walk(database: Database, sealer: Sealer, survey: Survey, *, renew: bool = False) -> None:
    """Look at all that is sealed and count it in `survey`, which tells meanwhile how far it is.

    With `renew`, what the first key has not sealed is sealed anew and written, where it still is what was read. What
    was not written for that is found by the next walk: by then it is newer.
    """
    for kind in KINDS:
        async for rows in _pages(database, kind.read, kind.begin):
            anew = Anew()
            for row in rows:
                left = survey.secrets.left
                if (fresh := kind.look(kind, sealer, row, survey.secrets)) is not None:
                    anew.add(row, fresh, survey.secrets.left - left)
            if renew and anew.counts:
                written = await database.all(kind.write, ids=list(anew.counts), stale=anew.stale, fresh=anew.fresh)
                survey.written += sum(anew.counts[row["id"]] for row in written)
    async for rows in _pages(database, "sealed_profiles", "", head=HEAD):
        for row in rows:
            state = await _login(database, sealer, row, survey, renew=renew)
            survey.logins.add(state, f"the login of {row['id']}")


async def _pages(database: Database, query: str, after: str, **values: object) -> AsyncIterator[list[Row]]:
    while rows := await database.all(query, after=after, most=PAGE, **values):
        yield rows
        after = rows[-1]["id"]


async def _login(database: Database, sealer: Sealer, row: Row, survey: Survey, *, renew: bool) -> State:
    """Look at a profile, by its first bytes where they tell enough: as a whole it is many MB."""
    head = bytes(row["head"])
    place = sealer.place_of(head, BEGINNING)
    if place == 0:
        return State.first
    if place and not renew:
        return State.old
    found = await database.one("profile_to_reseal", id=row["id"], stale=head, head=HEAD)
    if found is None:  # another by now
        return State.old
    belongs = about(row["id"], row["generation"])
    state, fresh = await asyncio.to_thread(_renewed, sealer, bytes(found["sealed"]), belongs)
    if renew and fresh:
        written = await database.all(
            "reseal_profile", id=row["id"], generation=row["generation"], stale=head, head=HEAD, fresh=fresh
        )
        survey.written += len(written)
    return state
