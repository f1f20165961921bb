"""The direct way to a handler: a path without parameters is found by its name, past all the router's patterns."""

from collections.abc import Iterable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp, ExceptionHandler, Receive, Scope, Send

from api.http.problems import problem
from api.http.request_log import QUIET
from errors import DatabaseBusy
from sql.database import RETRY_AFTER

#: Requests under way. Each has its turn before any has its next one: with thousands, a flush that needs a few turns
#: takes seconds, and all of them wait too long.
MOST_AT_ONCE = 300


class Direct:
    """ASGI middleware that answers requests to such routes itself, as the router would, and passes on all others.

    It answers MOST_AT_ONCE at a time, besides health checks and metrics, and turns further ones away (503). What the
    router costs is in docs/performance.md.
    """

    def __init__(self, app: ASGIApp, *, routes: Iterable[Route], handlers: Mapping[Any, ExceptionHandler]) -> None:
        """`handlers` are those of the app, for exceptions by their class."""
        self._app = app
        self._handlers = handlers
        self._running = 0
        self._routes = {
            (method, route.path): route for route in routes if "{" not in route.path for method in route.methods or ()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        route = None
        if scope["type"] == "http" and not scope.get("root_path"):
            route = self._routes.get((scope["method"], scope["path"]))
        if route is None:
            await self._app(scope, receive, send)
            return
        scope["route"], scope["endpoint"], scope["path_params"] = route, route.endpoint, {}
        request = Request(scope, receive, send)
        if self._running >= MOST_AT_ONCE and route.path not in QUIET:
            await problem(DatabaseBusy(retry_after=RETRY_AFTER[DatabaseBusy]))(scope, receive, send)
            return
        self._running += 1
        try:
            await self._answer(route, request, scope, receive, send)
        finally:
            self._running -= 1

    async def _answer(self, route: Route, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await route.endpoint(request)
        except Exception as error:
            handler = next((self._handlers[kind] for kind in type(error).__mro__ if kind in self._handlers), None)
            if handler is None:
                raise
            response = await handler(request, error)  # type: ignore[misc, arg-type]  # all of ours are coroutines
            # One error may be raised to many requests, and would collect the frames of all.
            error.__traceback__ = None
        await response(scope, receive, send)
