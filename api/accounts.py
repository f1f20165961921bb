"""Accounts: create them, look at them, and write down what their sessions are wanted to do."""

from typing import Annotated, Literal, Self

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from api.auth import permit
from api.bodies import read
from api.context import of
from api.models import Model, Nothing, Shown, Time
from api.pages import Page
from api.parameters import parameters
from errors import FieldError, Invalid, NotFound
from sql.database import Row, Transaction
from sql.ids import new_id

AWAKE = {"ready", "hibernated"}  # states in which an account is as it should be
ON_ITS_WAY = {"not_started", "starting", "qr_pending", "authenticated"}

Health = Literal["healthy", "warning", "critical"]


class NewAccount(Model):
    """An account to be linked."""

    name: Annotated[str, Field(min_length=1, max_length=200, pattern=r"\S")]
    transport: Literal["web", "sandbox"] = "web"


class Account(Shown):
    """One WhatsApp account."""

    id: str
    name: str
    transport: Literal["web", "sandbox"]
    state: str
    state_reason: str | None
    state_since: Time
    restriction: str | None
    restricted_until: Time | None
    paused: bool
    phone: str | None
    profile_name: str | None
    platform: str | None
    connected_at: Time | None
    disconnected_at: Time | None
    last_open_at: Time | None
    sent_today: int
    received_today: int = 0
    daily_limit: int | None = None
    queued: int
    next_send_at: Time | None
    worker: str | None
    health: Health

    @classmethod
    def of(cls, row: Row) -> Self:
        """Make it of a row of list_accounts."""
        return cls.model_validate({**row, "health": _health(row["wanted"], row["state"])})


def _health(wanted: str, state: str) -> Health:
    if wanted != "connected" or state in AWAKE:
        return "healthy"
    return "warning" if state in ON_ITS_WAY else "critical"


class Accounts(Shown):
    """A page of accounts, oldest first."""

    items: list[Account]
    next_cursor: str | None


async def create_account(request: Request) -> Response:
    """Create an account; it is linked after it was connected and its QR code scanned."""
    caller = await permit(request)
    given = await read(request, NewAccount)
    context = of(request)
    if given.transport == "sandbox" and context.production:
        message = "must not be sandbox in production"
        raise Invalid(f"transport {message}.", errors=[FieldError("transport", message)])
    account = new_id("acc_")

    async def work(tx: Transaction) -> Account:
        await tx.all("create_account", id=account, org=caller.org, name=given.name, transport=given.transport)
        return await _show(tx, caller.org, account)

    return (await context.database.transact(work)).answer(201, location=f"/accounts/{account}")


async def list_accounts(request: Request) -> Response:
    """Return a page of the org's accounts."""
    caller = await permit(request)
    page = parameters(request, Page)
    rows = await of(request).database.all("list_accounts", org=caller.org, account=None, **page.values())
    items = [Account.of(row) for row in rows[: page.limit]]
    return Accounts(items=items, next_cursor=page.next_cursor(rows)).answer()


async def show_account(request: Request) -> Response:
    """Return one account."""
    caller = await permit(request)
    async with of(request).database.transaction() as tx:
        return (await _show(tx, caller.org, request.path_params["id"])).answer()


async def connect(request: Request) -> Response:
    """Want its session open, and let its messages go."""
    caller = await permit(request)
    return await _change(request, caller.org, "connect_account")


async def disconnect(request: Request) -> Response:
    """Want its session closed; its profile is kept."""
    caller = await permit(request)
    return await _change(request, caller.org, "disconnect_account")


async def pause(request: Request) -> Response:
    """Keep its session and send nothing."""
    caller = await permit(request)
    return await _change(request, caller.org, "pause_account", attend=False)


async def resume(request: Request) -> Response:
    """Let its messages go again, also after a ban or whatever else stopped them: a person has looked."""
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
            return await _show(tx, org, account)
        await _steer(tx, account, row)
        changed = await _show(tx, org, account)
        await tx.all("wake", lanes=[account])
        return changed

    return (await of(request).database.transact(work)).answer(202)


async def _steer(tx: Transaction, account: str, row: Row) -> None:
    if row["wanted"] != "connected":
        await tx.all("close_gate", lane=account, seconds=None, reason="not_connected")
    elif row["paused"]:
        await tx.all("close_gate", lane=account, seconds=None, reason="paused")
    else:
        await tx.all("open_gate", lane=account)
    await tx.all("attend", lane=account, seconds=0)


async def _show(tx: Transaction, org: str, account: str) -> Account:
    row = await tx.one("list_accounts", org=org, account=account, after_at=None, after_id="", limit=1)
    if row is None:
        raise NotFound(f"There is no account {account}.")
    return Account.of(row)
