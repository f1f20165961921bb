"""Checkups of pages for `postrider doctor`, by the worker that has them open: no login is ever open twice.

A row of `checkups` holds the request and the answer. A checkup runs between two messages, changes no state and does not
count as a failure.
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

BUSY = 30.0  # seconds to wait until the page is free; after that it is examined without a click
SHOWN = 5.0  # seconds that an open page may take to show something
#: Seconds that a checkup may keep a page from messages; and with a reload, which needs that none are due.
LIMIT, LIMIT_WITH_RELOAD = 20.0, 60.0
IN_USE = f"the page was in use for {BUSY:.0f} s, by a message or a phone that is to scan, so that no chat was opened"


@dataclass
class Checkups:
    """Makes the requested checkups of the accounts of one worker."""

    database: Database
    seats: Seats
    #: where the selectors in use come from
    origin: Callable[[], str]
    _beside: PerKey = field(default_factory=PerKey)

    async def run_once(self) -> None:
        """Start every checkup that is requested."""
        rows = await self.database.all("wanted_checkups", worker=self.seats.worker)
        await self._beside.each({row["id"]: partial(self._attend, row) for row in rows})

    async def _attend(self, row: Row) -> None:
        session = self.seats.live(row["id"])
        if session:
            await self.look(session, reload=not row["due"])
        elif row["state"] == State.circuit_open:
            # No page is open until the pause is over. Give the account back, so that the command can open the page.
            await self.seats.leave(row["id"], row["state_reason"], only_idle=True)

    async def look(self, session: Session, *, shown: float = SHOWN, reload: bool) -> None:
        """Examine a page and write the findings; if it was closed meanwhile, write nothing, and the request stands."""
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
            limit = LIMIT_WITH_RELOAD if reload else LIMIT
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
