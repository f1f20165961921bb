"""Handlers that are one transaction: the caller and the body are checked before it begins."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, Generic, TypeVar, overload

from starlette.requests import Request
from starlette.responses import Response

from api.http.auth import Caller, permit
from api.http.context import Context, of
from api.http.json_body import read
from api.http.models import Model
from api.http.operations import Handler
from sql.database import Transaction

M = TypeVar("M", bound=Model)
B = TypeVar("B")


@dataclass(frozen=True)
class Call(Generic[B]):
    """An authenticated request: who calls, and its body, None for handlers that take none."""

    request: Request
    caller: Caller
    body: B

    @property
    def context(self) -> Context:
        """The context of the app."""
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
    """Make a handler that authenticates by key, reads a body of this model and runs in one transaction.

    After a deadlock or a serialization failure the work runs again, in a new transaction (`Database.transact`). So it
    must have no effects that a rollback does not undo.
    """

    def handler_of(work: Work[Any]) -> Handler:
        @wraps(work)
        async def handler(request: Request) -> Response:
            caller = await permit(request)
            call = Call(request, caller, await read(request, takes) if takes else None)
            return await caller.database.transact(lambda tx: work(tx, call))

        return handler

    return handler_of
