"""How hard an endpoint may be tried, by what it answered lately. Pure.

An endpoint that fails is left alone as a whole, instead of using up the attempts of every event that waits for it; what
piled up meanwhile is let out slowly: one request, and twice as many with each success.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from tasks.backoff import backoff

MOST = 32  # requests under way at once
PROVEN = 4  # as many are under way of one that has answered well lately
TRIP = 10  # failures in a row from which an endpoint is left alone
REST, LONGEST_REST = 5.0, 300.0  # seconds of the first rest, doubled with each, and of the longest
ASKED = 3600.0  # seconds that an endpoint may ask to be left alone
HOPELESS = timedelta(days=5)  # of nothing but failures, after which it is disabled
QUIET = timedelta(days=1)
#: It is too much for them (RFC 6585, 4; RFC 9110, 15.6.3 to 15.6.5).
OVERLOADED = frozenset({429, 502, 503, 504})


@dataclass(frozen=True)
class EndpointHealth:
    """How an endpoint does; the columns of that name in endpoints."""

    in_flight: int = 2
    failures: int = 0
    rests: int = 0
    failing_since: datetime | None = None
    failed_at: datetime | None = None

    def succeeded(self) -> "EndpointHealth":
        """Return it after a success."""
        return EndpointHealth(min(MOST, self.in_flight * 2))

    def failed(self, at: datetime, *, overloaded: bool = False) -> "EndpointHealth":
        """Return it after a failure: of those that are overloaded less is asked at once."""
        failures = self.failures + 1
        in_flight = 1 if failures >= TRIP else max(1, self.in_flight // 2) if overloaded else self.in_flight
        # Days without a request say nothing: a failure after them is a first one.
        since = self.failing_since if self.failed_at and at - self.failed_at < QUIET else None
        return replace(self, in_flight=in_flight, failures=failures, failing_since=since or at, failed_at=at)

    def rested(self) -> "EndpointHealth":
        """Return it once it is left alone."""
        return replace(self, rests=self.rests + 1)

    def rest(self, asked: float = 0.0, *, refused: bool = False) -> float:
        """Return the seconds for which it is to be left alone: as it asked, or since it refused or failed too often."""
        if self.failures >= TRIP or refused:
            return max(backoff(self.rests + 1, base=REST, factor=2, cap=LONGEST_REST), min(asked, ASKED))
        return min(asked, ASKED)

    def is_hopeless(self, now: datetime) -> bool:
        """Tell whether there has been nothing but failures for days."""
        return self.failures >= TRIP and self.failing_since is not None and now - self.failing_since > HOPELESS
