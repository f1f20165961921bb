"""`postrider up`: the whole service on one machine, until Ctrl-C."""

import asyncio
import json
import os
import socket
import sys
from contextlib import suppress

from commands import compose
from commands.client import Client, draw
from commands.serve import on_signals
from errors import OperatorError
from settings import Settings
from sql import schema

READY = 60.0  # seconds for the API to come up
STOP = 60.0  # seconds for a child to stop
RESTART = 2.0  # seconds before a child that ended is started again
LOOK = 1.0  # seconds between looks for accounts that wait for a scan


def run_up(settings: Settings) -> int:
    """Start Postgres, migrate, start API and worker as processes of their own, link a first sandbox account, wait."""
    for name, port in (("PORT", settings.port), ("WORKER_PORT", settings.worker_port)):
        _check_free(name, settings.host, port)
    url = compose.database_url(settings)
    compose.wait_for_database(url)
    schema.migrate(url)
    return asyncio.run(_up(settings, url))


def _check_free(name: str, host: str, port: int) -> None:
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        raise OperatorError(
            f"{name}={port} cannot be had on {host} ({error.strerror}): Postrider may be up already, or set {name}."
        ) from None


async def _up(settings: Settings, url: str) -> int:
    stop = on_signals()
    # In this order they are told to stop: the API serves the sandbox, and a message in hand still wants its tick.
    ends = {name: asyncio.Event() for name in ("worker", "api")}
    children = {name: asyncio.create_task(_keep(name, url, end)) for name, end in ends.items()}
    try:
        await _first(asyncio.create_task(_welcome(settings)), asyncio.create_task(stop.wait()))
        await stop.wait()
    finally:
        print("\nStopping: the message in hand is finished, browsers are closed …", flush=True)  # noqa: T201
        for name, end in ends.items():
            end.set()
            await children[name]
    return 0


async def _keep(name: str, url: str, stop: asyncio.Event) -> None:
    """Run a command as a process of its own, again whenever it ends, until `stop`."""
    while not stop.is_set():
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "cli", name,
            env={**os.environ, "DATABASE_URL": url},
            # Ctrl-C goes to the whole group of the terminal; the children are told in order instead.
            start_new_session=True,
        )  # fmt: skip
        await _first(asyncio.create_task(process.wait()), asyncio.create_task(stop.wait()))
        if stop.is_set():
            await _end(process)
            return
        print(f"The {name} ended with code {process.returncode}; starting it again.", flush=True)  # noqa: T201
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), RESTART)


async def _end(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP)
    except TimeoutError:
        process.kill()
        await process.wait()


async def _first(*tasks: "asyncio.Task[object]") -> None:
    done, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in rest:
        task.cancel()
    for task in done:
        task.result()


async def _welcome(settings: Settings) -> None:
    key = settings.api_key.get_secret_value() if settings.api_key else ""
    async with Client(compose.sandbox_url(settings).removesuffix("/sandbox"), key) as client:
        await client.wait_up(READY)
        accounts = (await client.get("/accounts"))["items"]
        linked = [account["id"] for account in accounts if account["phone"]]
        first = linked[0] if linked else await _first_account(client)
        _banner(client.url, key, first, several=len(accounts) > 1)
        await _show_codes(client)


async def _first_account(client: Client) -> str:
    account: str = (await client.post("/accounts", {"name": "First", "transport": "sandbox"}))["id"]
    await client.post(f"/accounts/{account}/connect")
    qr = await client.qr(account, READY)
    print(f"A first account, in the sandbox. Its phone scans this code:\n{draw(qr)}", flush=True)  # noqa: T201
    await client.scan(account)
    await client.wait(f"/accounts/{account}", "state", {"ready"}, READY)
    return account


def _banner(url: str, key: str, account: str, *, several: bool) -> None:
    body = {"phone": "15551234567", "message": "Hello from Postrider"} | ({"account": account} if several else {})
    print(  # noqa: T201
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
""",
        flush=True,
    )


async def _show_codes(client: Client) -> None:
    """Show the QR code of each account that waits for a scan, as it changes."""
    shown: dict[str, str] = {}
    while True:
        with suppress(OperatorError, OSError):
            for account in (await client.get("/accounts"))["items"]:
                if account["state"] == "qr_pending":
                    qr = (await client.get(f"/accounts/{account['id']}/qr"))["qr"]
                    if shown.get(account["id"]) != qr:
                        shown[account["id"]] = qr
                        print(_scan_me(client.url, account, qr), flush=True)  # noqa: T201
        await asyncio.sleep(LOOK)


def _scan_me(url: str, account: dict[str, str], qr: str) -> str:
    how = (
        f"curl -s -X POST {url}/sandbox/accounts/{account['id']}/scan, or click on {url}/sandbox/"
        if account["transport"] == "sandbox"
        else "WhatsApp on your phone: Settings, Linked devices, Link a device"
    )
    return f"Account {account['id']} ({account['name']}) waits for a scan. {how}\n{draw(qr)}"
