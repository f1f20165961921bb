"""The rate limit that an endpoint asks for."""

import time
from dataclasses import dataclass

SPARE = 1.02  # factor of the pauses: packets bunch up on the way, and the receiver must not count more than the rate


@dataclass
class Rate:
    """Spaces requests evenly, in bursts of at most 50 ms' worth; without `per_second` there is no limit."""

    per_second: float | None
    #: when the next request is allowed, by the monotonic clock
    ready: float = 0.0

    @classmethod
    def of(cls, per_second: float | None, not_ready_for: float) -> "Rate":
        """Return a rate whose next request is allowed in so many seconds."""
        return cls(per_second, time.monotonic() + not_ready_for)

    @property
    def wait(self) -> float:
        """Seconds until the next request is allowed."""
        return max(0.0, self.ready - time.monotonic()) if self.per_second else 0.0

    def allows(self, room: int) -> int:
        """Return how many of `room` requests may begin now."""
        if not self.per_second:
            return room
        return 0 if self.wait else min(room, max(1, int(self.per_second / 20)))

    def used(self, requests: int) -> None:
        """Note that so many requests began."""
        if self.per_second:
            self.ready = max(self.ready, time.monotonic()) + requests * SPARE / self.per_second
