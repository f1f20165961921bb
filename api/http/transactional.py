"""Handlers that are one transaction: who calls and what is sent are known before it begins."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, Generic, TypeVar, overload

from starlette.requests import Request
from starlette.responses import Response

from api.http.auth import permit
from api.http.context import Context, of
from api.http.json_body import read
from api.http.models import Model
from api.http.operations import Handler
from sql.database import Transaction

M = TypeVar("M", bound=Model)
B = TypeVar("B")


@dataclass(frozen=True)
class Call(Generic[B]):
    """A request of somebody who may call: the org of the key, and the body; None where none is read."""

    request: Request
    org: str
    body: B

    @property
    def context(self) -> Context:
        """What the handlers are handed."""
        return of(self.request)

    @property
    def path(self) -> dict[str, Any]:
        """The parameters of the path, by name."""
        return self.request.path_params


Work = Callable[[Transaction, Call[B]], Awaitable[Response]]


@overload
def retried_transaction(takes: None = None) -> Callable[[Work[None]], Handler]: ...
@overload
def retried_transaction(takes: type[M]) -> Callable[[Work[M]], Handler]: ...
def retried_transaction(takes: type[M] | None = None) -> Callable[[Work[Any]], Handler]:
    """Make a handler of work in one transaction, for whoever has a key, with a body of this model.

    The work is done again, in a new transaction, when it collides with somebody else's (`Database.transact`). So it may
    do nothing that a rollback does not undo.
    """

    def handler_of(work: Work[Any]) -> Handler:
        @wraps(work)
        async def handler(request: Request) -> Response:
            caller = await permit(request)
            call = Call(request, caller.org, await read(request, takes) if takes else None)
            return await of(request).database.transact(lambda tx: work(tx, call))

        return handler

    return handler_of
