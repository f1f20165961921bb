"""The health of an endpoint, by its latest answers: how many requests may be in flight, and when it rests. Pure.

This is a circuit breaker. An endpoint that fails rests as a whole, instead of using up the attempts of every event that
waits for it; then its backlog goes out slowly: one request, and twice as many after each success.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from tasks.backoff import backoff

MAX_IN_FLIGHT = 32  # requests in flight at once
PROVEN = 4  # requests in flight from which an endpoint counts as one that answers well
TRIP = 10  # failures in a row from which an endpoint rests
REST, LONGEST_REST = 5.0, 300.0  # seconds of the first rest, doubled with each, and of the longest
RETRY_AFTER_CAP = 3600.0  # seconds; the longest Retry-After that is heeded
HOPELESS = timedelta(days=5)  # of nothing but failures, after which an endpoint is disabled
QUIET = timedelta(days=1)  # without a failure, after which the days of HOPELESS are counted from zero
#: Statuses of an endpoint that is overloaded (RFC 6585, 4; RFC 9110, 15.6.3 to 15.6.5).
OVERLOADED = frozenset({429, 502, 503, 504})


@dataclass(frozen=True)
class EndpointHealth:
    """The health of an endpoint: the columns of the same names in `endpoints`."""

    in_flight: int = 2
    failures: int = 0
    rests: int = 0
    failing_since: datetime | None = None
    failed_at: datetime | None = None

    def succeeded(self) -> "EndpointHealth":
        """Return the health after a success."""
        return EndpointHealth(min(MAX_IN_FLIGHT, self.in_flight * 2))

    def failed(self, at: datetime, *, overloaded: bool = False) -> "EndpointHealth":
        """Return the health after a failure; an overloaded endpoint gets fewer requests at once."""
        failures = self.failures + 1
        in_flight = 1 if failures >= TRIP else max(1, self.in_flight // 2) if overloaded else self.in_flight
        # Days without a request prove nothing: the first failure after them starts the count.
        since = self.failing_since if self.failed_at and at - self.failed_at < QUIET else None
        return replace(self, in_flight=in_flight, failures=failures, failing_since=since or at, failed_at=at)

    def rested(self) -> "EndpointHealth":
        """Return the health with one more rest."""
        return replace(self, rests=self.rests + 1)

    def rest(self, asked: float = 0.0, *, refused: bool = False) -> float:
        """Return the seconds to rest: the Retry-After it `asked` for, or more when it `refused` or failed too often."""
        if self.failures >= TRIP or refused:
            return max(backoff(self.rests + 1, base=REST, factor=2, cap=LONGEST_REST), min(asked, RETRY_AFTER_CAP))
        return min(asked, RETRY_AFTER_CAP)

    def is_hopeless(self, now: datetime) -> bool:
        """Tell whether there has been nothing but failures for days."""
        return self.failures >= TRIP and self.failing_since is not None and now - self.failing_since > HOPELESS
