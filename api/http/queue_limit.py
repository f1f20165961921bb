"""How many messages of each account wait, as counted lately, so that not every request counts 100,000 rows."""

import time
from dataclasses import dataclass, field

BELIEVED = 5.0  # seconds; other processes accept messages too
ALWAYS_COUNTED = 1000  # a bound so low is cheap to count to, and a burst would fill it before a count is stale


@dataclass
class _Count:
    queued: int
    at: float = field(default_factory=time.monotonic)


class QueueLimit:
    """The room that is left under `most`.

    Up to half of the bound a process believes its own count for 5 s. What would go beyond that is counted one request
    after the other, in the whole cluster, and the bound holds exactly, unless an account goes from half empty to full
    within those 5 s: then each further process that believes an old count may add what that leaves to half of it.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._counts: dict[str, _Count] = {}

    def room(self, account: str, wanted: int) -> int | None:
        """Return how many more are accepted, or None when it is to be counted: unknown, stale or near the bound."""
        count = self._counts.get(account)
        if count is None or time.monotonic() - count.at > BELIEVED or self.near(account, wanted):
            return None
        return self.most - count.queued

    def near(self, account: str, wanted: int) -> bool:
        """Tell whether so many more have to be counted with all others shut out."""
        count = self._counts.get(account)
        return self.most <= ALWAYS_COUNTED or (count is not None and (count.queued + wanted) * 2 > self.most)

    def counted(self, account: str, queued: int) -> int:
        """Remember a count and return the room that it leaves."""
        self._counts[account] = _Count(queued)
        return max(0, self.most - queued)

    def accepted(self, account: str) -> None:
        """Add one that was accepted here."""
        if account in self._counts:
            self._counts[account].queued += 1
