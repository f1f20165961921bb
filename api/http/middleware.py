"""Headers of every answer: x-request-id and the security headers for browsers."""

import logging
import re
import time
from contextvars import ContextVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.headers import header
from api.http.problems import internal
from api.http.request_log import log_request
from logs import bind
from sql.ids import new_id

log = logging.getLogger(__name__)

#: Id of the request that this task serves; jobs keep it.
request_id: ContextVar[str] = ContextVar("request_id", default="")

#: An incoming id that is safe to log and store unchanged.
SANE = re.compile(r"[A-Za-z0-9._:~-]{1,128}")

SECURITY = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
HSTS = {"strict-transport-security": "max-age=31536000"}


class ResponseHeaders:
    """Outermost ASGI middleware: it also answers uncaught errors, so that a 500 has the headers too.

    It logs each request with its id.
    """

    def __init__(self, app: ASGIApp, *, production: bool) -> None:
        self._app = app
        headers = SECURITY | (HSTS if production else {})
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, adding headers to its answer where it has none of its own."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = header(scope, b"x-request-id")
        name = given if SANE.fullmatch(given) else new_id("req_")
        token = request_id.set(name)
        answer = _Answer(send, [*self._headers, (b"x-request-id", name.encode())])
        began = time.perf_counter()
        with bind(request_id=name):
            try:
                await self._app(scope, receive, answer.send)
            except Exception:
                if answer.started:
                    raise
                log.exception("a request failed", extra={"event": "request.failed"})
                await internal()(scope, receive, answer.send)
            finally:
                log_request(scope, answer.status, time.perf_counter() - began)
                request_id.reset(token)


class _Answer:
    """Wraps `send` for one answer: adds the headers and remembers the status."""

    def __init__(self, send: Send, headers: list[tuple[bytes, bytes]]) -> None:
        self._send = send
        self._headers = headers
        #: 0 until the answer begins
        self.status = 0

    @property
    def started(self) -> bool:
        return self.status > 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own = {name for name, _ in message["headers"]}  # in lower case, as ASGI has them
            message["headers"] += [header for header in self._headers if header[0] not in own]
        await self._send(message)
