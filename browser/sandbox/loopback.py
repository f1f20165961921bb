"""Access to the sandbox: from this machine only, and not from the page of another site in a browser on it."""

import ipaddress

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from browser.sandbox.problem import problem
from errors import Forbidden


class LoopbackOnly:
    """Refuses peers that are not loopback with 403."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403 or pass on."""
        if scope["type"] == "http" and (reason := _refusal(scope)):
            await problem(Request(scope), Forbidden(reason))(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _refusal(scope: Scope) -> str | None:
    peer = (scope.get("client") or ("", 0))[0]
    try:
        loopback = ipaddress.ip_address(peer).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        return f"The sandbox answers loopback peers only, not {peer or 'an unknown one'}."
    if Headers(scope=scope).get("sec-fetch-site") == "cross-site" and scope["method"] != "GET":
        return "The sandbox takes no orders from the pages of other sites."
    return None
