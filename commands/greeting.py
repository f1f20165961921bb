"""What `postrider up` does for whoever has started it: a first account, a `curl` line that works, codes to scan.

It is a courtesy beside the service: whatever it cannot do, it says, and the service goes on.
"""

import asyncio
import json
import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field

from commands.client import Client, Json, draw
from commands.tell import tell
from errors import OperatorError
from settings import Settings
from wiring import parts

log = logging.getLogger(__name__)

READY = 60.0  # seconds for the API to come up, and for each step of linking
LOOK = 1.0  # seconds between looks at accounts
FIRST = "First"  # the name of the first account


async def welcome(settings: Settings) -> None:
    """Greet, and show the codes of accounts that wait for a scan, until cancelled."""
    key = settings.api_key.get_secret_value() if settings.api_key else ""
    try:
        async with Client(parts.sandbox_url(settings).removesuffix("/sandbox"), key) as client:
            await _wait_up(client)
            greeting = Greeting(client, key)
            async with asyncio.TaskGroup() as group:
                group.create_task(greeting.greet())
                group.create_task(greeting.show_codes())
    except Exception:
        log.exception(
            "nobody is greeted and no codes are shown; everything else goes on", extra={"event": "greeting.failed"}
        )


async def _wait_up(client: Client) -> None:
    while True:
        try:
            return await client.wait_up(READY)
        except OperatorError as error:
            tell(f"{error.detail} It is waited for; what keeps it is in the lines above.")


@dataclass
class Greeting:
    """Speaks to people, by what the API says."""

    client: Client
    key: str
    #: the account that is linked here
    _ours: str | None = None
    #: the code that was shown last of each account
    _shown: dict[str, str] = field(default_factory=dict)

    async def greet(self) -> None:
        """Link a first account, unless there is one, and say how to send a message."""
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
        tell(f"A first account, in the sandbox. Its phone scans this code:\n{draw(qr)}")
        await self.client.scan(account)
        await self.client.wait(path, "state", {"ready"}, READY)

    async def _waits_for_a_scan(self, path: str, before: str | None) -> None:
        """Wait until the account's code can be had. Raises OperatorError when it stands still, with the reason."""
        end = time.monotonic() + READY
        while (seen := await self.client.get(path))["state"] != "qr_pending":
            reason = seen["stateReason"]
            stands = seen["state"] in {"not_started", "disconnected"} and reason not in {None, before}
            if stands or time.monotonic() > end:
                raise OperatorError(f"it is {seen['state']}. {reason or ''}".rstrip())
            await asyncio.sleep(LOOK)

    async def show_codes(self) -> None:
        """Show the QR code of each account that waits for a scan, as it changes."""
        while True:
            with suppress(OperatorError):
                for account in (await self.client.get("/accounts"))["items"]:
                    if account["state"] == "qr_pending" and account["id"] != self._ours:
                        await self._show_code(account)
            await asyncio.sleep(LOOK)

    async def _show_code(self, account: Json) -> None:
        qr = (await self.client.get(f"/accounts/{account['id']}/qr"))["qr"]
        if self._shown.get(account["id"]) != qr:
            self._shown[account["id"]] = qr
            tell(_scan_me(self.client.url, account, qr))


def _next(account: str | None) -> str:
    if account is None:
        return "Everything else goes on; POST /accounts makes one."
    return f"Everything else goes on; its code is shown here when there is one, and GET /accounts/{account} tells more."


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

and look what became of it, with the jobId of the answer:

  curl -s {url}/jobs/JOB_ID -H 'x-api-key: {key}'

Ctrl-C stops it; what was accepted stays in Postgres.
"""
    )


def _scan_me(url: str, account: Json, qr: str) -> str:
    how = (
        f"curl -s -X POST {url}/sandbox/accounts/{account['id']}/scan, or click on {url}/sandbox/"
        if account["transport"] == "sandbox"
        else "WhatsApp on your phone: Settings, Linked devices, Link a device"
    )
    return f"Account {account['id']} ({account['name']}) waits for a scan. {how}\n{draw(qr)}"
