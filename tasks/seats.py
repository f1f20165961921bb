"""The seats of a worker: which accounts it leases, and their live browsers."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from browser.engine import Engine, look_for
from browser.profile import delete, directory_of, prepare, read_generation, write_generation
from browser.selectors import Selectors
from browser.whatsapp import WhatsApp
from errors import DatabaseUnavailable, LeaseLost, ProfileElsewhere
from sql.database import Database

log = logging.getLogger(__name__)

NO_SEAT = 0.2  # seconds between looks for a seat


@dataclass(frozen=True)
class Account:
    """What a drain needs to know of an account."""

    id: str
    org_id: str
    transport: str
    wanted: str
    state: str
    paused: bool
    restriction: str | None
    profile_home: str | None
    profile_generation: int
    linked_before: bool
    failures_in_a_row: int


@dataclass
class Session:
    """A browser that is open for an account."""

    account: str
    page: WhatsApp
    generation: int
    #: held by whoever acts on the page: one browser action at a time
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)
    #: when it last did something, by the monotonic clock
    used: float = field(default_factory=time.monotonic)

    def touch(self) -> None:
        """Note that it did something now."""
        self.used = time.monotonic()


@dataclass
class Seats:
    """Room for `capacity` live sessions; when it is full, the one that was idle longest gives its seat up."""

    database: Database
    worker: str
    home: str
    engine: Engine
    #: the directory of profiles
    profiles: Path
    #: where pictures of pages go that were not recognised
    evidence: Path
    selectors: Selectors
    capacity: int
    lease_seconds: float
    typing_delay_ms: tuple[int, int]
    #: the page of an account
    url: Callable[[Account], str]
    #: whether a drain works on an account now; its browser is not closed for others then
    draining: Callable[[str], bool]
    sessions: dict[str, Session] = field(default_factory=dict)
    _locks: dict[str, asyncio.Lock] = field(default_factory=dict)
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock)

    def live(self, account: str) -> Session | None:
        """Return the account's session if its browser is alive."""
        session = self.sessions.get(account)
        return session if session and session.page.alive else None

    async def lease(self, account: str) -> bool:
        """Claim the account for this worker and wake its lane here from now on; False while another worker holds it."""
        async with self._lock(account), self.database.transaction() as tx:
            if await tx.one("lease_account", account=account, worker=self.worker, lease=self.lease_seconds):
                await tx.all("move_lane", lane=account, queue=f"account@{self.worker}")
                return True
            holder = await tx.one("lease_holder", account=account)
            if holder and holder["live"]:
                await tx.all("move_lane", lane=account, queue=f"account@{holder['leased_by']}")
            return False

    async def open(self, account: Account) -> Session:
        """Open the account's browser on its own profile. Raises ProfileElsewhere, LeaseLost and as Engine.open."""
        async with self._opening:
            await self._make_room()
        async with self._lock(account.id):
            await self.close(account.id)
            generation = await self._generation(account)
            page = await WhatsApp.open(
                self.engine,
                directory_of(self.profiles, account.id),
                look_for(account.id),
                self.url(account),
                selectors=self.selectors,
                typing_delay_ms=self.typing_delay_ms,
            )
            session = self.sessions[account.id] = Session(account.id, page, generation)
            return session

    async def _generation(self, account: Account) -> int:
        # A directory is only used if Postgres names it: an older copy would not show what was sent since.
        directory = directory_of(self.profiles, account.id)
        here = read_generation(directory)
        if account.profile_home == self.home and here == account.profile_generation:
            return here
        if account.linked_before and account.profile_home != self.home:
            raise ProfileElsewhere
        delete(directory)
        row = await self.database.one("new_profile", account=account.id, worker=self.worker, home=self.home)
        if row is None:
            raise LeaseLost
        generation: int = row["profile_generation"]
        prepare(directory)
        write_generation(directory, generation)
        return generation

    async def _make_room(self) -> None:
        while len(self.sessions) >= self.capacity:
            idle = [session for session in self.sessions.values() if not self.draining(session.account)]
            if idle:
                await self.leave(min(idle, key=lambda session: session.used).account, "its seat was needed")
            else:
                await asyncio.sleep(NO_SEAT)

    def _lock(self, account: str) -> asyncio.Lock:
        """Return what is held by whoever opens or leaves an account: closing a browser takes seconds."""
        return self._locks.setdefault(account, asyncio.Lock())

    async def picture(self, account: str) -> None:
        """Keep a screenshot of the account's page."""
        if session := self.live(account):
            self.evidence.mkdir(parents=True, exist_ok=True)
            path = self.evidence / f"{account}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.png"
            await session.page.screenshot(path)
            log.warning("a screenshot of account %s is in %s", account, path)

    async def close(self, account: str) -> None:
        """Close the account's browser, if any; the lease stays."""
        if session := self.sessions.pop(account, None):
            await session.page.close()

    async def leave(self, account: str, reason: str) -> None:
        """Close the account's browser and give its lease and its wake-ups back to everybody."""
        async with self._lock(account):
            await self.close(account)
            async with self.database.transaction() as tx:
                await tx.all("release_account", account=account, worker=self.worker, reason=reason)
                await tx.all("move_lane", lane=account, queue="account")

    async def drop(self, account: str) -> None:
        """Close a session whose lease has ended."""
        log.warning("the lease of account %s ended; closing its browser", account)
        await self.close(account)

    async def leave_idle(self, seconds: float) -> None:
        """Give up the seats of sessions that did nothing for so long; 0 keeps them."""
        now = time.monotonic()
        for session in list(self.sessions.values()):
            if seconds and now - session.used > seconds and not self.draining(session.account):
                await self.leave(session.account, "idle")

    async def close_all(self) -> None:
        """Close every browser and give every lease back, also those without a browser."""
        accounts = set(self.sessions)
        with suppress(DatabaseUnavailable):
            accounts |= {row["id"] for row in await self.database.all("leased_accounts", worker=self.worker)}
        await asyncio.gather(*(self._close_one(account) for account in sorted(accounts)))

    async def _close_one(self, account: str) -> None:
        try:
            await self.leave(account, "the worker stopped")
        except DatabaseUnavailable:
            # The lease ends by itself; the browser has gone.
            log.warning("the lease of account %s could not be given back", account)
