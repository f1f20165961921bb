"""Actions on an endpoint: pause, resume, disable, enable and test. `=` changes nothing.

| | enabled | paused | disabled |
|---|---|---|---|
| pause | paused | = | refused |
| resume | = | enabled | refused |
| disable | disabled | disabled | = |
| enable | = | refused | enabled |

The events of a paused endpoint wait. For a disabled one no events are kept, and its waiting deliveries fail.
"""

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from api.http.auth import permit
from api.http.json_body import read
from api.http.models import Nothing, Shown
from api.http.operations import Operation
from api.http.transactional import Call, retried_transaction
from api.webhooks.endpoint_models import Endpoint
from api.webhooks.endpoints import fail_waiting, lock, look
from errors import Conflict
from sql.database import Transaction


class TestEvent(Shown):
    """A test event and its delivery."""

    event_id: str = Field(description="The event, `evt_…`.")
    delivery_id: str = Field(description="Its delivery, `dlv_…`.")


async def pause_endpoint(request: Request) -> Response:
    """Pause an endpoint: its events wait until it is resumed.

    The answer is 409 if it is disabled.
    """
    return await _switch(request, "paused", refused_when="disabled", instead="enable it first")


async def resume_endpoint(request: Request) -> Response:
    """Resume a paused endpoint: its events are delivered again, the waiting ones first.

    The answer is 409 if it is disabled: enable it.
    """
    return await _switch(request, "enabled", refused_when="disabled", instead="enable it instead")


async def disable_endpoint(request: Request) -> Response:
    """Disable an endpoint: nothing is delivered to it, and no events are kept for it.

    Its waiting deliveries fail.
    """
    return await _switch(request, "disabled")


async def enable_endpoint(request: Request) -> Response:
    """Enable a disabled endpoint: events are delivered to it from now on.

    The answer is 409 if it is paused: resume it.
    """
    return await _switch(request, "enabled", refused_when="paused", instead="resume it instead")


async def _switch(request: Request, status: str, refused_when: str | None = None, instead: str = "") -> Response:
    caller = await permit(request)
    await read(request, Nothing)
    database = caller.database
    endpoint = request.path_params["id"]
    if status == "enabled":
        await database.transact(lambda tx: lock(tx, endpoint))  # raises NotFound for another org's
        # A delivery that still waits from before it was disabled must not be sent now.
        await fail_waiting(database, endpoint)

    async def work(tx: Transaction) -> Endpoint:
        row = await lock(tx, endpoint)
        if row["status"] == refused_when:
            raise Conflict(f"{endpoint} is {refused_when}: {instead}.")
        if row["status"] != status:
            reason = None if status == "enabled" else f"It was {status} by hand."
            await tx.all("switch_endpoint", endpoint=endpoint, status=status, reason=reason)
            if status == "enabled":
                await tx.all("reset_health", endpoint=endpoint)
        switched = Endpoint.of(await look(tx, endpoint))
        if status == "enabled":
            await tx.all("wake_own", lanes=[endpoint])
        return switched

    switched = await database.transact(work)
    if status == "disabled":
        await fail_waiting(database, endpoint)
    return switched.answer()


@retried_transaction(Nothing)
async def send_test(tx: Transaction, call: Call[Nothing]) -> Response:
    """Send a test event to an endpoint.

    It is a `WebhookTest`, sent to this endpoint alone, even if it did not ask for that type. The answer is 409 if the
    endpoint is disabled.
    """
    endpoint = call.path["id"]
    row = await lock(tx, endpoint)
    if row["status"] == "disabled":
        raise Conflict(f"{endpoint} is disabled, and no events are kept for it: enable it first.")
    trial = await tx.one("test_endpoint", endpoint=endpoint)
    await tx.all("wake_own", lanes=[endpoint])
    return TestEvent.model_validate(trial).answer(202)


OPERATIONS = (
    Operation("POST", "/webhooks/{id}/pause", pause_endpoint, (200, Endpoint), refuses=(409,)),
    Operation("POST", "/webhooks/{id}/resume", resume_endpoint, (200, Endpoint), refuses=(409,)),
    Operation("POST", "/webhooks/{id}/disable", disable_endpoint, (200, Endpoint)),
    Operation("POST", "/webhooks/{id}/enable", enable_endpoint, (200, Endpoint), refuses=(409,)),
    Operation(
        "POST", "/webhooks/{id}/test", send_test, (202, TestEvent), leads_to="/deliveries/{deliveryId}", refuses=(409,)
    ),
)
