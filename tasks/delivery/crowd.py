"""The crowd: endpoints that are new, fail or hang. They share few calls to Postgres at a time, org by org."""

from dataclasses import dataclass, field, replace
from weakref import WeakValueDictionary

from sql.database import Share
from tasks.delivery.lane import DeliveryWork
from tasks.delivery.result_writer import ResultWriter
from tasks.lanes import Lanes


@dataclass
class Crowd:
    """Drains the lanes of the slow queue. An org with hundreds of them has no more turns at Postgres than any other."""

    lanes: Lanes
    work: DeliveryWork
    share: Share
    #: the lanes of each org that has some under way
    _orgs: "WeakValueDictionary[str, Lanes]" = field(default_factory=WeakValueDictionary)

    async def drain(self, lane: str, wakeup: int) -> None:
        """Work on a lane, in its org's turns."""
        # Not in turns, since it is not known yet whose: one look-up for each wake-up, and those come one at a time.
        row = await self.lanes.database.one("org_of_lane", lane=lane)
        if row is not None:
            await self._of(row["org_id"]).drain(lane, wakeup)

    def _of(self, org: str) -> Lanes:
        lanes = self._orgs.get(org)
        if lanes is None:
            share = self.share.of(org)
            # With a result writer of its own: a thousand requests that time out together must not delay other results.
            work = replace(self.work, database=share, results=ResultWriter(share))
            lanes = self._orgs[org] = replace(self.lanes, database=share, works={"endpoint": work})
        return lanes
