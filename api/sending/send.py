"""POST /send and POST /send/batch."""

from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from api.http.auth import permit
from api.http.context import of
from api.http.json_body import KIB, check, read
from api.http.models import Model, Shown
from api.http.operations import Operation
from api.http.problems import FieldProblem, field_problems
from api.sending.enqueue import Accepted, Answer, accept
from api.sending.requests import Order
from errors import IdempotencyKeyReused, QueueFull, RequestError

LARGEST_BATCH = 1000  # orders


class Receipt(Shown):
    """A message that was accepted."""

    status: str = Field(description="`queued`; of a job that was there already, its present status.")
    job_id: str = Field(description="Its idempotency key, or `job_…` where none was given.")


class Batch(Model):
    """Many messages at once."""

    jobs: Annotated[
        list[Any], Field(max_length=LARGEST_BATCH, json_schema_extra={"items": {"$ref": "#/components/schemas/Order"}})
    ] = Field(description="The messages; each is checked by itself, so that the valid ones are accepted.")


class Taken(Shown):
    """A message of a batch that was accepted."""

    status: Literal[202] = Field(default=202, description="202.")
    job_id: str = Field(description="Its idempotency key, or `job_…` where none was given.")


class Refused(Shown):
    """A message of a batch that was not accepted."""

    status: int = Field(description="Of one that was refused, what `POST /send` would have answered: 404, 422 or 429.")
    code: str = Field(description="Of one that was refused, the code of the error.")
    detail: str = Field(description="The same in a sentence, for people.")
    errors: list[FieldProblem] = Field(description="The fields that were not accepted; else empty.")


class Items(Shown):
    """What became of each message of a batch."""

    items: list[Taken | Refused] = Field(description="One for each message, in their order.")


async def send(request: Request) -> Response:
    """Accept a message to be sent.

    It is a row in Postgres before the answer leaves. The same `idempotencyKey` with the same content is the same job:
    it is answered 202 with the job's present status and the header `idempotent-replayed: true`; with other content it
    is refused (`idempotency_key_reused`). Without a key, equal requests within `DEDUPE_SECONDS` (10) are one job.
    """
    caller = await permit(request)
    order = await read(request, Order)
    [answer] = await accept(of(request), caller.org, [order])
    if isinstance(answer, RequestError):
        raise answer
    receipt = Receipt(status=answer.status, job_id=answer.job_id)
    return receipt.answer(202, idempotent_replayed="true") if answer.replayed else receipt.answer(202)


async def send_batch(request: Request) -> Response:
    """Accept up to 1,000 messages at once.

    Each is answered for itself, as `POST /send` would. Those that are accepted are committed together, and one that is
    refused keeps back no other.
    """
    caller = await permit(request)
    batch = await read(request, Batch)
    checked = [_checked(item) for item in batch.jobs]
    answers = iter(await accept(of(request), caller.org, [order for order in checked if isinstance(order, Order)]))
    return Items(items=[_item(next(answers) if isinstance(order, Order) else order) for order in checked]).answer()


def _checked(item: object) -> Order | RequestError:
    try:
        return check(Order, item)
    except RequestError as error:
        return error


def _item(answer: Answer) -> Taken | Refused:
    if isinstance(answer, Accepted):
        return Taken(job_id=answer.job_id)
    return Refused(status=answer.status, code=answer.code, detail=answer.detail, errors=field_problems(answer))


OPERATIONS = (
    Operation(
        "POST", "/send", send, (202, Receipt), takes=Order, raises=(IdempotencyKeyReused, QueueFull), refuses=(404,),
        capacity=512 * KIB,
    ),
    Operation("POST", "/send/batch", send_batch, (200, Items), takes=Batch, capacity=8 * KIB * KIB),
)  # fmt: skip
