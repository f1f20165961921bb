"""API keys that were looked up a moment ago, whether they exist or not: a client that comes again costs no query."""

import asyncio
import hmac
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sql.database import Row

KNOWN = 1.0  # seconds that a key works for longer, once it is revoked
UNKNOWN = 5.0  # seconds after which a key works, at the latest, once it is made
MOST = 10_000  # keys, some 5 MB


@dataclass(frozen=True)
class Key:
    """An API key that exists and is not revoked."""

    id: str
    #: SHA-256 of it
    hash: bytes
    #: the org that it acts for
    org: str
    #: sealed; None for a key whose requests need no signature
    signing_secret: bytes | None
    #: Postgres's time when it was looked up, and the monotonic clock's
    read_at: datetime
    clock: float

    def database_time(self) -> datetime:
        """Return what Postgres's clock shows now, or a little more: this machine's may be off."""
        return self.read_at + timedelta(seconds=time.monotonic() - self.clock)


class KeyCache:
    """Looks keys up by their SHA-256: each at most once in a second, and never twice at a time.

    Those that were looked up least recently are dropped when there are too many.
    """

    def __init__(
        self, find: Callable[[bytes], Awaitable[Row | None]], admit: Callable[[int], None], most: int = MOST
    ) -> None:
        """`admit` is told how many wait already, and raises when one more is too many."""
        self._find = find
        self._admit = admit
        self._most = most
        self._waiting = 0
        #: hash → the key if there is one, and when it is to be looked up again, by the monotonic clock
        self._found: OrderedDict[bytes, tuple[Key | None, float]] = OrderedDict()
        self._running: dict[bytes, asyncio.Task[Key | None]] = {}

    async def get(self, hashed: bytes, *, anew: bool = False) -> Key | None:
        """Return the key that has this hash, or None; `anew` looks up again one that existed a moment ago.

        A look-up that fails does so for all who wait for it.
        """
        key, until = self._found.get(hashed, (None, 0.0))
        if time.monotonic() < until and not (key and anew):
            return key
        self._admit(self._waiting)
        task = self._running.get(hashed)
        if task is None:
            task = self._running[hashed] = asyncio.create_task(self._look_up(hashed))
        self._waiting += 1
        try:
            # Shielded: a client that goes away must not end the look-up of the others.
            return await asyncio.shield(task)
        finally:
            self._waiting -= 1

    async def _look_up(self, hashed: bytes) -> Key | None:
        began = time.monotonic()  # before the look-up, which may be slow: what it finds is as old as its beginning
        try:
            row = await self._find(hashed)
        finally:
            del self._running[hashed]
        known = row is not None and hmac.compare_digest(row["key_hash"], hashed)
        key = None
        if row and known:
            key = Key(row["id"], hashed, row["org_id"], row["signing_secret"], row["now"], time.monotonic())
        self._found[hashed] = key, began + (KNOWN if key else UNKNOWN)
        self._found.move_to_end(hashed)
        if len(self._found) > self._most:
            self._found.popitem(last=False)
        return key
