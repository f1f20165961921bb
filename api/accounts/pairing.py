"""Pairing codes: what a person types into the phone when there is no second screen to scan a QR code from."""

import asyncio
import re
import time

from pydantic import Field
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from api.accounts.actions import steer
from api.http.auth import Caller, permit
from api.http.json_body import read
from api.http.models import Model, Shown, Time
from api.http.operations import Operation
from api.http.validators import Phone
from errors import Conflict, NotFound
from sql.database import Row, Transaction

POLL_SECONDS = 0.25  # between two reads of the account's row
PATIENCE = 30.0  # seconds until a client is told to ask again; a cold page takes 20 to 25 s to show a code


class PairingRequest(Model):
    """The number of the phone that is to be linked."""

    phone: Phone = Field(description="The number of the phone that is to be linked.")


class PairingCode(Shown):
    """The code on the account's page now."""

    code: str | None = Field(description="Such as `ABCD-EFGH`; null while there is none yet.")
    expires_at: Time | None = Field(description="When it ends.")


async def ask_pairing_code(request: Request) -> Response:
    """Ask for a code that links an account without a camera.

    The answer waits until the page shows one (200), or for 30 s (202): it is at the same path then. It is typed on the
    phone: Linked devices, Link a device, Link with phone number. An account that is linked is answered 409.
    """
    caller = await permit(request)
    given = await read(request, PairingRequest)
    account = request.path_params["id"]

    async def work(tx: Transaction) -> None:
        row = await tx.one("ask_pairing_code", account=account, phone=given.phone)
        if row is None:
            _awaited(await tx.one("show_pairing_code", account=account), account)
            raise Conflict("No code was asked for; try again.")
        await steer(tx, account, row)
        await tx.all("wake_own", lanes=[account])

    await caller.database.transact(work)
    row = await _coming(request, caller, account)
    return PairingCode.model_validate(_split(row)).answer(200 if row["code"] else 202)


async def show_pairing_code(request: Request) -> Response:
    """Show the pairing code that was asked for.

    409 when none was.
    """
    caller = await permit(request)
    account = request.path_params["id"]
    row = _awaited(await caller.database.one("show_pairing_code", account=account), account)
    return PairingCode.model_validate(_split(row)).answer()


async def _coming(request: Request, caller: Caller, account: str) -> Row:
    """Poll the account's row until it has a code, or PATIENCE is over. No connection is held between two reads."""
    end = time.monotonic() + PATIENCE
    while True:
        row = _awaited(await caller.database.one("show_pairing_code", account=account), account)
        if row["code"] or time.monotonic() > end:
            return row
        if await request.is_disconnected():
            raise ClientDisconnect
        await asyncio.sleep(POLL_SECONDS)


def _awaited(row: Row | None, account: str) -> Row:
    """Return the row of an account whose code is awaited. Raises NotFound and Conflict."""
    if row is None:
        raise NotFound(f"There is no account {account}.")
    if row["linked"]:
        raise Conflict("The account is linked; log it out before it is linked anew.")
    if row["phone"] is None or row["wanted"] != "connected":
        raise Conflict(f"No pairing code is awaited: the account is {row['state']}.")
    return row


def _split(row: Row) -> Row:
    """Write the code in two halves, as phones show it."""
    code = re.sub(r"[\s-]", "", row["code"] or "")
    return {**row, "code": f"{code[:4]}-{code[4:]}" if code else None}


OPERATIONS = (
    Operation("GET", "/accounts/{id}/pairing-code", show_pairing_code, (200, PairingCode), refuses=(409,)),
    Operation(
        "POST", "/accounts/{id}/pairing-code", ask_pairing_code, (200, PairingCode), takes=PairingRequest, also=(202,),
        refuses=(409,),
    ),
)  # fmt: skip
