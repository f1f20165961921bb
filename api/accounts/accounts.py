"""Accounts: create them, look at them, change and delete them."""

from typing import Literal, Self

from pydantic import ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from api.accounts.account_health import KEPT, Health, health_of
from api.accounts.proxies import MaybeProxies, ProxyAddresses
from api.http.auth import permit
from api.http.context import of
from api.http.json_body import read
from api.http.lists import listed
from api.http.models import Model, Nothing, Shown, Time, without_defaults
from api.http.operations import Operation
from api.http.pagination import Cursor, Page
from api.http.timezones import Zone, check_zone
from api.http.transactional import Call, retried_transaction
from api.http.validators import Name
from api.sending.jobs import cancel_queued
from crypto import Sealer
from errors import Conflict, FieldError, Invalid, NotFound
from sql.database import Database, Row, Transaction
from sql.ids import new_id

MOST = 10_000  # accounts per org


class AccountChanges(Model):
    """Changes of an account; a field that is left out stays as it is."""

    model_config = ConfigDict(json_schema_extra=without_defaults)

    name: Name = Field(default="", description="What people call it.")
    time_zone: Zone = Field(
        default="UTC",
        description="IANA name. The account's days and quiet hours are counted in it, and its browser has it. It "
        "cannot be changed once the account is linked.",
    )
    pace: Literal["on", "off"] = Field(default="on", description="Whether the limits of pace apply to it.")
    proxy: MaybeProxies = Field(default=None, description="The proxy that its browser connects through; null is none.")

    def columns(self, sealer: Sealer, account: str) -> dict[str, object]:
        """Return the parameters of create_account and change_account: None for what was not given."""
        given = self.model_fields_set
        return {
            "name": self.name if "name" in given else None,
            "zone": self.time_zone if "time_zone" in given else None,
            "pace": self.pace == "on" if "pace" in given else None,
            "with_proxy": "proxy" in given,
            "proxy": self.proxy and self.proxy.sealed(sealer, account),
            "proxy_shown": self.proxy and ProxyAddresses.of(self.proxy).model_dump_json(),
        }


class NewAccount(AccountChanges):
    """A new account, which is linked in the next step."""

    model_config = ConfigDict(json_schema_extra=None)

    name: Name = Field(description="What people call it.")
    time_zone: Zone = Field(
        default="UTC",
        description="IANA name. The account's days and quiet hours are counted in it, and its browser has it. It "
        "cannot be changed once the account is linked.",
    )
    pace: Literal["on", "off"] = Field(
        default="on", description="Whether the limits of pace apply to it; the default of a sandbox account is `off`."
    )
    transport: Literal["web", "sandbox"] = Field(
        default="web", description="`web` is WhatsApp Web; `sandbox` imitates it in development."
    )


class Account(Shown):
    """One WhatsApp account."""

    id: str = Field(description="`acc_…`.")
    name: str = Field(description="What people call it.")
    transport: Literal["web", "sandbox"] = Field(description="`web` is WhatsApp Web; `sandbox` imitates it.")
    state: str = Field(
        description="`not_started`, `starting`, `qr_pending`, `authenticated`, `ready`, `hibernated`, "
        "`disconnected`, `auth_failed`, `suspected_ban`, `banned` or `circuit_open`.",
    )
    state_reason: str | None = Field(description="Why it is in this state, and what `resume` would restore.")
    state_since: Time = Field(description="When it entered this state.")
    restriction: str | None = Field(
        description="What WhatsApp forbids it at present: `new_chats` or `monthly_cap`.",
    )
    restricted_until: Time | None = Field(description="When the restriction ends, if that is known.")
    paused: bool = Field(description="Whether it keeps its session and sends nothing.")
    time_zone: str = Field(description="IANA name.")
    pace: Literal["on", "off"] = Field(description="Whether the limits of pace apply to it.")
    proxy: ProxyAddresses | None = Field(description="The proxy that its browser connects through.")
    linked: bool = Field(description="Whether it has a login, as far as is known.")
    phone: str | None = Field(description="Its own number, once linked.")
    profile_name: str | None = Field(description="Its own name on WhatsApp, once linked.")
    platform: str | None = Field(description="The kind of phone that it is linked to.")
    connected_at: Time | None = Field(description="When its session was last linked or opened.")
    disconnected_at: Time | None = Field(description="When its session was last lost.")
    last_open_at: Time | None = Field(description="When its session was last open.")
    sent_today: int = Field(description="Messages that it sent today, in its time zone.")
    received_today: int = Field(description="Messages that it received today, in its time zone.")
    daily_limit: int | None = Field(description="Messages that it may send today; null without a limit.")
    queued: int = Field(description="Messages that wait to be sent.")
    next_send_at: Time | None = Field(
        description="When the next of them may be sent; null when none waits, or when somebody has to act first.",
    )
    worker: str | None = Field(description="The worker that has its session.")
    health: Health = Field(
        description="`warning` from 70 % of the daily limit; `critical` above 90 %, or when the account should be "
        "connected and is not.",
    )

    @classmethod
    def of(cls, row: Row) -> Self:
        """Make it of a row of list_accounts."""
        return cls.model_validate({**row, "state_reason": _reason(row), "health": health_of(row)})


