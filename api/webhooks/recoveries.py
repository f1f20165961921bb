"""Recoveries: deliver the events of a period that an endpoint has missed."""

from typing import Literal, Self

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from api.http.auth import permit
from api.http.models import Model, Shown, Time, iso
from api.http.operations import Operation
from api.http.transactional import Call, retried_transaction
from api.http.validators import Since, Until
from errors import Conflict, FieldError, Invalid, NotFound, RequestError
from sql.database import Row, Transaction
from sql.ids import new_id

MOST_OPEN = 5  # unfinished recoveries of an endpoint: each reads all events of its period


class RecoveryRequest(Model):
    """The period of the events: from `since` until before `until`."""

    since: Since = Field(description="Beginning of the period: earlier than `until`, and than now.")
    until: Until | None = Field(default=None, description="End of the period; now unless given.")


class RecoveryStarted(Shown):
    """A recovery, which runs in the background."""

    recovery_id: str = Field(description="`rec_…`.")


class Recovery(Shown):
    """The progress of a recovery."""

    recovery_id: str = Field(description="`rec_…`.")
    state: Literal["counting", "running", "done", "stopped"] = Field(
        description="`counting`: missed events are counted, and `total` grows. `running`: they are delivered. `done`: "
        "all are delivered or on their way. `stopped`: the endpoint was disabled or deleted meanwhile.",
    )
    total: int = Field(description="Missed events that were counted so far.")
    done: int = Field(description="How many of them are delivered, or on their way.")
    since: Time = Field(description="As it was given.")
    until: Time = Field(description="As it was given.")
    created_at: Time = Field(description="When it was started.")
    ended_at: Time | None = Field(description="When it ended.")

    @classmethod
    def of(cls, row: Row) -> Self:
        """Make it of a row of recoveries."""
        return cls.model_validate({**row, "recovery_id": row["id"]})


@retried_transaction(RecoveryRequest)
async def recover(tx: Transaction, call: Call[RecoveryRequest]) -> Response:
    """Deliver the events of a period that an endpoint has missed.

    Those are the events of its present types that were neither delivered nor are on their way. It runs in the
    background. The answer is 409 if the endpoint is disabled, or if five of its recoveries are not done.
    """
    span, endpoint, recovery = call.body, call.path["id"], new_id("rec_")
    if span.until is not None and span.since >= span.until:
        raise _empty(span)
    values = {"endpoint": endpoint}
    wanted = {"id": recovery, "since": span.since, "until": span.until, "most": MOST_OPEN}
    if await tx.one("create_recovery", **wanted, **values) is None:
        raise _refusal(endpoint, span, await tx.one("endpoint_exists", **values))
    await tx.all("wake_own", lanes=[endpoint])
    location = f"/webhooks/{endpoint}/recoveries/{recovery}"
    return RecoveryStarted(recovery_id=recovery).answer(202, location=location)


async def show_recovery(request: Request) -> Response:
    """Show the progress of a recovery."""
    caller = await permit(request)
    endpoint, recovery = request.path_params["id"], request.path_params["recoveryId"]
    row = await caller.database.one("show_recovery", endpoint=endpoint, recovery=recovery)
    if row is None:
        raise NotFound(f"The webhook {endpoint} has no recovery {recovery}.")
    return Recovery.of(row).answer()


def _refusal(endpoint: str, span: RecoveryRequest, row: Row | None) -> RequestError:
    if row is None or row["status"] == "deleted":
        return NotFound(f"There is no webhook {endpoint}.")
    if row["status"] == "disabled":
        return Conflict(f"{endpoint} is disabled, and no events are kept for it: enable it first.")
    if row["recoveries"] >= MOST_OPEN:
        return Conflict(f"{MOST_OPEN} recoveries of {endpoint} are not done yet: wait for them.")
    return _empty(span)


def _empty(span: RecoveryRequest) -> Invalid:
    message = f"must be earlier than {iso(span.until) if span.until else 'now'}, not {iso(span.since)}"
    return Invalid(f"since {message}.", errors=[FieldError("since", message)])


OPERATIONS = (
    Operation(
        "POST", "/webhooks/{id}/recover", recover, (202, RecoveryStarted), takes=RecoveryRequest,
        leads_to="/webhooks/{id}/recoveries/{recoveryId}", refuses=(409,),
    ),
    Operation("GET", "/webhooks/{id}/recoveries/{recoveryId}", show_recovery, (200, Recovery)),
)  # fmt: skip
