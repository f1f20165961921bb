"""Delivered and read: the second and the blue ticks, as far as the live sessions' pages show them."""

import logging
import math
import time
from collections.abc import Callable, Mapping
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

#: Seconds between two looks at an account, from-to: most ticks come within seconds of their message, the others when a
#: phone is switched on or a person reads, perhaps days later.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0


@dataclass
class Pause:
    """The pause of one account."""

    #: when its session was last used
    used: float
    #: seconds that it lasts after the next look
    seconds: float = FIRST_PAUSE
    #: when it ends
    until: float = -math.inf


@dataclass
class Pauses:
    """When each account is looked at again: after a pause that doubles while nothing new is found."""

    clock: Callable[[], float] = time.monotonic
    _pauses: dict[str, Pause] = field(default_factory=dict)

    def due(self, used: Mapping[str, float]) -> list[str]:
        """Return the accounts to look at now, and double the pause of each.

        `used` has the live sessions, by account, and when each was last used. A later use starts the pause over: every
        drain of this process that sends or settles a message uses the session. Accounts without one are forgotten.
        """
        now = self.clock()
        self._pauses = {account: self._pause(account, at) for account, at in used.items()}
        due = {account: pause for account, pause in self._pauses.items() if pause.until <= now}
        for pause in due.values():
            pause.until = now + pause.seconds
            pause.seconds = min(2 * pause.seconds, LONGEST_PAUSE)
        return list(due)

    def start_over(self, account: str) -> None:
        """Have the account looked at next time, with the first pause after it."""
        self._pauses.pop(account, None)

    def _pause(self, account: str, used: float) -> Pause:
        pause = self._pauses.get(account)
        return pause if pause and pause.used == used else Pause(used)


@dataclass
class Ticks:
    """Looks for ticks that came since a message was sent."""

    database: Database
    seats: Seats
    pauses: Pauses = field(default_factory=Pauses)
    _beside: PerKey = field(default_factory=PerKey)

    async def run_once(self) -> None:
        """Look once at every live page that is due and has messages that wait for a tick."""
        sessions = {account: session for account in list(self.seats.sessions) if (session := self.seats.live(account))}
        due = self.pauses.due({account: session.used for account, session in sessions.items()})
        waiting: dict[str, list[Row]] = {}
        for row in await self.database.all("awaiting_ticks", accounts=due) if due else ():
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
            # Others may follow soon. This comes before the write, so that a write that fails is tried again soon, too.
            self.pauses.start_over(row["account_id"])
            async with self.database.transaction() as tx:
                await wake_returned(tx, [each for step in steps for each in await tx.all(step, job=row["id"])])
