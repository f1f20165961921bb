"""A worker's heartbeat in Postgres, which also renews its leases."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from errors import DatabaseError, DatabaseUnavailable
from sql.database import Database
from sql.sealing import lacking
from tasks.part import Part

HEARTBEAT = 5.0  # seconds; a worker that is silent for 30 s counts as dead


@dataclass
class Heartbeat:
    """Renews the worker's row and the leases of its parts, and ends the worker when it must not go on."""

    #: of its own: a pool that is fully in use must not cost the worker its leases
    database: Database
    worker: str
    parts: Sequence[Part]
    #: fingerprints of its encryption keys; the first key seals
    fingerprints: Sequence[str]
    lease_seconds: float
    grace_seconds: float
    #: set when the worker has to end, with the reason in `reason`
    fatal: asyncio.Event = field(default_factory=asyncio.Event)
    reason: str = ""
    _last: float = field(default_factory=time.monotonic)

    @property
    def every(self) -> float:
        """Seconds between two heartbeats."""
        return min(HEARTBEAT, self.lease_seconds / 6)

    @property
    def procrastinate_ids(self) -> list[int]:
        """The ids of its procrastinate workers."""
        found = (consumer.procrastinate_id for part in self.parts for consumer in part.consumers)
        return [number for number in found if number is not None]

    @property
    def age(self) -> float:
        """Seconds since the last heartbeat that Postgres confirmed."""
        return time.monotonic() - self._last

    async def run_once(self) -> None:
        """Renew the row and the leases; end the worker if its row is gone, or if it lacks an encryption key in use."""
        held, before = [part.leased() for part in self.parts], time.monotonic()
        try:
            row = await self.database.one(
                "renew_worker", worker=self.worker, ids=self.procrastinate_ids, lease=self.lease_seconds,
                open=sorted(account for part in self.parts for account in part.open_accounts()),
            )  # fmt: skip
        except DatabaseError as error:
            away = isinstance(error, DatabaseUnavailable)
            if away and self.grace_seconds and self.age > self.grace_seconds:
                self._end(f"the database has been away for more than {self.grace_seconds:.0f} s")
            for part in self.parts:
                part.database_away()
            raise
        if row is None:
            self._end("this worker was silent for so long that it was declared dead")
            for part in self.parts:
                part.declared_dead()
        elif row["needed_key"] not in {None, *self.fingerprints}:
            self._end(lacking(row["needed_key"]))
        else:
            self._last = time.monotonic()
            for part, leased in zip(self.parts, held, strict=True):
                part.leases_renewed(row["leases"], leased, before)

    def _end(self, reason: str) -> None:
        self.reason = reason
        self.fatal.set()
