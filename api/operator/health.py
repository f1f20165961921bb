"""Liveness and readiness of the process. Public, and without details."""

from typing import Literal

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from api.http.context import of
from api.http.models import Shown
from api.http.operations import Operation
from errors import DatabaseUnavailable, SchemaWrong
from sql import schema
from sql.database import RETRY_AFTER


class ProcessHealth(Shown):
    """That it is well; what is not is answered 503."""

    status: Literal["ok", "ready"] = Field(description="`ok` of `/healthz`, `ready` of `/readyz`.")


async def alive(_: Request) -> Response:
    """Say that the process answers."""
    return ProcessHealth(status="ok").answer()


async def ready(request: Request) -> Response:
    """Say that the database answers, and has the schema that this version needs."""
    context = of(request)
    # Shared by all probes of a second, and not limited: behind a proxy that counts as one address, others would use up
    # the limit, and the balancer would take the process for dead.
    [row] = await context.schema_state.get()
    try:
        schema.check(set(row["applied"] or ()), row["oldest_code"], context.version)
    except SchemaWrong:
        raise DatabaseUnavailable("The database is not ready.", retry_after=RETRY_AFTER[DatabaseUnavailable]) from None
    return ProcessHealth(status="ready").answer()


OPERATIONS = (
    Operation("GET", "/healthz", alive, (200, ProcessHealth), open=True),
    Operation("GET", "/readyz", ready, (200, ProcessHealth), refuses=(503,), open=True),
)
