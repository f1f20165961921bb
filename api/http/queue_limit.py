"""Cached counts of each account's waiting messages, so that not every request counts 100,000 rows."""

import time
from dataclasses import dataclass, field

CACHE_SECONDS = 5.0  # short, since other processes accept messages too
ALWAYS_COUNTED = 1000  # up to this bound counting is cheap, and a burst could fill it within CACHE_SECONDS


@dataclass
class _Count:
    queued: int
    at: float = field(default_factory=time.monotonic)


class QueueLimit:
    """The room that is left under the bound `most`.

    Up to half of the bound, a process trusts its cached count for 5 s. Beyond that every request counts anew, under a
    lock that serializes them in the whole cluster, so the bound is exact. The exception: an account that fills from
    below half to full within those 5 s. Every other process with an old count may then add what that count leaves to
    half of the bound.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._counts: dict[str, _Count] = {}

    def room(self, account: str, wanted: int) -> int | None:
        """Return how many more are accepted, or None when a new count is needed: none, stale or near the bound."""
        count = self._counts.get(account)
        if count is None or time.monotonic() - count.at > CACHE_SECONDS or self.near(account, wanted):
            return None
        return self.most - count.queued

    def near(self, account: str, wanted: int) -> bool:
        """Tell whether accepting so many more needs an exact count, under the lock."""
        count = self._counts.get(account)
        return self.most <= ALWAYS_COUNTED or (count is not None and (count.queued + wanted) * 2 > self.most)

    def counted(self, account: str, queued: int) -> int:
        """Cache a count and return the room that it leaves."""
        self._counts[account] = _Count(queued)
        return max(0, self.most - queued)

    def accepted(self, account: str) -> None:
        """Add a message that this process accepted to the cached count."""
        if account in self._counts:
            self._counts[account].queued += 1
