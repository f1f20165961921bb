"""This process's row in Postgres: that it lives, and which encryption keys it has."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from errors import DatabaseUnavailable, SettingsWrong
from sql.database import Database, Transaction
from sql.sealing import admit

log = logging.getLogger(__name__)

BEAT = 5.0  # seconds between signs of life; a minute of silence is death
FAREWELL = 2.0  # seconds for the last word


@dataclass
class Heartbeat:
    """One process of the API."""

    database: Database
    id: str
    host: str
    version: str
    #: of its encryption keys, the one that seals first
    fingerprints: Sequence[str]
    beat: float = BEAT
    #: set when the process has to end
    fatal: asyncio.Event = field(default_factory=asyncio.Event)

    async def run_once(self) -> None:
        """Give a sign of life. Raises SettingsWrong when everything is sealed with a key that it has not."""
        await self.database.transact(self._sign)

    async def _sign(self, tx: Transaction) -> None:
        await admit(tx, self.fingerprints)
        await tx.all("sign_api", id=self.id, host=self.host, version=self.version, fingerprints=list(self.fingerprints))

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Give signs of life within the block; while the database is away it is tried again. Raises as `run_once`."""
        with contextlib.suppress(DatabaseUnavailable):
            await self.run_once()
        task = asyncio.create_task(self._beat())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            with contextlib.suppress(DatabaseUnavailable, TimeoutError):
                async with asyncio.timeout(FAREWELL):
                    await self.database.all("unregister_api", id=self.id)

    async def _beat(self) -> None:
        while not self.fatal.is_set():
            await asyncio.sleep(self.beat)
            try:
                await self.run_once()
            except DatabaseUnavailable:
                log.warning(
                    "the sign of life waits for the database", extra={"event": "duty.waits", "duty": "heartbeat"}
                )
            except SettingsWrong as error:
                log.error(  # noqa: TRY400  # it says all
                    error.detail, extra={"event": "api.failed", "reason": error.code}
                )
                self.fatal.set()
            except Exception:
                log.exception("the sign of life failed", extra={"event": "duty.failed", "duty": "heartbeat"})
