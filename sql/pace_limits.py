"""The limits of an account's sending, as both the API and the workers hand them to queries."""

from dataclasses import dataclass
from datetime import time

from psycopg.types.json import Jsonb


@dataclass(frozen=True)
class PaceLimits:
    """Messages of one account; 0 switches a limit off.

    The day's limit is the smaller of `per_day` and the ramp: `ramp_start`, and `ramp_step` for each day since the
    account was first ready, up to `ramp_max`. A `per_day` of 0 leaves the ramp alone, a `ramp_start` of 0 is no ramp,
    a `ramp_step` of 0 a ramp that does not rise, and a `ramp_max` of 0 a ramp without an upper bound.
    """

    per_minute: int
    per_hour: int
    per_day: int
    ramp_start: int
    ramp_step: int
    ramp_max: int
    #: to one recipient
    per_recipient_hour: int
    #: seconds from one message to the next: from, to
    gap_seconds: tuple[float, float]
    #: from, to, by the clocks of the account's time zone; they may go past midnight
    quiet_hours: tuple[time, time] | None

    def wire(self) -> Jsonb:
        """Return them as the queries' parameter `limits`, of the shape of the type pace_limits."""
        begin, end = self.quiet_hours or (None, None)
        return Jsonb(
            {
                "per_minute": self.per_minute,
                "per_hour": self.per_hour,
                "per_day": self.per_day,
                "ramp_start": self.ramp_start,
                "ramp_step": self.ramp_step,
                "ramp_max": self.ramp_max,
                "quiet_from": begin and begin.isoformat(),
                "quiet_to": end and end.isoformat(),
            }
        )
