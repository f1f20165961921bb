"""Looking again at accounts that stopped since their page had changed: whether it is known by now. It sends nothing."""

import logging
from dataclasses import dataclass

from browser.census import SPARE
from browser.checkup import examine
from errors import UiChanged
from sql.database import Database
from tasks.seats import Seats, Session

log = logging.getLogger(__name__)

SHOWN = 5.0  # seconds that an open page may take to show something


@dataclass
class Probe:
    """Decides whether an account that stopped may send again."""

    database: Database
    seats: Seats
    #: the selectors by which those that stopped were looked at last
    _used: str = ""

    async def run_once(self) -> None:
        """Have every account that stopped looked at where other selectors are in use than then."""
        used = self.seats.selectors.fingerprint
        if used == self._used:
            return
        rows = await self.database.all("probe_with", selectors=used)
        if rows:
            await self.database.all("wake", lanes=sorted(row["id"] for row in rows))
        self._used = used

    async def known(self, session: Session) -> None:
        """Look at the page, in the account's own chat; let it send again, or raise UiChanged with what is missing."""
        async with session.busy:
            found = await examine(session.page, shown=SHOWN, act=True, reload=True)
        missing = [name for name in found.missing if name not in SPARE]
        if missing:
            detail = f"The page has no {missing[0]} where one is expected (selectors {found.version})."
            raise UiChanged(detail, element=missing[0])
        if found.strange:
            detail = f"The page's ticks are not known: {', '.join(found.strange)} (selectors {found.version})."
            raise UiChanged(detail, element="meta")
        if found.failed:
            raise UiChanged(found.note)
        await self.database.all("open_known_gate", account=session.account, worker=self.seats.worker)
        log.info(
            "account %s: the page is known again, by selectors %s", session.account, found.version,
            extra={"event": "page.known_again", "account": session.account, "version": found.version},
        )  # fmt: skip
