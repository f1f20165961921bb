"""Accounts: create them, look at them, change and delete them."""

from typing import Annotated, Literal, Self

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from api.auth import permit
from api.bodies import read
from api.context import of
from api.jobs import cancel_queued
from api.models import Model, Nothing, Shown, Time
from api.pace import Health, health_of
from api.pages import Page
from api.parameters import parameters
from api.proxies import MaybeProxies, ShownProxies
from api.zones import Zone, check_zone
from crypto import Sealer
from errors import Conflict, FieldError, Invalid, NotFound
from sql.database import Row, Transaction
from sql.ids import new_id

Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"\S")]


class Choices(Model):
    """What may be changed of an account; what is left out stays as it is, or as the account's transport has it."""

    name: Name = ""
    time_zone: Zone = "UTC"
    pace: Literal["on", "off"] = "on"
    proxy: MaybeProxies = None

    def columns(self, sealer: Sealer, account: str) -> dict[str, object]:
        """Return the parameters of create_account and change_account: None for what was not given."""
        given = self.model_fields_set
        return {
            "name": self.name if "name" in given else None,
            "zone": self.time_zone if "time_zone" in given else None,
            "pace": self.pace == "on" if "pace" in given else None,
            "with_proxy": "proxy" in given,
            "proxy": self.proxy and self.proxy.sealed(sealer, account),
            "proxy_shown": self.proxy and ShownProxies.of(self.proxy).model_dump_json(),
        }


class NewAccount(Choices):
    """An account to be linked."""

    name: Name
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
    time_zone: str
    pace: Literal["on", "off"]
    proxy: ShownProxies | None
    linked: bool
    phone: str | None
    profile_name: str | None
    platform: str | None
    connected_at: Time | None
    disconnected_at: Time | None
    last_open_at: Time | None
    sent_today: int
    received_today: int
    daily_limit: int | None
    queued: int
    next_send_at: Time | None
    worker: str | None
    health: Health

    @classmethod
    def of(cls, row: Row) -> Self:
        """Make it of a row of list_accounts."""
        return cls.model_validate({**row, "health": health_of(row)})


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
    columns = given.columns(context.sealer, account)

    async def work(tx: Transaction) -> Account:
        if columns["zone"]:
            await check_zone(tx, given.time_zone)
        await tx.all("create_account", id=account, org=caller.org, transport=given.transport, **columns)
        return await show(request, tx, caller.org, account)

    return (await context.database.transact(work)).answer(201, location=f"/accounts/{account}")


async def list_accounts(request: Request) -> Response:
    """Return a page of the org's accounts."""
    caller = await permit(request)
    page = parameters(request, Page)
    context = of(request)
    rows = await context.database.all(
        "list_accounts", org=caller.org, account=None, limits=context.pace.wire(), **page.values()
    )
    items = [Account.of(row) for row in rows[: page.limit]]
    return Accounts(items=items, next_cursor=page.next_cursor(rows)).answer()


async def show_account(request: Request) -> Response:
    """Return one account."""
    caller = await permit(request)
    async with of(request).database.transaction() as tx:
        return (await show(request, tx, caller.org, request.path_params["id"])).answer()


async def change_account(request: Request) -> Response:
    """Change its name, time zone, pace or proxy.

    A proxy is used from the next opening of its session on. A time zone stays once the account is linked: WhatsApp has
    seen its browser with it.
    """
    caller = await permit(request)
    given = await read(request, Choices)
    context = of(request)
    account = request.path_params["id"]
    columns = given.columns(context.sealer, account)

    async def work(tx: Transaction) -> Account:
        row = _found(await tx.one("account_to_change", account=account, org=caller.org), account)
        if columns["zone"] not in {None, row["time_zone"]}:
            _check_unseen(row)
            await check_zone(tx, given.time_zone)
        await tx.all("change_account", account=account, **columns)
        opened = await tx.all("open_paced_gate", lane=account) if columns["pace"] is False else []
        changed = await show(request, tx, caller.org, account)
        await tx.all("wake", lanes=[row["id"] for row in opened])
        return changed

    return (await context.database.transact(work)).answer()


def _check_unseen(row: Row) -> None:
    """Raise Conflict when WhatsApp has seen the account's time zone, or is about to."""
    if row["linked"]:
        raise Conflict(
            f"timeZone stays {row['time_zone']}: the account is linked, and its browser keeps its time zone."
        )
    if row["open"]:
        raise Conflict(f"timeZone is {row['time_zone']} in the browser that is open now; disconnect the account first.")


async def delete_account(request: Request) -> Response:
    """Cancel what it has queued, unlink it from its phone, delete its profile, and show it no more.

    The account is gone at once; a worker logs it out as soon as one can.
    """
    caller = await permit(request)
    await read(request, Nothing)
    database = of(request).database
    account = request.path_params["id"]

    async def begin(tx: Transaction) -> None:
        _found(await tx.one("log_out_account", account=account, org=caller.org), account)
        await tx.all("close_gate", lane=account, seconds=None, reason="not_connected")

    async def end(tx: Transaction) -> Account:
        deleted = await show(request, tx, caller.org, account)
        await tx.all("delete_account", account=account)
        await tx.all("attend", lane=account, seconds=0)
        await tx.all("wake", lanes=[account])
        return deleted

    # Cancelled before it is gone, so that whoever is interrupted can ask again; and after, for what came in meanwhile.
    await database.transact(begin)
    await cancel_queued(database, caller.org, account)
    deleted = await database.transact(end)
    await cancel_queued(database, caller.org, account)
    return deleted.answer(202)


async def show(request: Request, tx: Transaction, org: str, account: str) -> Account:
    """Return an account of the org. Raises NotFound."""
    limits = of(request).pace.wire()
    row = await tx.one("list_accounts", org=org, account=account, after_at=None, after_id="", limit=1, limits=limits)
    return Account.of(_found(row, account))


def _found(row: Row | None, account: str) -> Row:
    if row is None:
        raise NotFound(f"There is no account {account}.")
    return row
