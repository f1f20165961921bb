"""Operations: each resource lists its own, one a line; routes and /openapi.json are made from them."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.http.json_body import CAPACITY, limit
from api.http.models import Model, Nothing, Shown
from api.http.query_params import parameters
from errors import Malformed, RequestError

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Operation:
    """A method of a path, with its request and its answer.

    /openapi.json is made from it. The first line of the handler's docstring is its summary, the rest its description.
    """

    method: str
    path: str
    handler: Handler
    #: status and body of success
    gives: tuple[int, type[Shown] | None]
    takes: type[Model] = Nothing
    query: type[Model] = Nothing
    #: path of the object in the answer, for links; its parameters are fields of the answer or of this path.
    #: By default it is this path and the answer's `id`
    leads_to: str | None = None
    #: statuses of error, besides those that follow from the rest
    refuses: tuple[int, ...] = ()
    #: errors whose code is not the usual one of their status
    raises: tuple[type[RequestError], ...] = ()
    #: other statuses of success, with the same body
    also: tuple[int, ...] = ()
    #: media types of the answer besides JSON
    forms: tuple[str, ...] = ()
    #: media types of the body besides JSON, with the same fields
    bodies: tuple[str, ...] = ()
    #: largest body, in bytes
    capacity: int = CAPACITY
    #: whether it needs no key
    open: bool = False
    #: whether it needs ADMIN_KEY in place of a key
    admin: bool = False


def routes(operations: Iterable[Operation]) -> list[Route]:
    """Return a route for each path, so that a 405 names all its methods. Operations of a path must be adjacent."""
    by_path = groupby(operations, attrgetter("path"))
    return [_route(path, {operation.method: operation for operation in some}) for path, some in by_path]


def _route(path: str, operations: Mapping[str, Operation]) -> Route:
    async def endpoint(request: Request) -> Response:
        operation = operations["GET" if request.method == "HEAD" else request.method]
        limit(request, operation.capacity)
        query = request.scope["query_string"]
        if "\x00" in request.scope["path"] or b"%00" in query:
            raise Malformed("The address contains a NUL character.")
        if query and operation.query is Nothing:
            parameters(request, Nothing)
        return await operation.handler(request)

    return Route(path, endpoint, methods=list(operations))
