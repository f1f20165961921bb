"""Delivered and read: the second and the blue ticks, as far as the live sessions' pages show them."""

import logging
from dataclasses import dataclass, field
from functools import partial

from browser.page.bubbles import Tick
from errors import PostriderError
from phones import subscriber
from sql.database import Database, Row
from tasks.lanes import wake_returned
from tasks.periodic import PerKey
from tasks.web.seats import Seats, Session

log = logging.getLogger(__name__)


@dataclass
class Ticks:
    """Looks for ticks that came since a message was sent."""

    database: Database
    seats: Seats
    _beside: PerKey = field(default_factory=PerKey)

    async def run_once(self) -> None:
        """Look once at every live page with messages that wait for a tick."""
        sessions = {account: session for account in list(self.seats.sessions) if (session := self.seats.live(account))}
        if not sessions:
            return
        waiting: dict[str, list[Row]] = {}
        for row in await self.database.all("awaiting_ticks", accounts=sorted(sessions)):
            waiting.setdefault(row["account_id"], []).append(row)
        await self._beside.each(
            {account: partial(self._look, sessions[account], rows) for account, rows in waiting.items()}
        )

    async def _look(self, session: Session, rows: list[Row]) -> None:
        try:
            async with session.busy:
                seen = await session.page.ticks({row["bubble"] for row in rows})
                chats = await session.page.chat_ticks()
        except PostriderError as error:
            # The next drain finds out what is wrong with the page; nothing depends on this look.
            log.debug("the ticks of account %s could not be read: %s", session.account, error.code)

            return
        newest: set[str] = set()
        for row in rows:
            # The chat list shows the tick of a chat's last message, and rows come newest first.
            recipient = subscriber(row["phone"])
            in_list = chats.get(recipient) if recipient not in newest else None
            newest.add(recipient)
            await self._write(row, seen.get(row["bubble"], in_list or Tick.PENDING))

    async def _write(self, row: Row, tick: Tick) -> None:
        if row["state"] == "failed":
            steps = ["late_tick"] if tick >= Tick.SENT else []
        else:
            # Blue ticks mean both; each is an event of its own.
            steps = ["job_delivered"] if tick >= Tick.DELIVERED and row["state"] == "sent" else []
            steps += ["job_read"] if tick is Tick.READ else []
        if steps:
            async with self.database.transaction() as tx:
                await wake_returned(tx, [each for step in steps for each in await tx.all(step, job=row["id"])])
