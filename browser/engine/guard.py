"""The guard: a small process that ends this worker's browsers when the worker no longer can.

A worker that is stopped (SIGSTOP, a debugger, a swapping machine) leaves its Chromium running and logged in, while its
leases expire and other workers open the same accounts. One guard serves all browsers of a worker.
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

PROGRAM = Path(__file__).with_name("guard_process.py")
#: seconds between heartbeats, and how many may go unanswered. Heartbeats are counted instead of seconds, because a
#: worker that was itself stopped could not read the answers.
HEARTBEAT_SECONDS, MAX_UNANSWERED = 0.5, 3
START_SECONDS = 10.0
#: longer than the guard lingers after its stdin has closed
STOP_SECONDS = 5.0
#: the environment variables that Python needs; the worker's others may hold secrets
ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


class Guard:
    """Keeps a guard process running: one that dies or hangs is replaced within 2 s and gets every deadline again."""

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
        """Set the deadline of a profile's browser, by time.monotonic(); call this before the browser is opened.

        After the deadline every browser on the profile is killed, once a second, until the next `keep` or `forget`.
        """
        name = _name(directory)
        self._due[name] = until
        self._tell(f"keep {until!r} {name}")

    def forget(self, directory: Path) -> None:
        """Remove a profile's deadline: its browser has been closed."""
        name = _name(directory)
        if self._due.pop(name, None) is not None:
            self._tell(f"forget {name}")

    async def close(self) -> None:
        """End the process, which kills every browser that still has a deadline."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._process is not None:
            await self._end(self._process)
        self._due.clear()

    def _tell(self, line: str) -> None:
        # The transport buffers what does not fit into the pipe, so this never blocks. Nothing is lost while no process
        # reads: the next one starts with all deadlines.
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
            await asyncio.sleep(HEARTBEAT_SECONDS)

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
            while self._unanswered < MAX_UNANSWERED and not listening.done():
                self._unanswered += 1
                self._tell("beat")
                await asyncio.wait([listening], timeout=HEARTBEAT_SECONDS)
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
