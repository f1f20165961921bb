"""The duty `sessions`: the seats of a worker, their accounts' lanes, and the periodic tasks on open pages."""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from browser.engine.process import end_orphans
from tasks.part import Part
from tasks.web.seats import Seats

log = logging.getLogger(__name__)

DUTY = "sessions"
RESTORE_APART = 2.0  # seconds between the accounts that a worker reopens at its start
PROBE_VALID_SECONDS = 300.0  # seconds for which a successful start of a browser counts


@dataclass
class Sessions(Part):
    """What a worker does with accounts and their pages."""

    seats: Seats
    #: until when the last successful start of a browser counts, by the loop's clock
    _starts_until: float = 0.0
    _probing: asyncio.Lock = field(default_factory=asyncio.Lock)
    _dropping: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def capacity(self) -> int:
        """Its seats."""
        return self.seats.capacity

    @property
    def home(self) -> str:
        """The identity of its directory of profiles."""
        return self.seats.profiles.home

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Run the engine within the block, and the guard that ends its browsers in time."""
        async with self.seats.engine:
            await self.seats.guard.start()
            try:
                yield
            finally:
                await self.seats.guard.close()

    async def prepare(self) -> None:
        """Remove what an earlier worker left in the directory of profiles, which no other worker uses now."""
        for directory in await end_orphans(self.seats.profiles.root):
            log.warning(
                "ended a browser that was left open in %s", directory,
                extra={"event": "browser.orphan", "directory": str(directory)},
            )  # fmt: skip
        await self.seats.profiles.clean()
        await self.seats.profiles.sweep()

    async def begin(self) -> None:
        """Reopen the accounts that were open, as many as there are seats."""
        await self.seats.database.all("restore_accounts", seats=self.capacity, apart=RESTORE_APART)

    async def check(self) -> None:
        """Raise ChromiumMissing, BrowserLost or PageHung when no browser starts; tried every five minutes."""
        async with self._probing:
            now = asyncio.get_running_loop().time()
            if now > self._starts_until:
                await self.seats.engine.probe()
                self._starts_until = asyncio.get_running_loop().time() + PROBE_VALID_SECONDS

    # --- leases ------------------------------------------------------------------------------------------------------

    def open_accounts(self) -> list[str]:
        """Return the accounts whose sessions are open."""
        return list(self.seats.sessions)

    def leased(self) -> set[str]:
        """Return the accounts that it has leased."""
        return set(self.seats.leases)

    def leases_renewed(self, accounts: Sequence[str], held: set[str], before: float) -> None:
        """Close sessions that are no longer leased."""
        self.seats.renewed(accounts, before)
        for account in held - set(accounts):
            if self.seats.leases.pop(account, None) is not None:
                self._in_background(self.seats.drop(account))

    def database_away(self) -> None:
        """Close the sessions whose leases are about to end."""
        self._in_background(self.seats.drop_ending())

    def declared_dead(self) -> None:
        """Close every session: others have the accounts."""
        for account in list(self.seats.sessions):
            self._in_background(self.seats.close(account))

    def _in_background(self, closing: Coroutine[None, None, None]) -> None:
        # A hung page takes longer to close than the next heartbeat may wait.
        task = asyncio.create_task(closing)
        self._dropping.add(task)
        task.add_done_callback(self._dropping.discard)

    # --- the end ------------------------------------------------------------------------------------------------------

    async def leave_idle(self) -> None:
        """Give up every seat that no drain needs: other workers can take these accounts over meanwhile."""
        await self.seats.leave_all_idle()

    async def leave(self) -> None:
        """Close every browser and give every lease back."""
        await self.seats.close_all()


def seats_of(parts: Iterable[Part]) -> Seats:
    """Return the seats of a worker's parts, which have the duty `sessions`."""
    return next(part.seats for part in parts if isinstance(part, Sessions))
