"""The watchdog: reopens sessions whose browser takes too much memory, hangs or is gone."""

import asyncio
import logging
import time
from dataclasses import dataclass, field
from functools import partial

from browser.engine.memory import measure
from errors import PostriderError
from sql.database import Database
from tasks.periodic import PerKey
from tasks.web.seats import Seats, Session

log = logging.getLogger(__name__)

MB = 2**20
#: multiple of the limit at which a browser is closed at once, even while it sends a message
AT_ONCE_FACTOR = 2
STARTUP_SECONDS = 300.0  # seconds after its start in which a browser over the limit counts as heavy from the beginning
SEAL_RETRY_SECONDS = 60.0  # seconds until a failed seal is retried


@dataclass
class Watchdog:
    """Looks after the browsers of one worker."""

    database: Database
    seats: Seats
    #: MB of proportional memory (PSS) of one browser; 0 is no limit
    memory_limit: float

    async def run_once(self) -> None:
        """Look once at every session."""
        memory = await self._memory()
        await asyncio.gather(
            *(self._look(session, memory.get(session.account, 0)) for session in list(self.seats.sessions.values()))
        )

    async def _memory(self) -> dict[str, int]:
        directories = {self.seats.profiles.directory(account): account for account in self.seats.sessions}
        if not (self.memory_limit and directories):
            return {}
        measured = await measure(list(directories))
        return {directories[path]: size for path, size in measured.items()}

    async def _look(self, session: Session, size: int) -> None:
        if session.closing:
            return
        if self.memory_limit and size:
            await self._weigh(session, size)
        if self.memory_limit and size > AT_ONCE_FACTOR * self.memory_limit * MB:
            await self._reopen(session, f"its browser takes {size // MB} MB")
        elif not session.page.alive:
            await self._reopen(session, "its browser is gone")
        elif self.seats.draining(session.account) or session.busy.locked():
            return
        elif session.over_memory:
            await self._reopen(session, f"its browser takes {size // MB} MB")
        elif not await session.page.answers():
            await self._reopen(session, "its page does not answer")

    async def _weigh(self, session: Session, size: int) -> None:
        """Have a browser over the limit restarted, unless it was so from the beginning: the next one would be too."""
        over = size > self.memory_limit * MB
        if over and not session.heavy and time.monotonic() - session.opened > STARTUP_SECONDS:
            session.over_memory = True
        elif session.heavy is None or (over and not session.heavy):
            session.heavy = over
            mb = size // MB if over else None
            await self.database.all("note_memory", account=session.account, worker=self.seats.worker, mb=mb)
            if over:
                log.warning(
                    "account %s: its browser takes %d MB since its start; it is left alone up to %.0f MB",
                    session.account, mb, AT_ONCE_FACTOR * self.memory_limit,
                    extra={"event": "session.heavy", "account": session.account, "mb": mb},
                )  # fmt: skip

    async def _reopen(self, session: Session, reason: str) -> None:
        # A message that is being sent there fails as with any lost browser, and is settled in the new one.
        log.warning(
            "account %s is reopened: %s", session.account, reason,
            extra={"event": "session.reopened", "account": session.account, "reason": reason},
        )  # fmt: skip
        await self.seats.close(session.account)
        await self.database.all("attend", lane=session.account, seconds=0)


@dataclass
class Sealing:
    """Seals the profiles of sessions that stay open, so that little is lost if the machine fails."""

    seats: Seats
    #: seconds between two seals of a session
    every: float
    _beside: PerKey = field(default_factory=PerKey)

    async def run_once(self) -> None:
        """Seal the profiles that are due."""
        now = time.monotonic()
        due = {session.account: session for session in self.seats.sessions.values() if now >= session.seal_at}
        await self._beside.each(
            {
                account: partial(self._seal, session)
                for account, session in due.items()
                if not session.closing and not self.seats.is_linking(account)
            }
        )

    async def _seal(self, session: Session) -> None:
        stored = False
        try:
            stored = await self.seats.seal(session)
        except PostriderError as error:
            log.warning(
                "the profile of account %s was not sealed: %s", session.account, error.code,
                extra={"event": "profile.not_sealed", "account": session.account, "reason": error.code},
            )  # fmt: skip
        session.seal_at = time.monotonic() + (self.every if stored else SEAL_RETRY_SECONDS)