def _reason(row: Row) -> str | None:
    """Return why an account is in its state, and whether `resume` would restore a kept login."""
    said: str | None = row["state_reason"]
    if not row["can_go_back"]:
        return said
    return f"{said.rstrip('.')}. {KEPT}" if said else KEPT


class AccountList(Shown):
    """A page of accounts, oldest first."""

    items: list[Account] = Field(description="The accounts.")
    next_cursor: Cursor | None = Field(description="`cursor` of the next page; null on the last.")


@retried_transaction(NewAccount)
async def create_account(tx: Transaction, call: Call[NewAccount]) -> Response:
    """Create an account.

    To link it, call `POST /accounts/{id}/connect`; then scan the code of `GET /accounts/{id}/qr` with a phone, or enter
    the code of `POST /accounts/{id}/pairing-code` there. An org may have 10,000; the answer is 409 then.
    """
    given, account = call.body, new_id("acc_")
    if given.transport == "sandbox" and call.context.production:
        message = "must not be sandbox in production"
        raise Invalid(f"transport {message}.", errors=[FieldError("transport", message)])
    (row,) = await tx.all("count_accounts")
    if row["accounts"] >= MOST:
        raise Conflict(f"There are {row['accounts']:,} accounts already, and there may be {MOST:,}: delete one first.")
    columns = given.columns(call.context.sealer, account)
    if columns["zone"]:
        await check_zone(call.context, tx, given.time_zone)
    await tx.all("create_account", id=account, transport=given.transport, **columns)
    return (await show(call.request, tx, account)).answer(201, location=f"/accounts/{account}")


async def list_accounts(request: Request) -> Response:
    """List the accounts, oldest first."""
    caller = await permit(request)
    limits = of(request).pace.wire()
    return await listed(
        request,
        caller,
        Page,
        "list_accounts",
        shape=AccountList,
        item=Account.of,
        oldest_first=True,
        account=None,
        limits=limits,
    )


async def show_account(request: Request) -> Response:
    """Show an account."""
    caller = await permit(request)
    return (await show(request, caller.database, request.path_params["id"])).answer()


@retried_transaction(AccountChanges)
async def change_account(tx: Transaction, call: Call[AccountChanges]) -> Response:
    """Change an account's name, time zone, pace or proxy.

    A field that is left out stays as it is. A new proxy is used when the session is opened next. The time zone of a
    linked account cannot be changed (409), since WhatsApp has seen its browser with it.
    """
    given, account = call.body, call.path["id"]
    columns = given.columns(call.context.sealer, account)
    row = _found(await tx.one("account_to_change", account=account), account)
    if columns["zone"] not in {None, row["time_zone"]}:
        _check_unseen(row)
        await check_zone(call.context, tx, given.time_zone)
    await tx.all("change_account", account=account, **columns)
    opened = await tx.all("open_paced_gate", lane=account) if columns["pace"] is False else []
    changed = await show(call.request, tx, account)
    await tx.all("wake_own", lanes=[row["id"] for row in opened])
    return changed.answer()


def _check_unseen(row: Row) -> None:
    """Raise Conflict when WhatsApp has seen the account's time zone, or is about to."""
    if row["linked"]:
        raise Conflict(
            f"timeZone stays {row['time_zone']}: the account is linked, and its browser keeps its time zone."
        )
    if row["open"]:
        raise Conflict(f"timeZone is {row['time_zone']} in the browser that is open now; disconnect the account first.")


async def delete_account(request: Request) -> Response:
    """Delete an account: cancel its queued messages and log it out.

    It is no longer shown from now on; a worker unlinks it from its phone as soon as possible.
    """
    caller = await permit(request)
    await read(request, Nothing)
    database = caller.database
    account = request.path_params["id"]

    async def begin(tx: Transaction) -> None:
        _found(await tx.one("log_out_account", account=account), account)
        await tx.all("close_gate", lane=account, seconds=None, reason="not_connected")

    async def end(tx: Transaction) -> Account:
        deleted = await show(request, tx, account)
        await tx.all("delete_account", account=account)
        await tx.all("attend", lane=account, seconds=0)
        await tx.all("wake_own", lanes=[account])
        return deleted

    # Before, so that an interrupted call can be repeated; and after, for what was accepted meanwhile.
    await database.transact(begin)
    await cancel_queued(database, account)
    deleted = await database.transact(end)
    await cancel_queued(database, account)
    return deleted.answer(202)


async def show(request: Request, tx: Transaction | Database, account: str) -> Account:
    """Return an account of the org. Raises NotFound."""
    limits, page = of(request).pace.wire(), Page(limit=1).values(oldest_first=True)
    row = await tx.one("list_accounts", account=account, limits=limits, **page)
    return Account.of(_found(row, account))


def _found(row: Row | None, account: str) -> Row:
    if row is None:
        raise NotFound(f"There is no account {account}.")
    return row


OPERATIONS = (
    Operation("GET", "/accounts", list_accounts, (200, AccountList), query=Page),
    Operation("POST", "/accounts", create_account, (201, Account), takes=NewAccount, refuses=(409,)),
    Operation("GET", "/accounts/{id}", show_account, (200, Account)),
    Operation("PATCH", "/accounts/{id}", change_account, (200, Account), takes=AccountChanges, refuses=(409,)),
    Operation("DELETE", "/accounts/{id}", delete_account, (202, Account)),
)
