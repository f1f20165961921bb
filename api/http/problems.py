"""Errors as RFC 9457 problems, without internal details."""

import math
import re
from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ExceptionHandler

from api.http.models import Shown, shown
from errors import (
    DatabaseBusy,
    FieldError,
    Invalid,
    Malformed,
    MethodNotAllowed,
    NotFound,
    RequestError,
    Unauthorized,
)
from sql.database import COLLISIONS, RETRY_AFTER

MOST_ERRORS = 20  # field errors in one answer
LONGEST_NAME = 100  # characters of a field's name that are repeated


class FieldProblem(Shown):
    """A field that was not accepted, and why."""

    field: str = Field(description="Its path, such as `jobs.3.phone`; empty for the body as a whole.")
    message: str = Field(description="What is wrong with it.")


class Problem(Shown):
    """What every error answers, as application/problem+json."""

    type: str = Field(default="about:blank", description="Always `about:blank`: `code` tells more.")
    title: str = Field(description="The status in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What is wrong, in a sentence for people.")
    code: str = Field(description="What is wrong, for programs.")
    errors: list[FieldProblem] = Field(description="The fields that were not accepted, at most 20; else empty.")


def problem(error: RequestError, headers: Mapping[str, str] | None = None) -> Response:
    """Return the answer to a request that was not accepted."""
    sent = dict(headers or {})
    if error.retry_after is not None:
        sent["retry-after"] = str(math.ceil(error.retry_after))
    if isinstance(error, Unauthorized):
        sent["www-authenticate"] = "ApiKey"  # RFC 9110, 15.5.2, wants a challenge
    found = Problem(
        title=error.title, status=error.status, detail=error.detail, code=error.code, errors=field_problems(error)
    )
    return Response(found.model_dump_json(), error.status, headers=sent, media_type="application/problem+json")


def field_problems(error: RequestError) -> list[FieldProblem]:
    """Return the fields of an error as on the wire."""
    return [FieldProblem(field=item.field, message=item.message) for item in error.errors]


class ItemRefused(Shown):
    """An item of many that was not accepted."""

    status: int = Field(description="If it was refused, the HTTP status of the error: 404, 409, 422 or 429.")
    code: str = Field(description="If it was refused, the code of the error.")
    detail: str = Field(description="If it was refused, the error in a sentence for people.")
    errors: list[FieldProblem] = Field(description="The fields that were not accepted; else empty.")

    @classmethod
    def of(cls, error: RequestError) -> Self:
        """Make it from an error."""
        return cls(status=error.status, code=error.code, detail=error.detail, errors=field_problems(error))


def internal() -> Response:
    """Return the answer to an unexpected error; its details are only in the log."""
    found = Problem(
        title="Internal server error", status=500, detail="Something went wrong here.", code="internal", errors=[]
    )
    return Response(found.model_dump_json(), 500, media_type="application/problem+json")


# --- pydantic's errors -------------------------------------------------------------------------------------------

#: Our texts for kinds of errors where pydantic's own does not tell a client what to do.
RULES = {
    "missing": "is required",
    "extra_forbidden": "is not a known field",
    "model_type": "must be an object",
    "dict_type": "must be an object",
    "bool_type": "must be true or false",
    "int_parsing": "must be a whole number",
}
#: Kinds whose text is not followed by the value: there is none, or the text has it.
WITHOUT_VALUE = {"missing", "extra_forbidden", "value_error"}


def invalid(error: ValidationError) -> Invalid:
    """Turn pydantic's errors into fields as on the wire, each with a plain sentence that names the value."""
    details = error.errors(include_url=False)
    fields = [FieldError(_name(item), _sentence(item)) for item in details[:MOST_ERRORS]]
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    return Invalid(f"{fields[0].field or 'The body'} {fields[0].message}{more}.", errors=fields)


def _name(item: ErrorDetails) -> str:
    return ".".join(str(part) for part in item["loc"])[:LONGEST_NAME]


def _sentence(item: ErrorDetails) -> str:
    kind = item["type"]
    if kind == "value_error":
        return str(item["ctx"]["error"])
    rule = RULES.get(kind) or re.sub(r"^\w+ should", "must", item["msg"])
    return rule if kind in WITHOUT_VALUE else f"{rule}, not {shown(item['input'])}"


# --- handlers ----------------------------------------------------------------------------------------------------


async def _refused(_: Request, error: Exception) -> Response:
    if not isinstance(error, RequestError):
        raise error
    return problem(error)


async def _http(request: Request, error: Exception) -> Response:
    """Answer an error that Starlette itself raised."""
    if not isinstance(error, HTTPException):
        raise error
    ours: dict[int, RequestError] = {
        404: NotFound("There is nothing at this path."),
        405: MethodNotAllowed(f"This path does not take {request.method}."),
    }
    return problem(ours.get(error.status_code, Malformed(error.detail)), error.headers)


async def _collided(_: Request, __: Exception) -> Response:
    """Answer a transaction that collided with others, and was not tried again; nothing of it was committed."""
    return problem(DatabaseBusy(retry_after=RETRY_AFTER[DatabaseBusy]))


async def _gone(_: Request, __: Exception) -> Response:
    """Answer a client that disconnected while sending its body; it will not read this."""
    return problem(Malformed("The body ended too early."))


HANDLERS: dict[Any, ExceptionHandler] = {
    RequestError: _refused,
    HTTPException: _http,
    ClientDisconnect: _gone,
    **dict.fromkeys(COLLISIONS, _collided),
}
