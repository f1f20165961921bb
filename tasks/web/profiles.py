"""Moves profiles between this worker's disk and Postgres.

A profile directory is a login: a copy of it gives access to the account. It is on one disk at a time while its browser
is open, and otherwise sealed in Postgres. A copy does not have the messages that were sent after it was made;
therefore a profile that is restored from a copy gets a new generation.
"""

import asyncio
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from browser.engine.pack import pack, unpack
from browser.engine.process import end_orphans, kill_browsers_of
from browser.engine.profile import (
    delete,
    delete_leftovers,
    directory_of,
    prepare,
    read_generation,
    stored,
    visits,
    write_generation,
)
from browser.engine.shared_scripts import collect, forget, share
from crypto import CryptoError, Sealer
from errors import LeaseLost, PostriderError, ProfileElsewhere, ProfileUnreadable, SealError
from sql.database import Database, Row
from tasks.web.state_changes import Account

log = logging.getLogger(__name__)


@dataclass
class Profiles:
    """The directories of one worker's profiles, and their sealed copies."""

    database: Database
    worker: str
    #: identity of the directory of profiles, and where it is
    home: str
    root: Path
    sealer: Sealer
    #: account → whether the cache in its directory was loaded through a proxy. Such an account shares no scripts: by
    #: headers that it gave to one client alone, a server could tell that two accounts are on one machine.
    _proxied: dict[str, bool] = field(default_factory=dict)
    _sharing: asyncio.Lock = field(default_factory=asyncio.Lock)

    def directory(self, account: str) -> Path:
        """Return where the account's profile lives while it is here."""
        return directory_of(self.root, account)

    def is_here(self, account: Account) -> bool:
        """Tell whether this disk has the profile that Postgres names."""
        return (
            account.profile_home == self.home
            and read_generation(self.directory(account.id)) == account.profile_generation
        )

    async def prepare(self, account: Account) -> int:
        """Put the account's newest profile into its directory, ready to be opened; return its generation.

        Raises ProfileElsewhere where only another disk has it, ProfileUnreadable, LeaseLost.
        """
        # The lease and this disk are ours: a browser that still uses the profile is left from an earlier opening.
        await kill_browsers_of(self.directory(account.id))
        generation = await self._obtain(account)
        prepare(self.directory(account.id))
        await self._cache(account)
        return generation

    async def _cache(self, account: Account) -> None:
        """Give the profile the shared scripts, and drop what was loaded in another way than it will be."""
        directory, proxied = self.directory(account.id), account.proxy is not None
        if self._proxied.get(account.id) is not proxied:
            await self._scripts(forget, directory)
            self._proxied[account.id] = proxied
        if not proxied:
            await self._scripts(share, self.root, directory)

    async def _obtain(self, account: Account) -> int:
        if self.is_here(account):
            await self._held("use_profile", account.id, home=self.home, generation=account.profile_generation)
            return account.profile_generation
        sealed = await self.database.one("sealed_profile", account=account.id) if account.linked else None
        elsewhere = account.linked and account.profile_home not in {None, self.home}
        # The profile on that disk is newer than the sealed copy, unless that was made after its browser was closed.
        if (
            elsewhere
            and not (sealed and sealed["whole"])
            and (sealed is None or await self.database.one("worker_at_home", account=account.id, worker=self.worker))
        ):
            raise ProfileElsewhere
        await asyncio.to_thread(delete, self.directory(account.id))
        if sealed is None:
            return await self._make(account)
        return await self._restore(account.id, sealed)

    async def _make(self, account: Account) -> int:
        row = await self._held("new_profile", account.id, home=self.home, generation=account.profile_generation)
        directory = self.directory(account.id)
        prepare(directory)
        write_generation(directory, row["generation"])
        return int(row["generation"])

    async def _restore(self, account: str, sealed: Row) -> int:
        directory, belongs = self.directory(account), about(account, sealed["generation"])

        def restore() -> None:
            unpack(self.sealer.open(bytes(sealed["sealed"]), belongs), directory)

        try:
            await asyncio.to_thread(restore)
        except CryptoError as error:
            raise ProfileUnreadable from error
        try:
            row = await self._held("restore_profile", account, home=self.home, sealed=sealed["generation"])
        except PostriderError:
            await self.discard(account)
            raise
        write_generation(directory, row["generation"])
        log.info(
            "account %s was restored as generation %d", account, row["generation"],
            extra={"event": "profile.restored", "account": account, "generation": row["generation"]},
        )  # fmt: skip
        return int(row["generation"])

    async def _held(self, name: str, account: str, **values: object) -> Row:
        row = await self.database.one(name, account=account, worker=self.worker, **values)
        if row is None:
            raise LeaseLost
        return row

    async def seal(self, account: str, *, whole: bool) -> bool:
        """Store a sealed copy of the directory; `whole` when its browser is closed.

        Return whether it was stored. It is not without the lease, if Postgres names another generation by now, while an
        older login is kept until this one is ready, or if the profile is too large or changes all the time.
        """
        directory = self.directory(account)
        generation = read_generation(directory)
        if generation is None:
            return False

        def make() -> tuple[bytes, int]:
            packed = pack(directory)
            return self.sealer.seal(packed.data, about(account, generation)), packed.raw_bytes

        try:
            sealed, raw_bytes = await asyncio.to_thread(make)
        except (SealError, OSError) as error:
            log.warning(
                "the profile of account %s was not sealed: %s", account, error,
                extra={"event": "profile.not_sealed", "account": account, "reason": str(error)},
            )  # fmt: skip
            return False
        row = await self.database.one(
            "store_profile", account=account, worker=self.worker, home=self.home, generation=generation, whole=whole,
            sealed=sealed, raw_bytes=raw_bytes,
        )  # fmt: skip
        if row is None:
            log.warning(
                "the profile of account %s was not stored: a newer one is, or an older login is kept until it is ready",
                account,
                extra={"event": "profile.not_stored", "account": account},
            )  # fmt: skip
            return False
        log.info(
            "account %s was sealed: %d KB of %d KB", account, len(sealed) >> 10, raw_bytes >> 10,
            extra={"event": "profile.sealed", "account": account, "kb": len(sealed) >> 10},
        )  # fmt: skip
        return True

    async def preserve(self, account: str) -> None:
        """Make a sealed copy of a login that is to be set aside, unless there is one."""
        if await self.database.one("any_sealed_profile", account=account) is None:
            await self.seal(account, whole=False)

    async def put_away(self, account: str, *, linked: bool) -> bool:
        """Seal a closed browser's profile and delete its directory; one that holds no login is only deleted.

        Return whether it is gone from this disk; it stays if the copy could not be stored.
        """
        await kill_browsers_of(self.directory(account))
        if linked and read_generation(self.directory(account)) is not None and not await self.seal(account, whole=True):
            return False
        if self._proxied.pop(account, None) is False:
            await self._scripts(collect, self.directory(account), self.root)
        await self.discard(account)
        return True

    async def _scripts(self, step: Callable[..., None], *folders: Path) -> None:
        """Do a step with the page's scripts, without which a page only takes longer to open."""
        try:
            async with self._sharing:
                await asyncio.to_thread(step, *folders)
        except OSError as error:
            log.warning(
                "the page's scripts were not shared: %s", error,
                extra={"event": "profile.scripts_not_shared", "reason": str(error)},
            )  # fmt: skip

    async def discard(self, account: str) -> None:
        """Delete the directory, if it is here."""
        await asyncio.to_thread(delete, self.directory(account))

    async def stale(self) -> list[str]:
        """Return the accounts whose directories on this disk are not those that Postgres names."""
        rows = await self.database.all("profiles_at_home", home=self.home)
        named = {row["id"]: row["generation"] for row in rows}
        here = await asyncio.to_thread(stored, self.root)
        return [account for account, generation in here.items() if named.get(account) != generation]

    async def sweep(self) -> None:
        """Delete the homes of temporary workers that have ended: one that was killed left a login there."""
        try:
            for home in await self._ended_visits():
                log.warning(
                    "deleting what a temporary worker left in %s", home,
                    extra={"event": "profile.visited", "directory": str(home)},
                )  # fmt: skip
                await end_orphans(home)
                await asyncio.to_thread(shutil.rmtree, home)
        except OSError as error:
            # A temporary worker may have run as another user of the machine.
            log.warning(
                "what a temporary worker left cannot be deleted: %s", error,
                extra={"event": "profile.not_deleted", "reason": str(error)},
            )  # fmt: skip

    async def _ended_visits(self) -> list[Path]:
        left = visits(self.root)
        rows = await self.database.all("living_homes") if left else []
        return [home for home in left if home.name not in {row["home"] for row in rows}]

    async def clean(self) -> list[str]:
        """Delete stale profiles and leftovers, at a worker's start; return the accounts of the profiles."""
        await asyncio.to_thread(delete_leftovers, self.root)
        stale = await self.stale()
        for account in stale:
            log.warning(
                "deleting a stale profile of account %s", account, extra={"event": "profile.stale", "account": account}
            )
            await self.discard(account)
        return stale


def about(account: str, generation: int) -> bytes:
    """Return the associated data that binds a sealed profile to its account and generation."""
    return f"{account}:{generation}".encode()
