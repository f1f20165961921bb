"""One log line for each request: method, route, status and duration.

Never its path, which may contain a phone number, nor its query, headers or body.
"""

import logging

from starlette.types import Scope

log = logging.getLogger(__name__)

#: Polled every few seconds by monitoring: logged at DEBUG, as are mounted apps (the sandbox, static files).
QUIET = {"/healthz", "/readyz", "/metrics"}
#: Any other method is arbitrary text from the client, which is not logged.
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"}
UNKNOWN = "unknown"  # a path without a route, or a method that is not in METHODS


def log_request(scope: Scope, status: int, seconds: float) -> None:
    """Log a request that has ended; status 0 means no answer. Key, org and id are in the log context."""
    method = scope["method"] if scope["method"] in METHODS else UNKNOWN
    route, ms = _route(scope), round(seconds * 1000, 1)
    log.log(
        logging.DEBUG if route in QUIET or scope.get("root_path") else logging.INFO,
        "%s %s: %d in %s ms", method, route, status, ms,
        extra={"event": "request", "method": method, "route": route, "status": status, "ms": ms},
    )  # fmt: skip


def _route(scope: Scope) -> str:
    """Return the template of the matched route, such as /jobs/{jobId}; for a mounted app, only its prefix."""
    if place := scope.get("root_path"):
        return str(place)
    route = scope.get("route")
    return route.path if route else UNKNOWN
