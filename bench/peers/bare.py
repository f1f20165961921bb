"""The ceiling: our server and framework, which read a message and keep nothing."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


async def _send(request: Request) -> Response:
    order = await request.json()
    return JSONResponse({"status": "queued", "jobId": order.get("idempotencyKey", "none")}, 202)


def make() -> Starlette:
    """Return the app."""
    return Starlette(routes=[Route("/send", _send, methods=["POST"])])
