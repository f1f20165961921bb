"""Recoveries: bring an endpoint every event of a time that it wants and has not received."""

from typing import Literal, Self

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from api.http.auth import permit
from api.http.context import of
from api.http.models import Model, Shown, Time, iso
from api.http.operations import Operation
from api.http.transactional import Call, retried_transaction
from api.http.validators import Since, Until
from errors import Conflict, FieldError, Invalid, NotFound, RequestError
from sql.database import Row, Transaction
from sql.ids import new_id

MOST_OPEN = 5  # recoveries of an endpoint: each goes through all events of its time


class RecoveryRequest(Model):
    """Events that happened from `since` on and before `until`, which is now unless it is given."""

    since: Since = Field(description="Events that happened from then on: earlier than `until`, and than now.")
    until: Until | None = Field(default=None, description="And before then; now unless given.")


class RecoveryStarted(Shown):
    """A recovery that goes on in the background."""

    recovery_id: str = Field(description="`rec_…`.")


class Recovery(Shown):
    """How far a recovery is."""

    recovery_id: str = Field(description="`rec_…`.")
    state: Literal["counting", "running", "done", "stopped"] = Field(
        description="`counting`: what is missing is looked for, and `total` grows. `running`: of these, `done` are "
        "delivered or on their way. `done`: all are. `stopped`: the endpoint was disabled or deleted meanwhile.",
    )
    total: int = Field(description="Events that are missing, as far as they were looked for.")
    done: int = Field(description="How many of them are delivered, or on their way.")
    since: Time = Field(description="As it was given.")
    until: Time = Field(description="As it was given.")
    created_at: Time = Field(description="When it was asked for.")
    ended_at: Time | None = Field(description="When it ended.")

    @classmethod
    def of(cls, row: Row) -> Self:
        """Make it of a row of recoveries."""
        return cls.model_validate({**row, "recovery_id": row["id"]})


@retried_transaction(RecoveryRequest)
async def recover(tx: Transaction, call: Call[RecoveryRequest]) -> Response:
    """Bring an endpoint what it has not received of a time.

    Every event of that time that it wants now and has neither received nor on its way is delivered, in the background.
    409 while the endpoint is disabled, or five of its recoveries are not done.
    """
    span, endpoint, recovery = call.body, call.path["id"], new_id("rec_")
    if span.until is not None and span.since >= span.until:
        raise _empty(span)
    values = {"org": call.org, "endpoint": endpoint}
    wanted = {"id": recovery, "since": span.since, "until": span.until, "most": MOST_OPEN}
    if await tx.one("create_recovery", **wanted, **values) is None:
        raise _refusal(endpoint, span, await tx.one("endpoint_exists", **values))
    await tx.all("wake", lanes=[endpoint])
    location = f"/webhooks/{endpoint}/recoveries/{recovery}"
    return RecoveryStarted(recovery_id=recovery).answer(202, location=location)


async def show_recovery(request: Request) -> Response:
    """Show how far a recovery is."""
    caller = await permit(request)
    endpoint, recovery = request.path_params["id"], request.path_params["recoveryId"]
    row = await of(request).database.one("show_recovery", org=caller.org, endpoint=endpoint, recovery=recovery)
    if row is None:
        raise NotFound(f"The webhook {endpoint} has no recovery {recovery}.")
    return Recovery.of(row).answer()


def _refusal(endpoint: str, span: RecoveryRequest, row: Row | None) -> RequestError:
    if row is None or row["status"] == "deleted":
        return NotFound(f"There is no webhook {endpoint}.")
    if row["status"] == "disabled":
        return Conflict(f"{endpoint} is disabled, and would keep nothing: enable it first.")
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
