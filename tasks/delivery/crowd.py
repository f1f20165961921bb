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

    async def drain(self, lane: str, wakeup: int, org: str) -> None:
        """Work on a lane, in its org's turns."""
        await self._of(org).drain(lane, wakeup)

    def _of(self, org: str) -> Lanes:
        lanes = self._orgs.get(org)
        if lanes is None:
            share = self.share.for_group(org)
            # With a result writer of its own: a thousand requests that time out together must not delay other results.
            work = replace(self.work, database=share, results=ResultWriter(share))
            lanes = self._orgs[org] = replace(self.lanes, database=share, works={"endpoint": work})
        return lanes
