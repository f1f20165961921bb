"""What all parts of a worker share."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import procrastinate

from settings import Settings
from sql.database import Database
from tasks.lanes import Lanes
from tasks.queue import Drainer

DRAIN_PATIENCE = 25.0  # seconds a message in hand is given when the worker stops


@dataclass(frozen=True)
class Frame:
    """One per worker."""

    settings: Settings
    worker: str
    database: Database
    lanes: Lanes
    app: procrastinate.App
    #: drains of the queues that are not drained by `lanes`
    drains: dict[str, Drainer]
    #: queues for everybody, which the last of the parts consumes beside its own
    common: Sequence[str] = field(default=("upkeep",))
