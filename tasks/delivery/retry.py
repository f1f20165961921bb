"""The retry policy of deliveries."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.backoff import backoff

RETRY_AFTER_CAP = 3600.0  # seconds


@dataclass(frozen=True)
class Retry:
    """The first attempt at once, each further one after base · factorⁿ seconds up to the cap; `attempts` in all."""

    attempts: int = 12
    base_seconds: float = 5.0
    factor: float = 3.0
    cap_seconds: float = 43_200.0

    @classmethod
    def of(cls, policy: Mapping[str, Any]) -> "Retry":
        """Return the default, changed by the `retry` of an endpoint."""
        return cls(
            attempts=int(policy.get("attempts", cls.attempts)),
            base_seconds=float(policy.get("baseSeconds", cls.base_seconds)),
            factor=float(policy.get("factor", cls.factor)),
            cap_seconds=float(policy.get("capSeconds", cls.cap_seconds)),
        )

    def pause(self, attempt: int, asked: float = 0.0) -> float | None:
        """Return the seconds to wait after failed attempt number `attempt`, at least `asked`; None after the last."""
        if attempt >= self.attempts:
            return None
        pause = backoff(attempt, base=self.base_seconds, factor=self.factor, cap=self.cap_seconds)
        return max(pause, min(asked, RETRY_AFTER_CAP))
