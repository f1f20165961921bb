"""Wishes: what an account's session is wanted to do. A drain of its lane carries them out."""

from starlette.requests import Request
from starlette.responses import Response

from api.accounts.accounts import Account, show
from api.http.auth import permit
from api.http.context import of
from api.http.json_body import read
from api.http.models import Nothing
from api.http.operations import Operation
from errors import NotFound
from sql.database import Row, Transaction


async def connect(request: Request) -> Response:
    """Open an account's session, and let its messages go.

    A worker opens it. An account that is not linked then shows a QR code: its state is `qr_pending`. A login that is
    kept, since its page asked for a phone, stays so until the new one is ready.
    """
    caller = await permit(request)
    return await _change(request, caller.org, "connect_account")


async def disconnect(request: Request) -> Response:
    """Close an account's session, and keep its login."""
    caller = await permit(request)
    return await _change(request, caller.org, "disconnect_account")


async def log_out(request: Request) -> Response:
    """Unlink an account from its phone, and delete its login, also one that is kept.

    What is queued waits until it is connected again.
    """
    caller = await permit(request)
    return await _change(request, caller.org, "log_out_account")


async def pause(request: Request) -> Response:
    """Keep an account's session, and send nothing."""
    caller = await permit(request)
    return await _change(request, caller.org, "pause_account", attend=False)


async def resume(request: Request) -> Response:
    """Let an account's messages go again.

    Also after a ban, or whatever else stopped them: it says that a person has looked. Where a login is kept, since its
    page asked for a phone, it is opened again, also when the account was disconnected, and a new link that was begun
    since ends; but one whose code a phone has taken goes on while a worker loads its history.
    """
    caller = await permit(request)
    return await _change(request, caller.org, "resume_account")


async def _change(request: Request, org: str, wish: str, *, attend: bool = True) -> Response:
    """Write a wish into the account's row, set its gate by it and, with `attend`, have a drain see to its session."""
    await read(request, Nothing)
    account = request.path_params["id"]

    async def work(tx: Transaction) -> Account:
        row = await tx.one(wish, account=account, org=org)
        if row is None:
            raise NotFound(f"There is no account {account}.")
        if not attend:
            await tx.all("pause_gate", lane=account)
            return await show(request, tx, org, account)
        await steer(tx, account, row)
        changed = await show(request, tx, org, account)
        await tx.all("wake", lanes=[account])
        return changed

    return (await of(request).database.transact(work)).answer(202)


async def steer(tx: Transaction, account: str, row: Row) -> None:
    """Set the gate by the account's row (wanted, paused) and ask for a drain; the caller wakes the lane at the end."""
    if row["wanted"] != "connected":
        await tx.all("close_gate", lane=account, seconds=None, reason="not_connected")
    elif row["paused"]:
        await tx.all("close_gate", lane=account, seconds=None, reason="paused")
    else:
        await tx.all("open_gate", lane=account)
    await tx.all("attend", lane=account, seconds=0)


OPERATIONS = (
    Operation("POST", "/accounts/{id}/connect", connect, (202, Account)),
    Operation("POST", "/accounts/{id}/disconnect", disconnect, (202, Account)),
    Operation("POST", "/accounts/{id}/logout", log_out, (202, Account)),
    Operation("POST", "/accounts/{id}/pause", pause, (202, Account)),
    Operation("POST", "/accounts/{id}/resume", resume, (202, Account)),
)
