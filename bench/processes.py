"""Programs to measure, each in a process of its own: started, waited for, and ended."""

import asyncio
import os
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).parent.parent
START_SECONDS, STOP_SECONDS = 60.0, 15.0


@asynccontextmanager
async def running(
    *command: str, variables: Mapping[str, str] | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a command, or a Python module where it begins with `-m`, with more environment variables."""
    arguments = (sys.executable, *command) if command[0] == "-m" else command
    environment = {**os.environ, **(variables or {})}
    process = await asyncio.create_subprocess_exec(*arguments, cwd=ROOT, env=environment)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()


@asynccontextmanager
async def serving(port: int, *command: str, variables: Mapping[str, str] | None = None) -> AsyncIterator[Process]:
    """Run a command as `running` does, and wait until it listens on `port`."""
    async with running(*command, variables=variables) as process:
        await _listens(port, process)
        yield process


async def _listens(port: int, process: Process) -> None:
    async with asyncio.timeout(START_SECONDS):
        while process.returncode is None:
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.05)
    raise RuntimeError(f"A program to measure ended with {process.returncode} before it listened on port {port}.")
