"""Looks at pages for `postrider doctor`, by the worker that has them open: no login is ever open twice.

A wish is a row of `checkups`, and so is the answer. A look stands between two messages, changes no state and counts as
no failure.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial

from browser.page.checkup import Findings, examine
from browser.page.screens import Screen
from errors import SendError
from sql.database import Database, Row
from tasks.periodic import PerKey
from tasks.web.seats import Seats, Session
from tasks.web.states import State

BUSY = 30.0  # seconds that whoever acts on the page is waited for; then it is looked at without a click
SHOWN = 5.0  # seconds that an open page may take to show something
#: Seconds that a look may keep a page from messages, and with a load of the page, where none are due.
LIMIT, WITH_LOAD = 20.0, 60.0
IN_USE = f"the page was in use for {BUSY:.0f} s, by a message or a phone that is to scan, so that no chat was opened"


@dataclass
class Checkups:
    """Answers what is wanted of the accounts of one worker."""

    database: Database
    seats: Seats
    #: where the selectors in use come from
    origin: Callable[[], str]
    _beside: PerKey = field(default_factory=PerKey)

    async def run_once(self) -> None:
        """Begin to look at every page that is to be looked at."""
        rows = await self.database.all("wanted_checkups", worker=self.seats.worker)
        await self._beside.each({row["id"]: partial(self._attend, row) for row in rows})

    async def _attend(self, row: Row) -> None:
        session = self.seats.live(row["id"])
        if session:
            await self.look(session, reload=not row["due"])
        elif row["state"] == State.circuit_open:
            # No page is open until the pause is over: whoever asks may open one meanwhile.
            await self.seats.leave(row["id"], row["state_reason"], only_idle=True)

    async def look(self, session: Session, *, shown: float = SHOWN, reload: bool) -> None:
        """Look at a page and write what was found; nothing when it was closed meanwhile, and the wish stands."""
        try:
            answer = asdict(await self._findings(session, shown, reload=reload)) | {"origin": self.origin()}
        except SendError as error:
            answer = {"error": error.detail}
        if self.seats.live(session.account) is session:
            await self.database.all(
                "answer_checkup", account=session.account, worker=self.seats.worker, answer=json.dumps(answer)
            )

    async def _findings(self, session: Session, shown: float, *, reload: bool) -> Findings:
        ours = await _acquire(session.busy, 0 if self.seats.is_linking(session.account) else BUSY)
        try:
            if not ours:
                found = await examine(session.page, shown=shown, act=False, reload=False)
                return replace(found, note=IN_USE if found.screen == Screen.MAIN else "")
            limit = WITH_LOAD if reload else LIMIT
            try:
                async with asyncio.timeout(shown + limit):
                    return await examine(session.page, shown=shown, act=True, reload=reload)
            except TimeoutError:
                found = await examine(session.page, shown=SHOWN, act=False, reload=False)
                return replace(found, note=f"its own chat did not open within {limit:.0f} s", failed=True)
        finally:
            if ours:
                session.busy.release()


async def _acquire(lock: asyncio.Lock, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return await lock.acquire()
    except TimeoutError:
        return False
