"""`postrider up`: the whole service on one machine, until Ctrl-C."""

import asyncio
import os
import socket
import sys
from contextlib import suppress

from commands import compose, greeting
from commands.serve import on_signals
from commands.tell import tell
from errors import OperatorError
from settings import Settings
from sql import schema

STOP = 60.0  # seconds for a child to stop
RESTART = 2.0  # seconds before a child that ended is started again


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
    welcome = asyncio.create_task(greeting.welcome(settings))
    try:
        await stop.wait()
    finally:
        welcome.cancel()
        tell("\nStopping: the message in hand is finished, browsers are closed …")
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
        tell(f"The {name} ended with code {process.returncode}; starting it again.")
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
