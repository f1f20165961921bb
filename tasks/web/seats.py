"""The seats of a worker: which accounts it leases, and their live browsers."""

import asyncio
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

from browser.engine.engine import Engine, look_for
from browser.engine.guard import Guard
from browser.engine.process import machine_boot
from browser.engine.proxy import Find, Proxy, choose
from browser.page.reader import Patience
from browser.page.selectors import Selectors
from browser.page.whatsapp import WhatsApp
from crypto import CryptoError
from errors import DatabaseError, LeaseLost, NoSeat, ProfileUnreadable
from sql.database import Database
from tasks.periodic import PerKey
from tasks.web.profiles import Profiles
from tasks.web.state_changes import Account, States
from tasks.web.states import State, after_closing

log = logging.getLogger(__name__)

#: what happens to a login when its session is closed: it is kept, set aside for a person to go back to, or deleted
Login = Literal["keep", "aside", "forget"]
#: the query for its sealed copy, unless the login is kept
LOGIN_QUERIES: dict[Login, str] = {"aside": "set_profile_aside", "forget": "delete_profile"}

SEAT_POLL_SECONDS = 0.2  # seconds between checks for a free seat
CONCURRENT_BOOTS = 2  # browsers that start at the same time; a start is mostly CPU work
#: Seconds from the first chat list until a profile is sealed, from-to. A login that is stored sooner does not last
#: (waha #584; RemoteAuth of whatsapp-web.js waits 60 s).
FIRST_SEAL = 60.0, 90.0
#: Seconds before the end of a lease at which the guard kills its browser, and at which the worker closes it itself.
GUARD_MARGIN, CLOSE_MARGIN = 5.0, 10.0


@dataclass
class Session:
    """A browser that is open for an account."""

    account: str
    page: WhatsApp
    generation: int
    #: the disk of its profile and the boot of its machine: a power loss undoes what was not yet written to the disk
    place: str = ""
    #: lock for acting on the page: one browser action at a time
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)
    #: when it was opened and when it was last used, by the monotonic clock
    opened: float = field(default_factory=time.monotonic)
    used: float = field(default_factory=time.monotonic)
    #: when its profile is to be sealed next; not before its first chat list
    seal_at: float = math.inf
    #: its browser takes too much memory, and is restarted between two messages
    over_memory: bool = False
    #: it took too much memory soon after its start, so that a restart would not help; None until it was measured
    heavy: bool | None = None
    #: no message may open a new chat at present
    restricted: bool = False
    closing: bool = False
    #: when the selectors' matches on its page were last counted, by the monotonic clock
    surveyed: float = -math.inf
    #: times in a row that Enter did not reach the page
    held_back: int = 0

    def touch(self) -> None:
        """Note that it is used now."""
        self.used = time.monotonic()


