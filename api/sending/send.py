"""POST /send and POST /send/batch."""

from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from api.http.auth import authenticate, permit
from api.http.json_body import KIB, check, read
from api.http.middleware import request_id
from api.http.models import Model, Shown
from api.http.operations import Operation
from api.http.problems import ItemRefused
from api.sending.acceptance import Accepted, Answer, Order, acceptance_of
from api.sending.flush import flusher_of
from api.sending.send_request import SendRequest
from errors import IdempotencyKeyReused, QueueFull, RequestError

LARGEST_BATCH = 1000  # messages


class SendReceipt(Shown):
    """A message that was accepted."""

    status: str = Field(description="`queued`; for a repeated request, the present status of its job.")
    job_id: str = Field(description="Its idempotency key, or `job_…` if none was given.")


class SendBatch(Model):
    """Up to 1,000 messages."""

    jobs: Annotated[
        list[Any],
        Field(max_length=LARGEST_BATCH, json_schema_extra={"items": {"$ref": "#/components/schemas/SendRequest"}}),
    ] = Field(description="The messages. Each is checked separately, and the valid ones are accepted.")


class ItemAccepted(Shown):
    """A message of a batch that was accepted."""

    status: Literal[202] = Field(default=202, description="202.")
    job_id: str = Field(description="Its idempotency key, or `job_…` if none was given.")


class SendBatchResult(Shown):
    """The result for each message of a batch."""

    items: list[ItemAccepted | ItemRefused] = Field(description="One for each message, in the order of the request.")


async def send(request: Request) -> Response:
    """Accept a message to be sent.

    The job is a row in Postgres before the answer leaves. The same `idempotencyKey` with the same content is the same
    job: the answer is 202 with the job's present status and the header `idempotent-replayed: true`. With other content
    it is refused (`idempotency_key_reused`). Without a key, equal requests within `DEDUPE_SECONDS` (10) are one job.
    """
    flusher = flusher_of(request)
    caller, signature = await authenticate(request)
    flusher.admit(caller.org)
    wanted = await read(request, SendRequest)
    answer = await flusher.accept(caller.org, Order(wanted, caller.key_hash, request_id.get(), signature))
    if isinstance(answer, RequestError):
        raise answer
    receipt = SendReceipt(status=answer.status, job_id=answer.job_id)
    return receipt.answer(202, idempotent_replayed="true") if answer.replayed else receipt.answer(202)


async def send_batch(request: Request) -> Response:
    """Accept up to 1,000 messages at once.

    Each has a result of its own, as `POST /send` would answer. The accepted ones are committed together; a refused one
    does not hold back the others.
    """
    caller = await permit(request)
    batch = await read(request, SendBatch)
    checked = [_checked(item) for item in batch.jobs]
    orders = [Order(item, caller.key_hash, request_id.get()) for item in checked if isinstance(item, SendRequest)]
    answers = iter(await acceptance_of(request).accept(orders) if orders else [])
    items = [_item(next(answers) if isinstance(item, SendRequest) else item) for item in checked]
    return SendBatchResult(items=items).answer()


def _checked(item: object) -> SendRequest | RequestError:
    try:
        return check(SendRequest, item)
    except RequestError as error:
        return error


def _item(answer: Answer) -> ItemAccepted | ItemRefused:
    if isinstance(answer, Accepted):
        return ItemAccepted(job_id=answer.job_id)
    return ItemRefused.of(answer)


OPERATIONS = (
    Operation(
        "POST", "/send", send, (202, SendReceipt), takes=SendRequest, capacity=512 * KIB, leads_to="/jobs/{jobId}",
        refuses=(404,), raises=(IdempotencyKeyReused, QueueFull),
    ),
    Operation("POST", "/send/batch", send_batch, (200, SendBatchResult), takes=SendBatch, capacity=8 * KIB * KIB),
)  # fmt: skip
