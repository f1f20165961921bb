"""Desired state of an account's session, as clients set it. A drain of its lane carries it out."""

from starlette.responses import Response

from api.accounts.accounts import Account, show
from api.http.models import Nothing
from api.http.operations import Operation
from api.http.transactional import Call, retried_transaction
from errors import NotFound
from sql.database import Row, Transaction


@retried_transaction(Nothing)
async def connect(tx: Transaction, call: Call[Nothing]) -> Response:
    """Open an account's session, and let its messages go.

    A worker opens it. An account that is not linked then shows a QR code: its state is `qr_pending`. A login that is
    kept, since its page asked for a phone, stays so until the new one is ready.
    """
    return await _change(tx, call, "connect_account")


@retried_transaction(Nothing)
async def disconnect(tx: Transaction, call: Call[Nothing]) -> Response:
    """Close an account's session, and keep its login."""
    return await _change(tx, call, "disconnect_account")


@retried_transaction(Nothing)
async def log_out(tx: Transaction, call: Call[Nothing]) -> Response:
    """Unlink an account from its phone, and delete its login, also one that is kept.

    What is queued waits until it is connected again.
    """
    return await _change(tx, call, "log_out_account")


@retried_transaction(Nothing)
async def pause(tx: Transaction, call: Call[Nothing]) -> Response:
    """Keep an account's session, and send nothing."""
    return await _change(tx, call, "pause_account", attend=False)


@retried_transaction(Nothing)
async def resume(tx: Transaction, call: Call[Nothing]) -> Response:
    """Let an account's messages go again.

    Also after a ban, or whatever else stopped them: it says that a person has looked. Where a login is kept, since its
    page asked for a phone, it is opened again, also when the account was disconnected, and a new link that was begun
    since ends; but one whose code a phone has taken goes on while a worker loads its history.
    """
    return await _change(tx, call, "resume_account")


async def _change(tx: Transaction, call: Call[Nothing], wish: str, *, attend: bool = True) -> Response:
    """Run the query `wish` on the account's row, set its gate and, with `attend`, ask for a drain of its lane."""
    account = call.path["id"]
    row = await tx.one(wish, account=account)
    if row is None:
        raise NotFound(f"There is no account {account}.")
    if attend:
        await steer(tx, account, row)
    else:
        await tx.all("pause_gate", lane=account)
    changed = await show(call.request, tx, account)
    if attend:
        await tx.all("wake_own", lanes=[account])
    return changed.answer(202)


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
