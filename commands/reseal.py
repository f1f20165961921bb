"""`postrider keys reseal`: seal everything again with the first key of ENCRYPTION_KEY, so that the others can go."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from commands import environment
from commands.output import keep_telling, tell
from commands.sealed import Survey, walk
from crypto import Sealer
from errors import DatabaseError, OperatorError
from settings import Settings
from sql.database import Database, Row, Transaction
from sql.roles import Role
from wiring import shared

RETRY_SECONDS = 0.5  # until rows that others had locked are tried again
PATIENCE = 60.0  # seconds without progress until it gives up on locked rows
SILENT = 60.0  # seconds without a heartbeat after which a process does not count; a worker's lease may be longer


def run_reseal(settings: Settings) -> int:
    """Seal everything again, in rounds until nothing is left. Raises OperatorError while others use another key.

    It can be stopped at any moment and run again.
    """
    url = environment.ready_database_url(settings, Role.WORKER)
    asyncio.run(_reseal(settings, url))
    return 0


async def _reseal(settings: Settings, url: str) -> None:
    sealer = shared.sealer(settings)
    first = sealer.fingerprints[0]
    silent = {"silent": max(SILENT, settings.lease_seconds + shared.TAKEOVER), "silent_api": SILENT}
    async with Database(url, Role.WORKER, size=2, name="postrider reseal", patience=shared.PATIENCE) as database:
        await database.transact(lambda tx: _begin(tx, first, silent))
        tell(f"The key has the fingerprint {first}. From now on no process starts without it.")
        run = Run(database, sealer)
        try:
            async with keep_telling(lambda: run.progress):
                await run.to_the_end()
        except DatabaseError:
            raise OperatorError(f"The connection to the database was lost. {run.progress} Run this again.") from None
    tell(run.progress)
    if run.survey.closed:
        raise OperatorError(
            f"No key of ENCRYPTION_KEY opens {run.survey.closed}: add the key that sealed them at its end and run this "
            "again, or replace them, see docs/deploy.md."
        )
    tell(f"All {run.survey.summary} are sealed with it: you can remove the other keys from ENCRYPTION_KEY.")


async def _begin(tx: Transaction, fingerprint: str, silent: Mapping[str, float]) -> None:
    """Make sure that every live process seals with this key, and that no process starts without it from now on."""
    await tx.all("hold_reseal")
    if others := await tx.all("unready_processes", fingerprint=fingerprint, **silent):
        names = "; ".join(_name(row, fingerprint) for row in others)
        raise OperatorError(
            f"The first key of ENCRYPTION_KEY here is {fingerprint}, but not every live process seals with it: "
            f"{names}. Restart them with the new ENCRYPTION_KEY, then run this again."
        )
    await tx.all("need_key", fingerprint=fingerprint)


def _name(row: Row, fingerprint: str) -> str:
    """Name a process that is not ready, and say why."""
    if row["id"] is None:
        return f"an API on {row['host']} is too old to report its keys"
    # A process that was killed counts for one more minute.
    name = f"{row['role']} {row['id']} on {row['host']} (last seen {row['silent']} s ago)"
    if row["fingerprints"] is None:
        return f"{name} is too old to report its keys ({row['version']})"
    further = ", and has it later in its list" if fingerprint in row["fingerprints"] else ""
    return f"{name} seals with {row['fingerprints'][0]}{further}"


@dataclass
class Run:
    """One run of the command."""

    database: Database
    sealer: Sealer
    #: the result of the current walk
    survey: Survey = field(default_factory=Survey)
    #: secrets and logins to seal again: at the beginning, and done by earlier walks
    wanted: int = 0
    before: int = 0
    began: float = field(default_factory=time.monotonic)

    @property
    def progress(self) -> str:
        """The progress, in words."""
        done = f"{self.before + self.survey.written:,} of {self.wanted:,} sealed again"
        return f"{done} after {time.monotonic() - self.began:.1f} s."

    async def to_the_end(self) -> None:
        """Count, then walk until everything is sealed with the first key. Raises OperatorError."""
        await walk(self.database, self.sealer, self.survey)
        self.wanted, moved = self.survey.left, time.monotonic()
        while self.survey.left:
            self.before, self.survey = self.before + self.survey.written, Survey()
            await walk(self.database, self.sealer, self.survey, renew=True)
            if self.survey.written:
                moved = time.monotonic()
            elif time.monotonic() - moved > PATIENCE:
                raise OperatorError(
                    f"{self.survey.left:,} were locked by other processes all the time: run this again."
                )
            else:
                await asyncio.sleep(RETRY_SECONDS)
