"""The opt-out list: numbers that the org does not write to, since they asked for it or were entered by hand.

A job to one of them is accepted like any other, since the list may change until the job is due; it fails with
recipient_opted_out when a worker takes it.
"""

from typing import Annotated, Self

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from api.http.auth import permit
from api.http.json_body import check, read
from api.http.lists import listed
from api.http.models import Model, Nothing, Shown, Time
from api.http.operations import Operation
from api.http.pagination import Cursor, Page
from api.http.transactional import Call, retried_transaction
from api.http.validators import Number, Phone
from errors import NotFound
from sql.database import Row, Transaction
from sql.ids import new_id


class NewOptOut(Model):
    """A number for the opt-out list."""

    phone: Phone = Field(description="The number that no account of the org is to write to.")
    reason: Annotated[str, Field(min_length=1, max_length=200, pattern=r"\S")] = Field(
        default="entered by hand",
        description="Why it is on the list.",
    )


class OptOut(Shown):
    """A number on the opt-out list."""

    phone: str = Field(description="Digits only.")
    account: str | None = Field(
        description="The account that received the STOP; null if entered by hand, or if the account is long deleted."
    )
    reason: str = Field(description="The stop word that was received, or the reason that was given.")
    created_at: Time = Field(description="When it was put on the list.")

    @classmethod
    def of(cls, row: Row) -> Self:
        """Make it of a row of opt_outs."""
        return cls.model_validate({**row, "account": row["account_id"]})


class OptOutList(Shown):
    """A page of the opt-out list, newest first."""

    items: list[OptOut] = Field(description="The numbers.")
    next_cursor: Cursor | None = Field(description="`cursor` of the next page; null on the last.")


class OptOutFilter(Page):
    """Which numbers to list."""

    phone: Number | None = Field(default=None, description="Only this number.")


class _Lifted(Model):
    phone: Number


async def list_opt_outs(request: Request) -> Response:
    """List the numbers on the opt-out list, newest first."""
    caller = await permit(request)
    return await listed(request, caller, OptOutFilter, "list_opt_outs", shape=OptOutList, item=OptOut.of)


@retried_transaction(NewOptOut)
async def create_opt_out(tx: Transaction, call: Call[NewOptOut]) -> Response:
    """Put a number on the opt-out list.

    If it is on the list already, the answer is 200 with its entry.
    """
    phone, reason = call.body.phone, call.body.reason
    await tx.all("lock_opt_outs", phone=phone)
    row = await tx.one("add_opt_out", id=new_id("opt_"), phone=phone, reason=reason)
    if row:
        return OptOut.of(row).answer(201, location=f"/opt-outs/{phone}")
    [row] = await tx.all("list_opt_outs", phone=phone, **Page(limit=1).values())
    return OptOut.of(row).answer(200)


async def lift_opt_out(request: Request) -> Response:
    """Take a number off the opt-out list.

    Call it when the owner of the number agrees to be written to again. An earlier STOP does not count any more; a new
    one does.
    """
    caller = await permit(request)
    await read(request, Nothing)
    phone = check(_Lifted, {"phone": request.path_params["phone"]}).phone
    if await caller.database.one("lift_opt_out", phone=phone) is None:
        raise NotFound(f"{phone} is not on the opt-out list.")
    return Response(status_code=204)


OPERATIONS = (
    Operation("GET", "/opt-outs", list_opt_outs, (200, OptOutList), query=OptOutFilter),
    Operation(
        "POST", "/opt-outs", create_opt_out, (201, OptOut), takes=NewOptOut, leads_to="/opt-outs/{phone}", also=(200,)
    ),
    Operation("DELETE", "/opt-outs/{phone}", lift_opt_out, (204, None)),
)
