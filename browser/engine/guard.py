"""The guard: a small process that ends this worker's browsers when the worker no longer can.

A worker that is stopped (SIGSTOP, a debugger, a machine that swaps) leaves its Chromium running and logged in, while
its leases end and other workers open the same accounts. One guard serves all of a worker's browsers.
"""

import asyncio
import logging
import os
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from pathlib import Path

from errors import OperatorError

LOG = logging.getLogger(__name__)

PROGRAM = Path(__file__).with_name("guardian.py")
#: seconds between two beats, and how many may go unanswered; beats and not seconds are counted, because a worker that
#: was stopped itself could not hear the answers
BEAT, UNANSWERED = 0.5, 3
START_SECONDS = 10.0
#: longer than what it does at the end
STOP_SECONDS = 5.0
#: what Python needs of the environment; the worker's has secrets
ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


class Guard:
    """Keeps a guard process running: started again within 2 s, with every deadline, when it dies or hangs."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}
        self._process: Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._answered = asyncio.Event()
        self._unanswered = 0

    async def start(self) -> None:
        """Start the process and wait until it answers. Raise OperatorError when it does not."""
        self._task = asyncio.create_task(self._run())
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._answered.wait()
        except TimeoutError:
            await self.close()
            raise OperatorError(f"The guard of the browsers, {PROGRAM}, did not start; see what it printed.") from None

    @property
    def pid(self) -> int | None:
        """The id of the process that runs now."""
        return self._process.pid if self._process and self._process.returncode is None else None

    def keep(self, directory: Path, until: float) -> None:
        """Let a profile's browser live until `until` by time.monotonic(), and no longer; call it before it is opened.

        From then on whatever holds the profile is ended, now and every second, until this is called again or `forget`.
        """
        name = _name(directory)
        self._due[name] = until
        self._tell(f"keep {until!r} {name}")

    def forget(self, directory: Path) -> None:
        """Leave a profile alone: its browser has been closed."""
        name = _name(directory)
        if self._due.pop(name, None) is not None:
            self._tell(f"forget {name}")

    async def close(self) -> None:
        """End the process, and with it every browser that is still kept."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._process is not None:
            await self._end(self._process)
        self._due.clear()

    def _tell(self, line: str) -> None:
        # A pipe's transport takes what does not fit into the pipe: this never waits. While nobody reads, and until the
        # next process runs, nothing is lost either: that one begins with all deadlines.
        if self._process is not None and self._process.stdin is not None and not self._process.stdin.is_closing():
            self._process.stdin.write(f"{line}\n".encode())

    async def _run(self) -> None:
        while True:
            try:
                self._process = await self._start()
                await self._watch(self._process)
                LOG.warning(
                    "The guard of the browsers ended or did not answer; it is started again.",
                    extra={"event": "guard.ended"},
                )
                with suppress(ProcessLookupError):
                    self._process.kill()
            except OSError as error:
                LOG.warning(
                    "The guard of the browsers does not start: %s. It is tried again.", error,
                    extra={"event": "guard.failed", "reason": str(error)},
                )  # fmt: skip
            await asyncio.sleep(BEAT)

    async def _start(self) -> Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-I", "-S", PROGRAM),
            stdin=PIPE,
            stdout=PIPE,
            env={name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
            # A signal to the worker's process group must not reach it.
            start_new_session=True,
        )
        if process.stdin is not None:
            process.stdin.writelines(f"keep {until!r} {name}\n".encode() for name, until in self._due.items())
        return process

    async def _watch(self, process: Process) -> None:
        """Return when the process has ended, or has left beats unanswered."""
        self._unanswered = 0
        listening = asyncio.create_task(self._listen(process))
        try:
            while self._unanswered < UNANSWERED and not listening.done():
                self._unanswered += 1
                self._tell("beat")
                await asyncio.wait([listening], timeout=BEAT)
        finally:
            listening.cancel()

    async def _listen(self, process: Process) -> None:
        while process.stdout is not None and await process.stdout.read(64):
            self._unanswered = 0
            self._answered.set()

    async def _end(self, process: Process) -> None:
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _name(directory: Path) -> str:
    return os.fsencode(directory.resolve()).hex()
