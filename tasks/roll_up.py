"""Rolling up what reports count: days that are over, and what changes later; all before retention deletes messages."""

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from errors import DatabaseSlow
from sql.database import Database, Row, Transaction

log = logging.getLogger(__name__)

CHANGES = 200  # of one transaction
DAYS = 200  # of one transaction; a thousand messages count as one


@dataclass
class RollUp:
    """Counts each account's days once they are over, and anew when one of their messages changes."""

    database: Database
    #: 0 keeps everything, and seals nothing
    retention_days: float
    changes: int = CHANGES
    days: int = DAYS

    async def run_once(self, goes_on: Callable[[], bool], pause: Callable[[float], Awaitable[None]]) -> None:
        """Take what has changed, roll up what is over, and seal what may be deleted next; as long as `goes_on()`.

        `pause` waits for so many seconds between two transactions, for the work of others.
        """
        await self._all("take_report_marks", self.changes, goes_on, pause)
        await self._all("roll_up_days", self.days, goes_on, pause)
        if self.retention_days and goes_on():
            await self._step("seal_report_days", days=self.retention_days)
        if goes_on():
            await self._check()

    async def _all(
        self, name: str, most: int, goes_on: Callable[[], bool], pause: Callable[[float], Awaitable[None]]
    ) -> None:
        """Do it until nothing is left: less at once when Postgres takes too long for so much."""
        while goes_on():
            began = time.monotonic()
            try:
                row = await self._step(name, most=most)
            except DatabaseSlow:
                if most == 1:
                    raise
                most = max(1, most // 4)
            else:
                if not (row and row["done"]):
                    return
            await pause(time.monotonic() - began)

    async def _check(self) -> None:
        """Count any one day anew; it must be what it was."""
        if row := await self._step("check_report_day"):
            log.error(
                "the report of %s on %s was wrong, and is corrected", row["account"], row["day"],
                extra={"event": "report.wrong", "account": row["account"], "day": row["day"].isoformat(),
                       "was": row["was"], "counted": row["counted"]},
            )  # fmt: skip

    async def _step(self, name: str, **values: object) -> Row | None:
        async def work(tx: Transaction) -> Row | None:
            return await tx.one(name, **values)

        return await self.database.transact(work, one_snapshot=True)
