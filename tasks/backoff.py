"""Exponential backoff with jitter."""

import random

JITTER = 0.2  # share of the pause, either way, so that what failed together is not retried together


def backoff(attempt: int, *, base: float, factor: float, cap: float) -> float:
    """Return the seconds to wait after failed attempt number `attempt` (1 is the first): base · factorⁿ⁻¹ ± 20 %."""
    # The exponent is bounded: a float overflows at about factor ** 1000.
    pause = min(base * factor ** min(attempt - 1, 64), cap)
    return pause * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311  # jitter is no secret
