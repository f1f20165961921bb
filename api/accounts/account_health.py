"""Health of an account: usage of its limits, when its next message may go, and why it is not healthy."""

from datetime import time
from typing import Literal, Self

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from api.http.auth import permit
from api.http.context import of
from api.http.models import Shown, Time
from api.http.operations import Operation
from errors import NotFound
from sql.database import Row

#: States of an account that should be connected. `hibernated` is healthy: the next message wakes it.
DOWN = {"disconnected", "auth_failed", "suspected_ban", "banned", "circuit_open"}
ON_ITS_WAY = {"not_started", "starting", "qr_pending", "authenticated"}
NEAR, ALMOST = 70, 90  # percent of the day's limit: a warning from the first on, critical above the second

#: added for a login that was set aside because its page asked for a phone
KEPT = "Its last login is kept: resume goes back to it, connect links a phone anew."

Health = Literal["healthy", "warning", "critical"]


class HealthReason(Shown):
    """Why an account is not healthy."""

    code: Literal["no_worker", "not_connected", "connecting", "daily_limit", "memory"] = Field(
        description="For programs."
    )
    health: Health = Field(description="How bad it is.")
    detail: str = Field(description="In a sentence.")


class LimitUsage(Shown):
    """A limit, what of it is used, and what is left."""

    limit: int | None = Field(description="How many messages; null is no limit.")
    used: int = Field(description="How many it has sent.")
    left: int | None = Field(description="How many are left; null is no limit.")


class DailyLimitUsage(LimitUsage):
    """The limit of a day in the account's time zone."""

    resets_at: Time = Field(description="When the next day begins.")


class QuietHours(Shown):
    """When nothing is sent, by the clocks of the account's time zone."""

    begin: str = Field(description="From when on, such as `22:00`.")
    end: str = Field(description="Until when.")
    until: Time | None = Field(description="While it is quiet, until when.")


class AccountPace(Shown):
    """The limits of an account's sending; a message counts from before Enter is pressed on."""

    enabled: bool = Field(description="Whether they hold for this account.")
    time_zone: str = Field(description="The zone that its days are counted in.")
    minute: LimitUsage = Field(description="Any 60 seconds.")
    hour: LimitUsage = Field(description="Any 60 minutes.")
    day: DailyLimitUsage = Field(description="A day of its time zone.")
    quiet_hours: QuietHours | None = Field(description="Null when there are none.")


class AccountHealth(Shown):
    """How an account is."""

    account: str = Field(description="Its id.")
    health: Health = Field(description="The worst of the reasons.")
    reasons: list[HealthReason] = Field(description="Why it is not healthy; else empty.")
    state: str = Field(description="As in the account.")
    restriction: str | None = Field(description="As in the account.")
    restricted_until: Time | None = Field(description="As in the account.")
    pace: AccountPace = Field(description="Its limits.")
    next_send_at: Time | None = Field(description="From when a message may go; null when somebody has to act first.")
    next_send_reason: str | None = Field(description="Why not now; null when it may go now.")

    @classmethod
    def of(cls, row: Row, quiet_hours: tuple[time, time] | None) -> Self:
        """Make it from a row of account_health."""
        return cls.model_validate(
            {**row, "health": health_of(row), "reasons": _reasons(row), "pace": _paced(row, quiet_hours)}
        )


async def show_health(request: Request) -> Response:
    """Show how an account is, what it used of its limits, and when its next message may go."""
    caller = await permit(request)
    account = request.path_params["id"]
    context = of(request)
    row = await caller.database.one("account_health", account=account, limits=context.pace.wire())
    if row is None:
        raise NotFound(f"There is no account {account}.")
    return AccountHealth.of(row, context.pace.quiet_hours).answer()


def health_of(row: Row) -> Health:
    """Return the worst health among the reasons in a row with wanted, state, day_used and daily_limit."""
    said = {reason.health for reason in _reasons(row)}
    return "critical" if "critical" in said else "warning" if said else "healthy"


def _reasons(row: Row) -> list[HealthReason]:
    return [reason for reason in (_of_worker(row), _of_session(row), _of_day(row), _of_memory(row)) if reason]


def _of_worker(row: Row) -> HealthReason | None:
    if row["is_served"] or row["wanted"] != "connected":
        return None
    detail = "No worker with the duty sessions is running: nothing is sent or received. Start `postrider worker`."
    return HealthReason(code="no_worker", health="critical", detail=detail)


def _of_session(row: Row) -> HealthReason | None:
    if row["wanted"] != "connected" or row["state"] not in DOWN | ON_ITS_WAY:
        return None
    if row["state"] in DOWN:
        detail = f"The account should be connected and is {row['state']}."
        detail = f"{detail} {KEPT}" if row["can_go_back"] else detail
        return HealthReason(code="not_connected", health="critical", detail=detail)
    return HealthReason(code="connecting", health="warning", detail=f"The account is {row['state']} and not yet ready.")


def _of_memory(row: Row) -> HealthReason | None:
    if not row["heavy_mb"]:
        return None
    detail = f"Its browser takes {row['heavy_mb']} MB from its beginning, above MEMORY_LIMIT_MB: raise that."
    return HealthReason(code="memory", health="warning", detail=detail)


def _of_day(row: Row) -> HealthReason | None:
    used, limit = row["day_used"], row["daily_limit"]
    if limit is None or 100 * used < NEAR * limit:
        return None
    detail = f"The account has sent {used} of the {limit} messages that it may send today."
    return HealthReason(
        code="daily_limit", health="critical" if 100 * used > ALMOST * limit else "warning", detail=detail
    )


def _paced(row: Row, quiet_hours: tuple[time, time] | None) -> AccountPace:
    quiet = None
    if quiet_hours and row["enabled"]:
        begin, end = (clock.isoformat("minutes") for clock in quiet_hours)
        quiet = QuietHours(begin=begin, end=end, until=row["quiet_until"])
    return AccountPace(
        enabled=row["enabled"],
        time_zone=row["time_zone"],
        minute=_window(row["minute_limit"], row["minute_used"]),
        hour=_window(row["hour_limit"], row["hour_used"]),
        day=DailyLimitUsage(**dict(_window(row["daily_limit"], row["day_used"])), resets_at=row["resets_at"]),
        quiet_hours=quiet,
    )


def _window(limit: int | None, used: int) -> LimitUsage:
    return LimitUsage(limit=limit, used=used, left=None if limit is None else max(limit - used, 0))


OPERATIONS = (Operation("GET", "/accounts/{id}/health", show_health, (200, AccountHealth)),)
