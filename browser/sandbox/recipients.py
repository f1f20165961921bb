"""The recipients' side: what has really arrived. Every count of lost and duplicated messages relies on it."""

from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from browser.sandbox.problem import phone_digits
from browser.sandbox.sandbox import Sandbox


async def messages(request: Request) -> Response:
    """Answer the messages that a phone has received, from one account or all; without a phone, those of all phones."""
    phone = request.query_params.get("phone")
    rows = Sandbox.of(request).store.all(
        "list_messages",
        phone=phone_digits("phone", phone) if phone else None,
        account=request.query_params.get("account") or None,
    )
    items = [
        {"phone": row["phone"], "text": row["text"], "at": iso(row["received_at"]), "account": row["account"]}
        for row in rows
    ]
    return JSONResponse({"items": items})


async def sessions(request: Request) -> Response:
    """Answer each live page connection with its start and its end, oldest first; the end is null while it lasts."""
    rows = Sandbox.of(request).store.all("list_sessions", account=request.query_params.get("account") or None)
    items = [{"account": row["account"], "start": iso(row["started_at"]), "end": iso(row["ended_at"])} for row in rows]
    return JSONResponse({"items": items})


def iso(seconds: float | None) -> str | None:
    """Return unix seconds as ISO 8601 in UTC with milliseconds."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


routes = [Route("/messages", messages), Route("/sessions", sessions)]