@dataclass
class Seats:
    """Room for `capacity` live sessions; when it is full, idle ones give their seats up."""

    database: Database
    worker: str
    states: States
    profiles: Profiles
    engine: Engine
    guard: Guard
    selectors: Selectors
    capacity: int
    lease_seconds: float
    typing_delay_ms: tuple[int, int]
    #: the timeouts of every page
    patience: Patience
    #: the URL of an account's page
    url: Callable[[Account], str]
    #: opens what was sealed for an account
    unseal: Callable[[bytes, str], str]
    #: looks up and judges where an account's proxy is
    find_proxy: Find
    #: whether a drain works on an account now; its browser is not closed to free a seat meanwhile
    draining: Callable[[str], bool]
    #: whether the worker stops
    stopping: Callable[[], bool]
    sessions: dict[str, Session] = field(default_factory=dict)
    #: when each lease of this worker ends at the latest, by the monotonic clock
    leases: dict[str, float] = field(default_factory=dict)
    #: accounts that have a seat: with a browser, on the way to one, or not yet put away
    _taken: set[str] = field(default_factory=set)
    #: accounts whose idle session was chosen to give its seat up
    _giving_up: set[str] = field(default_factory=set)
    #: accounts whose `open()` is in progress
    _opening: set[str] = field(default_factory=set)
    #: leased accounts that had no browser at the last check
    _without_browser: set[str] = field(default_factory=set)
    _giving_back: PerKey = field(default_factory=PerKey)
    #: accounts whose seat waits for a phone to scan
    _linking: set[str] = field(default_factory=set)
    _locks: dict[str, asyncio.Lock] = field(default_factory=dict)
    #: lock for choosing a seat: the first that asked chooses first, and again when the session that was chosen stays
    _choosing: asyncio.Lock = field(default_factory=asyncio.Lock)
    _boots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CONCURRENT_BOOTS))

    # --- leases ------------------------------------------------------------------------------------------------------

    async def lease(self, account: str) -> bool:
        """Lease the account and move its lane to this worker's queue; return False while another worker holds it."""
        async with self._lock(account):
            before = time.monotonic()
            async with self.database.transaction() as tx:
                ours = await tx.one("lease_account", account=account, worker=self.worker, lease=self.lease_seconds)
                holder = None if ours else await tx.one("lease_holder", account=account)
                if ours:
                    await tx.all("move_lane", lane=account, queue=f"account@{self.worker}")
                elif holder and holder["live"]:
                    await tx.all("move_lane", lane=account, queue=f"account@{holder['leased_by']}")
            if ours:
                self.renewed([account], before)
            return ours is not None

    def renewed(self, accounts: Sequence[str], before: float) -> None:
        """Note that Postgres renewed these leases at `before` or later, and give the guard the new deadlines."""
        for account in accounts:
            self.leases[account] = before + self.lease_seconds
            self.guard.keep(self.profiles.directory(account), self.leases[account] - GUARD_MARGIN)

    async def drop_ending(self) -> None:
        """Close the sessions whose leases are about to end: Postgres is away, and other workers may take over."""
        ending = [account for account in self.sessions if self.leases.get(account, 0) - time.monotonic() < CLOSE_MARGIN]
        await asyncio.gather(*(self.drop(account) for account in ending))

    async def drop(self, account: str) -> None:
        """Close a session whose lease has ended, and give it back where it is still ours."""
        async with self._lock(account):
            if account not in self.sessions:
                return  # another task has closed it meanwhile, and written why
            log.warning(
                "the lease of account %s ended; closing its browser", account,
                extra={"event": "lease.ended", "account": account},
            )  # fmt: skip
            await self._close(account)
        with suppress(DatabaseError):
            if await self.lease(account):
                await self.leave(account, "its lease had ended", attend=True, only_idle=True)

    async def release_unattended(self) -> None:
        """Give back accounts that had no browser at two checks in a row, unless a drain is soon to attend to them."""
        without_browser = {
            account for account in self.leases if account not in self.sessions and not self._is_claimed(account)
        }
        unattended, self._without_browser = sorted(without_browser & self._without_browser), without_browser
        if not unattended:
            return
        rows = await self.database.all("unattended_accounts", worker=self.worker, without_browser=unattended)
        # Side by side: an outage of Postgres can leave all of them so, and one may take long or fail.
        await self._giving_back.each({row["id"]: partial(self._give_back, row["id"]) for row in rows})

    async def _give_back(self, account: str) -> None:
        await self.leave(account, "its browser had gone", attend=True, only_idle=True)

    def _is_claimed(self, account: str) -> bool:
        return self.draining(account) or account in self._opening

    # --- sessions ----------------------------------------------------------------------------------------------------

    def live(self, account: str) -> Session | None:
        """Return the account's session if its browser is alive."""
        session = self.sessions.get(account)
        return session if session and session.page.alive and not session.closing else None

    def use(self, selectors: Selectors) -> None:
        """Use these selectors from now on, also for the pages that are open."""
        self.selectors = selectors
        for session in self.sessions.values():
            session.page.use(selectors)

    @property
    def has_room(self) -> bool:
        """Whether a seat is free."""
        return len(self._taken) < self.capacity

    async def open(self, account: Account) -> Session:
        """Open the account's browser on its newest profile.

        Raises ProfileElsewhere, ProfileUnreadable, ProxyDown, LeaseLost and as Engine.open.
        """
        # Before the seat is taken: another account must not give up its seat if no proxy works.
        proxy = await self._proxy(account)
        self._opening.add(account.id)
        try:
            await self._take_seat(account.id)
            async with self._lock(account.id):
                await self._shut(account.id)
                async with self._boots:
                    session = self.sessions[account.id] = await self._boot(account, proxy)
                return session
        finally:
            self._opening.discard(account.id)
            self._free(account.id)

    async def _boot(self, account: Account, proxy: Proxy | None) -> Session:
        generation = await self.profiles.prepare(account)
        if self.leases.get(account.id, 0) - time.monotonic() < CLOSE_MARGIN:
            raise LeaseLost
        page = await WhatsApp.open(
            self.engine,
            self.profiles.directory(account.id),
            replace(look_for(account.id), timezone_id=account.time_zone),
            self.url(account),
            selectors=self.selectors,
            typing_delay_ms=self.typing_delay_ms,
            patience=self.patience,
            proxy=proxy,
        )
        return Session(account.id, page, generation, place=f"{self.profiles.home} {machine_boot()}")

    async def _proxy(self, account: Account) -> Proxy | None:
        if account.proxy is None:
            return None
        try:
            given = json.loads(self.unseal(bytes(account.proxy), account.id))
        except CryptoError as error:
            raise ProfileUnreadable("The account's proxy does not open: ENCRYPTION_KEY lacks its key.") from error
        return await choose(
            [url for url in (given["url"], given.get("spare")) if url], self.url(account), self.find_proxy
        )

    async def _take_seat(self, account: str) -> None:
        """Take a free seat, or that of an idle session, which is left first.

        Accounts choose one after the other and leave side by side: a page that hangs takes seconds to close, and a
        profile to seal, for which only the account that gets this seat has to wait.
        """
        if account in self._taken:
            return  # its page is opened anew
        while gives := await self._choose(account):
            try:
                await self.leave(gives, "its seat was needed", only_idle=True)
            finally:
                self._giving_up.discard(gives)
            if self._sits_down(account):
                return

    def _sits_down(self, account: str) -> bool:
        """Take a seat if one is free; return whether the account has one."""
        if self.has_room:
            self._taken.add(account)
        return account in self._taken

    async def _choose(self, account: str) -> str | None:
        """Wait for a session that can give its seat up, and return its account; None if a seat came free instead."""
        async with self._choosing:
            while not self._sits_down(account):
                if self.stopping():
                    raise LeaseLost
                if gives := await self._least_needed():
                    self._giving_up.add(gives)
                    return gives
                await asyncio.sleep(SEAT_POLL_SECONDS)
        return None

    async def _least_needed(self) -> str | None:
        """Choose the session that gives up its seat: idle, preferably without due work, and the least recently used."""
        idle = [session for session in self.sessions.values() if self._is_idle(session)]
        names = [session.account for session in idle]
        due = {row["id"] for row in await self.database.all("accounts_with_due_work", accounts=names)} if idle else ()
        return min(idle, key=lambda session: (session.account in due, session.used)).account if idle else None

    def _is_idle(self, session: Session) -> bool:
        chosen = session.account in self._giving_up
        return not (session.closing or chosen or self.draining(session.account))

    def may_link(self, account: str) -> None:
        """Raise NoSeat when all seats but one already wait for a phone."""
        if len(self._linking - {account}) >= max(1, self.capacity - 1):
            raise NoSeat

    @contextmanager
    def linking(self, account: str) -> Iterator[None]:
        """Let the account's seat wait for a phone within the block. Raises NoSeat."""
        self.may_link(account)
        self._linking.add(account)
        try:
            yield
        finally:
            self._linking.discard(account)

    def _lock(self, account: str) -> asyncio.Lock:
        """Return the lock for opening and leaving an account: closing a browser takes seconds."""
        return self._locks.setdefault(account, asyncio.Lock())

    async def seal(self, session: Session) -> bool:
        """Store a copy of an open session's profile; return whether it was stored."""
        # Not while it is being left: that seals the profile anyway, as a whole.
        async with session.busy, self._lock(session.account):
            return not session.closing and await self.profiles.seal(session.account, whole=False)

    def is_linking(self, account: str) -> bool:
        """Tell whether its seat waits for a phone."""
        return account in self._linking

    # --- closing -----------------------------------------------------------------------------------------------------

    async def close(self, account: str) -> None:
        """Close the account's browser, if any; lease and profile stay here."""
        async with self._lock(account):
            await self._close(account)

    async def _close(self, account: str) -> None:
        try:
            await self._shut(account)
        finally:
            self._free(account)

    def _free(self, account: str) -> None:
        """Give the seat back, unless it has a browser or one is being started."""
        if account not in self.sessions and account not in self._opening:
            self._taken.discard(account)

    async def _shut(self, account: str) -> None:
        """Close the browser and keep the seat, which is free only once the browser has gone."""
        if session := self.sessions.get(account):
            session.closing = True
            try:
                await session.page.close()
            finally:
                del self.sessions[account]

    async def leave(
        self,
        account: str,
        reason: str | None,
        *,
        to: State | None = None,
        login: Login = "keep",
        attend: bool = False,
        only_idle: bool = False,
    ) -> None:
        """Close the account's browser, put its profile away, end its lease and move its lane to the common queue.

        Its state becomes `to`, or that of `after_closing`. `login` says what happens to the login; with `attend` a
        worker with a free seat takes the account over at once. Does nothing when another worker has the lease by now,
        or, with `only_idle`, when a drain has begun.
        """
        async with self._lock(account):
            if only_idle and self.draining(account):
                return
            try:
                await self._shut(account)
                await self._put_away(account, reason, to, login=login, attend=attend)
            except LeaseLost:
                log.warning(
                    "account %s is another worker's by now", account, extra={"event": "lease.lost", "account": account}
                )
            finally:
                self._free(account)  # only now: the memory of a seat has to do for sealing the profile too
            self.leases.pop(account, None)
            self.guard.forget(self.profiles.directory(account))

    async def _put_away(
        self, account: str, reason: str | None, to: State | None, *, login: Login, attend: bool
    ) -> None:
        row = await self.states.held(self.database, account)
        linked = row["linked"] and login == "keep"
        if login == "aside":
            await self.profiles.preserve(account)
        gone = row["profile_home"] == self.profiles.home and await self.profiles.put_away(account, linked=linked)
        if login != "keep":
            await self.profiles.discard(account)
        async with self.database.transaction() as tx:
            row = await self.states.held(tx, account)
            if login != "keep":
                await tx.all(LOGIN_QUERIES[login], account=account, worker=self.worker)
            # The state first: only the holder of the lease may write it.
            await self.states.write(tx, row, to or after_closing(State(row["state"]), linked=linked), reason)
            await tx.all("release_account", account=account, worker=self.worker, put_away=gone)
            await tx.all("move_lane", lane=account, queue="account")
            if attend and row["wanted"] == "connected" and login == "keep":
                await tx.all("attend", lane=account, seconds=0)

    async def leave_idle(self, seconds: float) -> None:
        """Give up the seats of sessions that were not used for so long; 0 keeps them."""
        now = time.monotonic()
        for session in list(self.sessions.values()):
            if seconds and now - session.used > seconds and self._is_idle(session):
                await self.leave(session.account, "idle", only_idle=True)

    async def leave_all_idle(self) -> None:
        """Give up every seat that no drain needs: the worker stops, and others can take the accounts over meanwhile."""
        idle = [session.account for session in self.sessions.values() if self._is_idle(session)]
        await asyncio.gather(*(self._close_one(account, only_idle=True) for account in idle))

    async def tidy(self) -> None:
        """Delete directories that lost leases and ended temporary workers have left on this disk."""
        await self.profiles.sweep()
        for account in await self.profiles.stale():
            async with self._lock(account):
                if account not in self.leases and not self._is_claimed(account):
                    await self.profiles.discard(account)

    async def close_all(self) -> None:
        """Close every browser and give every lease back, also those without a browser."""
        accounts = set(self.sessions)
        with suppress(DatabaseError):
            accounts |= {row["id"] for row in await self.database.all("leased_accounts", worker=self.worker)}
        await asyncio.gather(*(self._close_one(account) for account in sorted(accounts)))

    async def _close_one(self, account: str, *, only_idle: bool = False) -> None:
        was_open = account in self.sessions
        try:
            await self.leave(account, "the worker stopped", attend=was_open, only_idle=only_idle)
        except DatabaseError:
            # The browser is closed, and the lease ends by itself.
            log.warning(
                "the lease of account %s could not be given back", account,
                extra={"event": "lease.not_given_back", "account": account},
            )  # fmt: skip
        except Exception:
            # Go on with the other accounts.
            log.exception(
                "account %s could not be closed", account, extra={"event": "session.not_left", "account": account}
            )
