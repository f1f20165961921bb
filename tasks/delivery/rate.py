"""How many requests a second an endpoint wants."""

import time
from dataclasses import dataclass

SPARE = 1.02  # so that what is counted at the other end, where packets bunch up, stays within the rate


@dataclass
class Rate:
    """Requests spaced evenly, in bunches of a twentieth of a second's at most; None is as many as there is room for."""

    per_second: float | None
    #: when the next is allowed, by the monotonic clock
    ready: float = 0.0

    @classmethod
    def of(cls, per_second: float | None, not_ready_for: float) -> "Rate":
        """Return a rate whose next request is allowed in so many seconds."""
        return cls(per_second, time.monotonic() + not_ready_for)

    @property
    def wait(self) -> float:
        """Seconds until the next is allowed."""
        return max(0.0, self.ready - time.monotonic()) if self.per_second else 0.0

    def allows(self, room: int) -> int:
        """Return how many may begin now, of those that there is room for."""
        if not self.per_second:
            return room
        return 0 if self.wait else min(room, max(1, int(self.per_second / 20)))

    def used(self, requests: int) -> None:
        """Note that so many began."""
        if self.per_second:
            self.ready = max(self.ready, time.monotonic()) + requests * SPARE / self.per_second
