"""Messages that came in."""

from typing import Self

from starlette.requests import Request
from starlette.responses import Response

from api.auth import permit
from api.context import of
from api.fields import Moment, Number
from api.models import Shown, Time
from api.pages import Page
from api.parameters import parameters
from sql.database import Row


class Incoming(Shown):
    """A message that an account received. `phone` is null where WhatsApp shows the sender by `chat`, a name, alone."""

    id: str
    account: str
    phone: str | None
    chat: str
    text: str
    received_at: Time

    @classmethod
    def of(cls, row: Row) -> Self:
        """Make it of a row of incoming."""
        return cls.model_validate({**row, "account": row["account_id"], "received_at": row["created_at"]})


class IncomingMessages(Shown):
    """A page of received messages, newest first."""

    items: list[Incoming]
    next_cursor: str | None


class IncomingFilter(Page):
    """Which messages."""

    account: str | None = None
    phone: Number | None = None
    since: Moment | None = None
    until: Moment | None = None


async def list_incoming(request: Request) -> Response:
    """Return a page of the messages that the org's accounts received."""
    caller = await permit(request)
    wanted = parameters(request, IncomingFilter)
    rows = await of(request).database.all(
        "list_incoming",
        org=caller.org,
        account=wanted.account,
        phone=wanted.phone,
        since=wanted.since,
        until=wanted.until,
        **wanted.values(),
    )
    items = [Incoming.of(row) for row in rows[: wanted.limit]]
    return IncomingMessages(items=items, next_cursor=wanted.next_cursor(rows)).answer()
