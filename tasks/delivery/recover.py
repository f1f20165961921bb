"""A step of a recovery: deliveries for some of the events that an endpoint wants and has not received.

It is taken when nothing else is due at the endpoint, and brings no more than its slots make in a moment: whatever
happens now never waits behind all that is recovered.
"""

import time

from sql.database import Database
from tasks.lanes import Drain

BITE = 16  # deliveries for each request that may be under way; a new event waits for so many answers at most
LOOK = 5000  # events that one statement looks at
PATIENCE = 0.5  # seconds until requests are looked after again, while nothing is found to be missing


async def recover(database: Database, drain: Drain, in_flight: int) -> bool:
    """Go on until deliveries are due, or for a moment; return whether there is more to recover."""
    end = time.monotonic() + PATIENCE
    while True:
        step = await database.one("recover_some", lane=drain.lane, epoch=drain.epoch, look=LOOK, most=BITE * in_flight)
        if step is None:
            return False
        if step["made"] or time.monotonic() > end:
            return True
