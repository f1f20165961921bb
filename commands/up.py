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
from commands.output import tell
from commands.signals import on_signals
from commands.up_lock import Turn, turn
from errors import OperatorError
from settings import Settings
from sql import embedded

log = logging.getLogger(__name__)

STOP_SECONDS = 60.0  # for a child to stop; then it is killed
RESTART_SECONDS = 2.0  # before a child that ended is started again
POLL_SECONDS = 1.0  # between checks of the terminal and of `make`


def run_up(settings: Settings) -> int:
    """Start Postgres, migrate, run API and worker as child processes, link a first sandbox account, and wait."""
    with turn(settings.profiles, tell) as ours:
        for name, port in (("PORT", settings.port), ("WORKER_PORT", settings.worker_port)):
            _check_free(name, settings.host, port)
        try:
            environment.migrate(settings)
            return asyncio.run(_up(settings, ours))
        finally:
            # Still within the turn, so that the next `up` need not wait for a server that stops.
            embedded.leave()


def _check_free(name: str, host: str, port: int) -> None:
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        raise OperatorError(
            f"{name}={port} on {host} cannot be used ({error.strerror}). Is Postrider up already? If not, "
            f"set another {name}."
        ) from None


async def _up(settings: Settings, ours: Turn) -> int:
    at_once = asyncio.Event()
    stop = on_signals(at_once.set)
    # The worker ends first: a message in hand still needs its tick from the sandbox, which the API serves. When we are
    # killed, the worker's pipe ends at once, and the API's pipe when the worker ends, which holds it open too.
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
    tell("\nStopping: finishing the message in hand, closing the browsers … (Ctrl-C again ends it at once)")
    for child, kept in zip(children, keeping, strict=True):
        child.stop.set()
        await kept
    await asyncio.gather(*beside, return_exceptions=True)
    return 1 if at_once.is_set() else 0


@dataclass
class Child:
    """A command in a child process, which is started again whenever it ends."""

    name: str
    #: the read end of a pipe; when all holders of the other end have ended, it ends, and then the child stops
    stdin: int
    #: open files that it inherits and holds while it lives
    holds: list[int]
    at_once: asyncio.Event
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def keep(self) -> None:
        """Run the command until `stop` is set and it has ended."""
        while not self.stop.is_set():
            try:
                process = await self._start()
            except OSError as error:
                tell(f"The {self.name} cannot be started: {error}. Trying again.")
            else:
                await _first(process.wait(), self.stop.wait())
                if self.stop.is_set():
                    await self._end(process)
                    return
                tell(f"The {self.name} ended with code {process.returncode}; starting it again.")
            with suppress(TimeoutError):
                await asyncio.wait_for(self.stop.wait(), RESTART_SECONDS)

    async def _start(self) -> Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "cli", self.name, "--end-with-stdin",
            stdin=self.stdin, pass_fds=self.holds,
            # Ctrl-C goes to the terminal's whole process group; we stop the children in order instead.
            start_new_session=True,
        )  # fmt: skip

    async def _end(self, process: Process) -> None:
        with suppress(ProcessLookupError):
            process.terminate()
        with suppress(TimeoutError):
            await asyncio.wait_for(_first(process.wait(), self.at_once.wait()), STOP_SECONDS)
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
    """Set `stop` when the `make` that runs us was killed or our terminal was closed: we may get no signal then.

    A `make` that is its terminal's first process, as in `ssh -t HOST make up`, gets the SIGHUP and does not pass it on.
    """
    make = os.getppid() if "MAKELEVEL" in os.environ else None
    terminal, in_front = _terminal(), False
    while make in {None, os.getppid()}:
        try:
            # A process in the background, as after `disown`, may outlive its terminal.
            in_front = terminal is not None and os.tcgetpgrp(terminal) == os.getpgrp()
        except OSError:
            if in_front:
                break
        await asyncio.sleep(POLL_SECONDS)
    log.info("the terminal has been closed, or make has ended: stopping", extra={"event": "process.stopping"})
    stop.set()


def _terminal() -> int | None:
    """Open our controlling terminal; None if there is none, or under nohup, which lets us outlive it."""
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        with suppress(OSError):
            return os.open(os.ctermid(), os.O_RDONLY | os.O_NOCTTY)
    return None
