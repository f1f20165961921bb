"""The first steps after `postrider up`: a first account, a `curl` line that works, codes to scan.

It runs beside the service. If it fails, it prints why, and the service goes on.
"""

import asyncio
import json
import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field

from commands.client import Client, Json, draw
from commands.output import tell
from errors import OperatorError
from settings import Settings
from wiring import shared

log = logging.getLogger(__name__)

READY = 60.0  # seconds for the API to start, and for each step of linking
POLL_SECONDS = 1.0  # between looks at the accounts
FIRST = "First"  # the name of the first account


async def welcome(settings: Settings) -> None:
    """Link a first account, print how to begin, and print the codes of waiting accounts, until cancelled."""
    key = settings.api_key.get_secret_value() if settings.api_key else ""
    try:
        async with Client(shared.sandbox_url(settings).removesuffix("/sandbox"), key) as client:
            await _wait_up(client)
            greeting = Greeting(client, key)
            async with asyncio.TaskGroup() as group:
                group.create_task(greeting.greet())
                group.create_task(greeting.show_codes())
    except Exception:
        log.exception(
            "the first steps and the codes cannot be shown; everything else goes on", extra={"event": "greeting.failed"}
        )


async def _wait_up(client: Client) -> None:
    while True:
        try:
            return await client.wait_up(READY)
        except OperatorError as error:
            tell(f"{error.detail} Still waiting; the reason is in the lines above.")


@dataclass
class Greeting:
    """Prints the first steps and the codes, from what the API answers."""

    client: Client
    key: str
    #: the account that this process links, whose codes it shows itself
    _ours: str | None = None
    #: the last code that was shown, by account
    _shown: dict[str, str] = field(default_factory=dict)

    async def greet(self) -> None:
        """Link a first account, unless there is one, and print how to send a message."""
        accounts: list[Json] = []
        try:
            accounts = (await self.client.get("/accounts"))["items"]
            linked = [each["id"] for each in accounts if each["phone"]]
            self._ours = linked[0] if linked else None
            if not linked:
                await self._link(accounts)
        except OperatorError as error:
            tell(f"The first account is not linked yet: {error.detail} {_next(self._ours)}")
        account, self._ours = self._ours, None
        alone = all(each["id"] == account for each in accounts)
        _banner(self.client.url, self.key, None if alone else account)

    async def _link(self, accounts: list[Json]) -> None:
        unlinked = [each for each in accounts if (each["transport"], each["name"]) == ("sandbox", FIRST)]
        new = {"name": FIRST, "transport": "sandbox"}
        first = unlinked[0] if unlinked else await self.client.post("/accounts", new)
        account = self._ours = str(first["id"])
        path = f"/accounts/{account}"
        await self.client.post(f"{path}/connect")
        await self._waits_for_a_scan(path, first["stateReason"])
        qr = await self.client.qr(account, READY)
        tell(f"A first sandbox account was made. The sandbox's phone scans its code:\n{draw(qr)}")
        await self.client.scan(account)
        await self.client.wait(path, "state", {"ready"}, READY)

    async def _waits_for_a_scan(self, path: str, before: str | None) -> None:
        """Wait until the account shows a code. Raises OperatorError with the reason if it stopped."""
        end = time.monotonic() + READY
        while (seen := await self.client.get(path))["state"] != "qr_pending":
            reason = seen["stateReason"]
            stands = seen["state"] in {"not_started", "disconnected"} and reason not in {None, before}
            if stands or time.monotonic() > end:
                raise OperatorError(f"it is {seen['state']}. {reason or ''}".rstrip())
            await asyncio.sleep(POLL_SECONDS)

    async def show_codes(self) -> None:
        """Show the QR code of each account that waits for a scan, as it changes."""
        while True:
            with suppress(OperatorError):
                for account in (await self.client.get("/accounts"))["items"]:
                    if account["state"] == "qr_pending" and account["id"] != self._ours:
                        await self._show_code(account)
            await asyncio.sleep(POLL_SECONDS)

    async def _show_code(self, account: Json) -> None:
        qr = (await self.client.get(f"/accounts/{account['id']}/qr"))["qr"]
        if self._shown.get(account["id"]) != qr:
            self._shown[account["id"]] = qr
            tell(_scan_me(self.client.url, account, qr))


def _next(account: str | None) -> str:
    if account is None:
        return "Everything else works; POST /accounts makes one."
    return f"Everything else works; its code will be shown here, and GET /accounts/{account} says more."


def _banner(url: str, key: str, account: str | None) -> None:
    body = {"phone": "15551234567", "message": "Hello from Postrider"} | ({"account": account} if account else {})
    tell(
        f"""
Postrider is up.

  API      {url}
  key      {key}
  phone    {url}/sandbox/   (the sandbox's phone: scan, ban, incoming messages)

Send a first message:

  curl -s {url}/send -H 'x-api-key: {key}' -H 'content-type: application/json' -d '{json.dumps(body)}'

and see what became of it, with the jobId of the answer:

  curl -s {url}/jobs/JOB_ID -H 'x-api-key: {key}'

Ctrl-C stops it; accepted messages stay in Postgres.
"""
    )


def _scan_me(url: str, account: Json, qr: str) -> str:
    how = (
        f"curl -s -X POST {url}/sandbox/accounts/{account['id']}/scan, or click on {url}/sandbox/"
        if account["transport"] == "sandbox"
        else "WhatsApp on your phone: Settings, Linked devices, Link a device"
    )
    return f"Account {account['id']} ({account['name']}) waits for a scan: {how}\n{draw(qr)}"
