"""A claimed job: what a worker knows of the message to send, whatever the transport."""

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
    #: id of the last message in the chat before Enter
    anchor: str | None
    #: id of its message, once that was seen as pending (the clock icon)
    bubble: str | None
    profile_generation: int | None
    #: the disk and the boot of the machine on which Enter was permitted
    pressed_on: str | None
    #: seconds since the permission to press Enter was written; 0 when it was not
    submitted_for: float
    request_id: str | None
    #: an earlier attempt failed with ui_changed, and the page is fine since: perhaps only its own chat is at fault
    blamed: bool


@dataclass(frozen=True)
class Policy:
    """The limits of sending, from the settings."""

    attempts: int
    backoff_seconds: float
    confirm_seconds: float
    settle_seconds: float
