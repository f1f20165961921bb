"""One line for each request: what was asked for, what it was answered and how long that took.

Never its path, which may hold a number, nor its query, its headers or its body.
"""

import logging

from starlette.types import Scope

log = logging.getLogger(__name__)

#: Asked for every few seconds by whoever watches: logged at DEBUG, as are mounted apps (the sandbox, static files).
QUIET = {"/healthz", "/readyz", "/metrics"}
#: Others are a client's own words.
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"}
UNKNOWN = "unknown"  # a path that no route fits, a method that HTTP does not have


def log_request(scope: Scope, status: int, seconds: float) -> None:
    """Log a request that has ended; its status is 0 when it was not answered. Key, org and id are bound."""
    method = scope["method"] if scope["method"] in METHODS else UNKNOWN
    route, ms = _route(scope), round(seconds * 1000, 1)
    log.log(
        logging.DEBUG if route in QUIET or scope.get("root_path") else logging.INFO,
        "%s %s: %d in %s ms", method, route, status, ms,
        extra={"event": "request", "method": method, "route": route, "status": status, "ms": ms},
    )  # fmt: skip


def _route(scope: Scope) -> str:
    """Return the template of the route that took it, such as /jobs/{jobId}; of a mounted app, its place alone."""
    if place := scope.get("root_path"):
        return str(place)
    route = scope.get("route")
    return route.path if route else UNKNOWN
