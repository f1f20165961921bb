"""POST /send and POST /send/batch."""

from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from api.acceptance import Accepted, Answer, accept
from api.auth import permit
from api.bodies import check, read
from api.context import of
from api.models import Model, Shown
from api.orders import Order
from api.problems import FieldProblem, field_problems
from errors import RequestError

LARGEST_BATCH = 1000  # orders


class Receipt(Shown):
    """An order that was accepted; `jobId` is its idempotency key, or the job's own id."""

    status: str
    job_id: str


class Batch(Model):
    """Many orders. Each is checked by itself, so that the valid ones of a batch are accepted."""

    jobs: Annotated[
        list[Any], Field(max_length=LARGEST_BATCH, json_schema_extra={"items": {"$ref": "#/components/schemas/Order"}})
    ]


class Taken(Shown):
    """An order of a batch that was accepted."""

    status: Literal[202] = 202
    job_id: str


class Refused(Shown):
    """An order of a batch that was not accepted."""

    status: int
    code: str
    detail: str
    errors: list[FieldProblem]


class Items(Shown):
    """What became of each order of a batch, in their order."""

    items: list[Taken | Refused]


async def send(request: Request) -> Response:
    """Accept one order."""
    caller = await permit(request)
    order = await read(request, Order)
    [answer] = await accept(of(request), caller.org, [order])
    if isinstance(answer, RequestError):
        raise answer
    receipt = Receipt(status=answer.status, job_id=answer.job_id)
    return receipt.answer(202, idempotent_replayed="true") if answer.replayed else receipt.answer(202)


async def send_batch(request: Request) -> Response:
    """Accept the valid ones of many orders."""
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
