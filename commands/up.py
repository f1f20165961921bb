"""`postrider up`: the whole service on one machine, until Ctrl-C."""

import asyncio
import logging
import os
import signal
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field

from commands import environment, greeting
from commands.signals import on_signals
from commands.tell import tell
from commands.turn import Turn, turn
from errors import OperatorError
from settings import Settings
from sql import embedded, schema

log = logging.getLogger(__name__)

STOP = 60.0  # seconds for a child to stop
RESTART = 2.0  # seconds before a child that ended is started again
LOOK = 1.0  # seconds between looks whether the terminal and `make` are there


def run_up(settings: Settings) -> int:
    """Start Postgres, migrate, start API and worker as processes of their own, link a first sandbox account, wait."""
    with turn(settings.profiles, tell) as ours:
        for name, port in (("PORT", settings.port), ("WORKER_PORT", settings.worker_port)):
            _check_free(name, settings.host, port)
        try:
            url = environment.database_url(settings)
            environment.wait_for_database(url)
            schema.migrate(url)
            return asyncio.run(_up(settings, ours))
        finally:
            # Before the next one's turn: it would join the server, and need not wait for it any more.
            embedded.leave()


def _check_free(name: str, host: str, port: int) -> None:
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        raise OperatorError(
            f"{name}={port} cannot be had on {host} ({error.strerror}): Postrider may be up already, or set {name}."
        ) from None


async def _up(settings: Settings, ours: Turn) -> int:
    at_once = asyncio.Event()
    stop = on_signals(at_once.set)
    # In this order they end: the API serves the sandbox, and a message in hand still wants its tick. When we are
    # killed, the worker's pipe ends at once, and the API's with the worker, which holds that one too.
    pipes = [os.pipe(), os.pipe()]
    children = [
        Child("worker", pipes[0][0], [ours.handed_on, pipes[1][1]], at_once),
        Child("api", pipes[1][0], [ours.handed_on], at_once),
    ]
    keeping = [asyncio.create_task(child.keep()) for child in children]
    beside = [asyncio.create_task(greeting.welcome(settings)), asyncio.create_task(_watch(stop))]
    await stop.wait()
    ours.is_over()
    for task in beside:
        task.cancel()
    tell("\nStopping: the message in hand is finished, browsers are closed … (Ctrl-C again ends it at once)")
    for child, kept in zip(children, keeping, strict=True):
        child.stop.set()
        await kept
    await asyncio.gather(*beside, return_exceptions=True)
    return 1 if at_once.is_set() else 0


@dataclass
class Child:
    """A command as a process of its own, started again whenever it ends."""

    name: str
    #: a pipe that nothing is written to: it ends when whoever holds its other end has ended, and then the child does
    stdin: int
    #: open files that it holds for as long as it lives
    holds: list[int]
    at_once: asyncio.Event
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def keep(self) -> None:
        """Run it until `stop` is set and it has ended."""
        while not self.stop.is_set():
            try:
                process = await self._start()
            except OSError as error:
                tell(f"The {self.name} cannot be started: {error}. It is tried again.")
            else:
                await _first(process.wait(), self.stop.wait())
                if self.stop.is_set():
                    await self._end(process)
                    return
                tell(f"The {self.name} ended with code {process.returncode}; starting it again.")
            with suppress(TimeoutError):
                await asyncio.wait_for(self.stop.wait(), RESTART)

    async def _start(self) -> Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "cli", self.name, "--end-with-stdin",
            stdin=self.stdin, pass_fds=self.holds,
            # Ctrl-C goes to the whole group of the terminal; the children are told in order instead.
            start_new_session=True,
        )  # fmt: skip

    async def _end(self, process: Process) -> None:
        with suppress(ProcessLookupError):
            process.terminate()
        with suppress(TimeoutError):
            await asyncio.wait_for(_first(process.wait(), self.at_once.wait()), STOP)
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _first(*waits: Coroutine[object, object, object]) -> None:
    tasks = [asyncio.create_task(each) for each in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


async def _watch(stop: asyncio.Event) -> None:
    """Set `stop` when the `make` that runs us has been killed, or our terminal closed: we may not be told.

    A `make` that is its terminal's first process, as in `ssh -t HOST make up`, gets the SIGHUP and keeps it to itself.
    """
    make = os.getppid() if "MAKELEVEL" in os.environ else None
    terminal, in_front = _terminal(), False
    while make in {None, os.getppid()}:
        try:
            # Whoever is in the background, as after `disown`, may outlive its terminal.
            in_front = terminal is not None and os.tcgetpgrp(terminal) == os.getpgrp()
        except OSError:
            if in_front:
                break
        await asyncio.sleep(LOOK)
    log.info("the terminal has been closed, or make has ended: stopping", extra={"event": "process.stopping"})
    stop.set()


def _terminal() -> int | None:
    """Open the terminal that we belong to; None where there is none, and under nohup, by which it may go."""
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        with suppress(OSError):
            return os.open(os.ctermid(), os.O_RDONLY | os.O_NOCTTY)
    return None
