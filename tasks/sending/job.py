"""A job in hand: what a worker knows of a message that it has claimed, whatever sends it."""

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True)
class Job:
    """A job that a worker has claimed."""

    id: str
    account_id: str
    key: str | None
    phone: str
    message: str
    attempts: int
    claim: UUID
    anchor: str | None
    #: id of its message, once that was seen at the clock
    bubble: str | None
    profile_generation: int | None
    #: where Enter was allowed
    pressed_on: str | None
    #: seconds since the permission to press Enter was written; 0 when it was not
    submitted_for: float
    request_id: str | None
    #: it was in hand when its account stopped for a page that is known again: what is changed may be its chat alone
    blamed: bool


@dataclass(frozen=True)
class Policy:
    """The limits of sending, from the settings."""

    attempts: int
    backoff_seconds: float
    confirm_seconds: float
    settle_seconds: float
