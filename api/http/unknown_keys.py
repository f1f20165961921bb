"""API keys that do not exist, remembered for a moment: a client that repeats one costs no query."""

import time
from collections import OrderedDict

SECONDS = 5.0  # a key that is made meanwhile works as late
MOST = 10_000  # keys, some 2 MB


class UnknownKeys:
    """Hashes of keys that were looked up and not found within the last 5 s; the oldest are dropped when too many."""

    def __init__(self, seconds: float = SECONDS, most: int = MOST) -> None:
        self._seconds = seconds
        self._most = most
        self._until: OrderedDict[bytes, float] = OrderedDict()

    def add(self, hashed: bytes) -> None:
        """Remember a key that was not found."""
        self._until[hashed] = time.monotonic() + self._seconds
        self._until.move_to_end(hashed)
        if len(self._until) > self._most:
            self._until.popitem(last=False)

    def __contains__(self, hashed: bytes) -> bool:
        """Tell whether the key was not found a moment ago."""
        return self._until.get(hashed, 0.0) > time.monotonic()
