"""How many messages of each account wait, as counted lately, so that not every request counts 100,000 rows."""

import time
from dataclasses import dataclass, field

BELIEVED = 5.0  # seconds; other processes accept messages too


@dataclass
class _Count:
    queued: int
    at: float = field(default_factory=time.monotonic)


class Waiting:
    """The room that is left under `most`. A bound against floods: a race may step over it by a few."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._counts: dict[str, _Count] = {}

    def room(self, account: str) -> int | None:
        """Return how many more are accepted, or None when it is to be counted: unknown, stale or near the bound."""
        count = self._counts.get(account)
        if count is None or time.monotonic() - count.at > BELIEVED or count.queued * 2 > self.most:
            return None
        return self.most - count.queued

    def counted(self, account: str, queued: int) -> int:
        """Remember a count and return the room that it leaves."""
        self._counts[account] = _Count(queued)
        return max(0, self.most - queued)

    def accepted(self, account: str) -> None:
        """Add one that was accepted here."""
        if account in self._counts:
            self._counts[account].queued += 1
