"""Calls of the operator: stop all sending, and start it again."""

import logging
from typing import Annotated

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from api.http.auth import permit_admin
from api.http.context import of
from api.http.json_body import read
from api.http.models import Model, Shown, Time
from api.http.operations import Operation

log = logging.getLogger(__name__)


class PauseRequest(Model):
    """Why it is done."""

    reason: Annotated[str, Field(min_length=1, max_length=500)] | None = Field(
        default=None,
        description="Why; it goes to the log.",
    )


class PauseState(Shown):
    """Whether all sending is stopped, and since when."""

    paused: bool = Field(description="Whether all sending is stopped.")
    since: Time | None = Field(description="Since when.")


async def pause_all(request: Request) -> Response:
    """Stop all sending, of every account.

    What is queued waits; a message whose Enter is pressed is still settled.
    """
    await permit_admin(request)
    why = await read(request, PauseRequest)
    (row,) = await of(request).database.all("stop_all")
    reason = why.reason or "no reason was given"
    log.warning("all sending is stopped: %s", reason, extra={"event": "sending.stopped", "reason": reason})
    return PauseState(paused=True, since=row["since"]).answer()


async def resume_all(request: Request) -> Response:
    """Let all accounts send again that are not paused themselves."""
    await permit_admin(request)
    why = await read(request, PauseRequest)
    await of(request).database.all("start_all")
    reason = why.reason or "no reason was given"
    log.warning("all sending goes on: %s", reason, extra={"event": "sending.resumed", "reason": reason})
    return PauseState(paused=False, since=None).answer()


OPERATIONS = (
    Operation("POST", "/admin/pause", pause_all, (200, PauseState), takes=PauseRequest, admin=True),
    Operation("POST", "/admin/resume", resume_all, (200, PauseState), takes=PauseRequest, admin=True),
)
