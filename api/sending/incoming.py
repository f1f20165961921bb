"""Messages that came in."""

from typing import Self

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from api.http.auth import permit
from api.http.lists import listed
from api.http.models import Shown, Time
from api.http.operations import Operation
from api.http.pagination import Cursor, Page
from api.http.validators import Number, Since, Until
from sql.database import Row


class IncomingMessage(Shown):
    """A message that an account received."""

    id: str = Field(description="`msg_…`.")
    account: str = Field(description="The account that received it.")
    phone: str | None = Field(description="The sender's number; null if WhatsApp shows only a name.")
    chat: str = Field(description="The name of the chat on WhatsApp's page.")
    text: str = Field(description="The text; empty if it has none.")
    received_at: Time = Field(description="When it was seen.")

    @classmethod
    def of(cls, row: Row) -> Self:
        """Make it of a row of incoming."""
        return cls.model_validate({**row, "account": row["account_id"], "received_at": row["created_at"]})


class IncomingMessageList(Shown):
    """A page of received messages, newest first."""

    items: list[IncomingMessage] = Field(description="The messages.")
    next_cursor: Cursor | None = Field(description="`cursor` of the next page; null on the last.")


class IncomingFilter(Page):
    """Which messages to list."""

    account: str | None = Field(default=None, description="Only those to this account.")
    phone: Number | None = Field(default=None, description="Only those from this number.")
    since: Since | None = Field(default=None, description="Only those seen from then on.")
    until: Until | None = Field(default=None, description="Only those seen before then.")


async def list_incoming(request: Request) -> Response:
    """List the messages that came in, newest first."""
    caller = await permit(request)
    return await listed(
        request,
        caller,
        IncomingFilter,
        "list_incoming",
        shape=IncomingMessageList,
        item=IncomingMessage.of,
    )


OPERATIONS = (Operation("GET", "/incoming", list_incoming, (200, IncomingMessageList), query=IncomingFilter),)
