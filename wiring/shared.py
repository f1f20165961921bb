"""What several parts and processes are made with, derived from the settings."""

from collections.abc import Callable
from importlib.metadata import version

from crypto import Sealer
from errors import OperatorError
from settings import Settings
from sql.pace_limits import PaceLimits

VERSION = version("postrider")
#: Seconds after the end of its leases until a silent worker counts as dead and its accounts are taken over.
TAKEOVER = 5.0
PATIENCE = 10.0  # seconds that a worker's drains, of which there may be many, wait for a database connection


def sealer(settings: Settings) -> Sealer:
    """Return the sealer of the secrets in the database."""
    if settings.encryption_key is None:
        raise OperatorError("ENCRYPTION_KEY is not set.")
    return Sealer.from_text(settings.encryption_key.get_secret_value())


def unsealer(settings: Settings) -> Callable[[bytes, str], str]:
    """Return a function that opens a secret: (sealed bytes, what they belong to) → text."""
    keys = sealer(settings)
    return lambda sealed, about: keys.open(sealed, about.encode()).decode()


def sandbox_url(settings: Settings) -> str:
    """Return where workers reach the sandbox, which the API serves to loopback peers only."""
    host = settings.host if settings.host not in {"0.0.0.0", "::"} else "127.0.0.1"  # noqa: S104  # compared, not bound
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}/sandbox"


def pace_limits(settings: Settings) -> PaceLimits:
    """Return the pace limits, for the API and for workers."""
    return PaceLimits(
        per_minute=settings.pace_per_minute,
        per_hour=settings.pace_per_hour,
        per_day=settings.pace_per_day,
        ramp_start=settings.pace_ramp_start,
        ramp_step=settings.pace_ramp_step,
        ramp_max=settings.pace_ramp_max,
        per_recipient_hour=settings.pace_per_recipient_hour,
        gap_seconds=settings.pace_gap_seconds,
        quiet_hours=settings.quiet_hours,
    )
