"""Heartbeat: this process's row in Postgres, with its encryption keys' fingerprints."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from errors import DatabaseError, SettingsWrong
from sql.database import Database, Transaction
from sql.sealing import admit

log = logging.getLogger(__name__)

BEAT_SECONDS = 5.0  # a process counts as dead a minute after its last heartbeat
UNREGISTER_SECONDS = 2.0  # time limit for deleting the row at the end


@dataclass
class Heartbeat:
    """One process of the API."""

    database: Database
    id: str
    host: str
    version: str
    #: of its encryption keys; the first one seals
    fingerprints: Sequence[str]
    beat: float = BEAT_SECONDS
    #: set when the process has to end
    fatal: asyncio.Event = field(default_factory=asyncio.Event)

    async def run_once(self) -> None:
        """Write a heartbeat. Raises SettingsWrong when this process lacks the key that everything is sealed with."""
        await self.database.transact(self._sign)

    async def _sign(self, tx: Transaction) -> None:
        await admit(tx, self.fingerprints)
        await tx.all("sign_api", id=self.id, host=self.host, version=self.version, fingerprints=list(self.fingerprints))

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Write heartbeats during the block, and retry while the database is away. Raises as `run_once`."""
        with contextlib.suppress(DatabaseError):
            await self.run_once()
        task = asyncio.create_task(self._beat())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            with contextlib.suppress(DatabaseError, TimeoutError):
                async with asyncio.timeout(UNREGISTER_SECONDS):
                    await self.database.all("unregister_api", id=self.id)

    async def _beat(self) -> None:
        while not self.fatal.is_set():
            await asyncio.sleep(self.beat)
            try:
                await self.run_once()
            except DatabaseError:
                log.warning("the heartbeat waits for the database", extra={"event": "duty.waits", "duty": "heartbeat"})
            except SettingsWrong as error:
                log.error(  # noqa: TRY400  # the error's text is enough
                    error.detail, extra={"event": "api.failed", "reason": error.code}
                )
                self.fatal.set()
            except Exception:
                log.exception("the heartbeat failed", extra={"event": "duty.failed", "duty": "heartbeat"})
