"""Replays: send ended deliveries again, at once and with as many attempts as a new delivery has."""

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field
from starlette.responses import Response

from api.http.models import Model, Nothing, Shown
from api.http.operations import Operation
from api.http.problems import ItemRefused
from api.http.transactional import Call, retried_transaction
from api.webhooks.deliveries import Delivery
from errors import Conflict, NotFound, RequestError
from sql.database import Row, Transaction

LARGEST_SELECTION = 1000  # deliveries


class ReplayRequest(Model):
    """Deliveries of one endpoint."""

    deliveries: Annotated[
        list[Annotated[str, Field(max_length=100)]], Field(min_length=1, max_length=LARGEST_SELECTION)
    ] = Field(description="Their ids, `dlv_…`.")


class ReplayedDelivery(Shown):
    """A delivery that is sent again."""

    status: Literal[202] = Field(default=202, description="202.")
    delivery_id: str = Field(description="Its id.")


class ReplayResult(Shown):
    """What became of each delivery of a selection."""

    items: list[ReplayedDelivery | ItemRefused] = Field(description="One for each, in their order.")


@retried_transaction(Nothing)
async def replay_delivery(tx: Transaction, call: Call[Nothing]) -> Response:
    """Send a delivery again.

    At once, and with as many attempts as a new one. One that is on its way, whose endpoint is disabled or deleted, or
    whose event is past its retention is answered 409.
    """
    delivery = call.path["id"]
    replayed = await _replay(tx, [delivery])
    row = await tx.one("show_deliveries", endpoint=None, deliveries=[delivery])
    if row is None or delivery not in replayed:
        raise _refusal(delivery, row)
    return Delivery.of(row).answer(202)


@retried_transaction(ReplayRequest)
async def replay_selection(tx: Transaction, call: Call[ReplayRequest]) -> Response:
    """Send many of an endpoint's deliveries again.

    Each is answered for itself, as `POST /deliveries/{id}/replay` would.
    """
    wanted, endpoint = call.body.deliveries, call.path["id"]
    if await tx.one("endpoint_exists", endpoint=endpoint) is None:
        raise NotFound(f"There is no webhook {endpoint}.")
    replayed = await _replay(tx, wanted, endpoint)
    others = [delivery for delivery in wanted if delivery not in replayed]
    rows = await tx.all("show_deliveries", endpoint=endpoint, deliveries=others)
    found = {row["id"]: row for row in rows}
    items = [
        ReplayedDelivery(delivery_id=delivery)
        if delivery in replayed
        else ItemRefused.of(_refusal(delivery, found.get(delivery)))
        for delivery in wanted
    ]
    return ReplayResult(items=items).answer()


async def _replay(tx: Transaction, deliveries: Iterable[str], endpoint: str | None = None) -> set[str]:
    """Replay the deliveries that can be replayed, and return their ids."""
    rows = await tx.all("replay_deliveries", endpoint=endpoint, deliveries=list(deliveries))
    await tx.all("wake_own", lanes=sorted({row["lane"] for row in rows}))
    return {row["id"] for row in rows}


def _refusal(delivery: str, row: Row | None) -> RequestError:
    if row is None:
        return NotFound(f"There is no delivery {delivery}.")
    if row["state"] in {"pending", "sending"}:
        return Conflict(f"{delivery} is {row['state']}: it is on its way already.")
    if row["endpoint_status"] in {"disabled", "deleted"}:
        remedy = ": enable it first" if row["endpoint_status"] == "disabled" else ""
        return Conflict(f"The webhook {row['endpoint_id']} of {delivery} is {row['endpoint_status']}{remedy}.")
    return Conflict(f"The event {row['event_id']} of {delivery} is past its retention and was deleted.")


OPERATIONS = (
    Operation("POST", "/webhooks/{id}/replay", replay_selection, (200, ReplayResult), takes=ReplayRequest),
    Operation("POST", "/deliveries/{id}/replay", replay_delivery, (202, Delivery), refuses=(409,)),
)
