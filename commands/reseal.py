"""`postrider keys reseal`: seal everything anew with the first ENCRYPTION_KEY, so that the others may go."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from commands import environment
from commands.sealed import Survey, walk
from commands.tell import keep_telling, tell
from crypto import Sealer
from errors import DatabaseUnavailable, OperatorError
from settings import Settings
from sql.database import Database, Row, Transaction
from wiring import parts

PAUSE = 0.5  # seconds until what others had in hand is looked at again
PATIENCE = 60.0  # seconds in which they have to let go of something
SILENT = 60.0  # seconds without a sign of life after which a process does not count; a worker's lease may be longer


def run_reseal(settings: Settings) -> int:
    """Seal everything anew, round by round, until nothing is left. Raises OperatorError while others use another key.

    It may be ended at any moment and run again: what is done is done.
    """
    url = environment.ready_database_url(settings)
    asyncio.run(_reseal(settings, url))
    return 0


async def _reseal(settings: Settings, url: str) -> None:
    sealer = parts.sealer(settings)
    first = sealer.fingerprints[0]
    silent = {"silent": max(SILENT, settings.lease_seconds + parts.TAKEOVER), "silent_api": SILENT}
    async with Database(url, size=2, name="postrider reseal", patience=parts.PATIENCE) as database:
        await database.transact(lambda tx: _begin(tx, first, silent))
        tell(f"The key is {first}. No process starts without it from now on.")
        run = Run(database, sealer)
        try:
            async with keep_telling(lambda: run.told):
                await run.to_the_end()
        except DatabaseUnavailable:
            raise OperatorError(f"The database went away. {run.told} Run this again.") from None
    tell(run.told)
    if run.survey.closed:
        raise OperatorError(
            f"No key of ENCRYPTION_KEY opens {run.survey.closed}: put the key that sealed them at its end and run this "
            "again, or make them anew, see docs/deploy.md."
        )
    tell(f"All {run.survey.told} are sealed with it: the other keys may leave ENCRYPTION_KEY.")


async def _begin(tx: Transaction, fingerprint: str, silent: Mapping[str, float]) -> None:
    """Make sure that whoever lives seals with this key, and that whoever starts from now on has it."""
    await tx.all("hold_reseal")
    if others := await tx.all("unready_processes", fingerprint=fingerprint, **silent):
        names = "; ".join(_name(row, fingerprint) for row in others)
        raise OperatorError(
            f"The first key of ENCRYPTION_KEY here is {fingerprint}, and not everybody who lives seals with it: "
            f"{names}. Start them with the new ENCRYPTION_KEY, then run this again."
        )
    await tx.all("need_key", fingerprint=fingerprint)


def _name(row: Row, fingerprint: str) -> str:
    """Name a process that is not ready, and say why."""
    if row["id"] is None:
        return f"an API on {row['host']} is too old to tell its keys"
    # One that was killed counts for a minute more.
    name = f"{row['role']} {row['id']} on {row['host']} (last seen {row['silent']} s ago)"
    if row["fingerprints"] is None:
        return f"{name} is too old to tell its keys ({row['version']})"
    further = ", and has it further on" if fingerprint in row["fingerprints"] else ""
    return f"{name} seals with {row['fingerprints'][0]}{further}"


@dataclass
class Run:
    """One run of the command."""

    database: Database
    sealer: Sealer
    #: what the present walk finds
    survey: Survey = field(default_factory=Survey)
    #: how many were to be sealed anew at the beginning, and how many earlier walks have done
    wanted: int = 0
    before: int = 0
    began: float = field(default_factory=time.monotonic)

    @property
    def told(self) -> str:
        """How far it is."""
        done = f"{self.before + self.survey.written:,} of {self.wanted:,} sealed anew"
        return f"{done} after {time.monotonic() - self.began:.1f} s."

    async def to_the_end(self) -> None:
        """Count, and walk until a walk finds nothing that the first key has not sealed. Raises OperatorError."""
        await walk(self.database, self.sealer, self.survey)
        self.wanted, moved = self.survey.left, time.monotonic()
        while self.survey.left:
            self.before, self.survey = self.before + self.survey.written, Survey()
            await walk(self.database, self.sealer, self.survey, renew=True)
            if self.survey.written:
                moved = time.monotonic()
            elif time.monotonic() - moved > PATIENCE:
                raise OperatorError(f"{self.survey.left:,} were in the hands of others all the time: run this again.")
            else:
                await asyncio.sleep(PAUSE)
