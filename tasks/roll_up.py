"""Rolling up what reports count: days that are over, and what changes later; all before retention deletes messages."""

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from errors import DatabaseSlow
from sql.database import Database, Row, Transaction

log = logging.getLogger(__name__)

AT_ONCE = 200  # accounts, days and thousands of messages of one transaction
SEALED_AT_ONCE = 5000  # days of one transaction


@dataclass
class RollUp:
    """Counts each account's days once they are over, and anew when one of their messages changes.

    `goes_on` of its methods says whether there is time for one more transaction; `pause` waits for so many seconds
    between two, for the work of others.
    """

    database: Database
    #: how much of each is done in one transaction: less once Postgres took too long for so much
    at_once: dict[str, int] = field(default_factory=dict)

    async def take_marks(self, goes_on: Callable[[], bool], pause: Callable[[float], Awaitable[None]]) -> None:
        """Count the days anew of messages that have changed."""
        await self._all("take_report_marks", "next_of_marks", goes_on, pause)

    async def roll_up(self, goes_on: Callable[[], bool], pause: Callable[[float], Awaitable[None]]) -> None:
        """Roll up the days that are over."""
        await self._all("roll_up_days", "next_to_roll_up", goes_on, pause)

    async def seal(
        self, retention_days: float, goes_on: Callable[[], bool], pause: Callable[[float], Awaitable[None]]
    ) -> None:
        """Seal the days whose messages retention deletes next."""
        while goes_on():
            began = time.monotonic()
            row = await self._step("seal_report_days", days=retention_days, most=SEALED_AT_ONCE)
            if not (row and row["done"]):
                return
            await pause(time.monotonic() - began)

    async def check(self) -> None:
        """Count any one day anew; it must be what it was."""
        if row := await self._step("check_report_day"):
            log.error(
                "the report of %s on %s was wrong, and is corrected", row["account"], row["day"],
                extra={"event": "report.wrong", "account": row["account"], "day": row["day"].isoformat(),
                       "was": row["was"], "counted": row["counted"]},
            )  # fmt: skip

    async def _all(
        self, name: str, following: str, goes_on: Callable[[], bool], pause: Callable[[float], Awaitable[None]]
    ) -> None:
        """Do it until nothing is left; leave out an account of which Postgres cannot count one day in time."""
        left_out: list[str] = []
        while goes_on():
            began, most = time.monotonic(), self.at_once.get(name, AT_ONCE)
            try:
                row = await self._step(name, **{"most": most, "except": left_out})
            except DatabaseSlow:
                if most > 1:
                    self.at_once[name] = max(1, most // 4)
                elif account := await self.database.one(following, **{"except": left_out}):
                    left_out.append(account["account"])
                    log.error(  # noqa: TRY400  # the traceback is that of any statement that takes too long
                        "the days of %s take too long to count; retention waits for them", account["account"],
                        extra={"event": "report.too_large", "account": account["account"]},
                    )  # fmt: skip
            else:
                if row is None or row["done"] is None:
                    log.info("another worker rolls up reports", extra={"event": "report.elsewhere"})
                    return
                if not row["done"]:
                    return
            await pause(time.monotonic() - began)

    async def _step(self, name: str, **values: object) -> Row | None:
        async def work(tx: Transaction) -> Row | None:
            return await tx.one(name, **values)

        return await self.database.transact(work, one_snapshot=True)
