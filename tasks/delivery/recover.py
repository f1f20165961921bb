"""A step of a recovery: adds deliveries of some events that an endpoint wants and has not received.

A step runs only when nothing else is due for the endpoint, and adds no more than it can receive in a moment: a new
event never waits behind the whole recovery.
"""

import time

from sql.database import Database
from tasks.lanes import Drain

DELIVERIES_PER_SLOT = 16  # added per request allowed in flight; a new event waits for at most so many answers
EVENTS_PER_STATEMENT = 5000  # events that one statement examines
PATIENCE = 0.5  # seconds after which a step that finds no missed event lets the drain look after its requests


async def recover(database: Database, drain: Drain, in_flight: int) -> bool:
    """Search until deliveries were added or PATIENCE is over; return whether there is more to recover."""
    end = time.monotonic() + PATIENCE
    while True:
        step = await database.one(
            "recover_some",
            lane=drain.lane,
            epoch=drain.epoch,
            look=EVENTS_PER_STATEMENT,
            most=DELIVERIES_PER_SLOT * in_flight,
        )
        if step is None:
            return False
        if step["made"] or time.monotonic() > end:
            return True
