"""What all parts of a worker share."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import procrastinate

from settings import Settings
from sql.database import Database
from tasks.lanes import Lanes
from tasks.queue import OrgsDrainer

DRAIN_PATIENCE = 25.0  # grace period of a stop: seconds that a running drain has to end


@dataclass(frozen=True)
class Frame:
    """What the parts of one worker share."""

    settings: Settings
    worker: str
    database: Database
    lanes: Lanes
    app: procrastinate.App
    #: drainers of the queues that `lanes` does not drain
    drains: dict[str, OrgsDrainer]
    #: queues of all workers, which the last part consumes besides its own
    common: Sequence[str] = field(default=("upkeep",))
