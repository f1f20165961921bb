"""Browser processes, found by the profile directory that they hold: Playwright does not expose their ids."""

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import psutil

#: Chromium's switch for its profile directory; the engine always passes a resolved path
SWITCH = b"\0--user-data-dir="
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
KILL_SECONDS = 5.0
POLL_SECONDS = 0.02


@cache
def machine_boot() -> str:
    """Return an id of this machine's current boot: a reboot may have lost writes that were not yet on the disk."""
    with suppress(OSError):
        return BOOT_ID.read_text("ascii").strip()  # Linux, proc_sys_kernel(5)
    return str(psutil.boot_time())


def browsers() -> Iterator[tuple[Path, psutil.Process]]:
    """Yield every browser's main process (and its start script) with the profile directory that it holds."""
    for pid in psutil.pids():
        # Nearly all processes are no browsers, so their command lines are not worth splitting.
        command = _command(pid)
        if SWITCH in command and b"\0--type=" not in command:
            held = command.partition(SWITCH)[2].partition(b"\0")[0]
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                if _command(pid) == command:  # the pid has not been reused meanwhile
                    yield Path(os.fsdecode(held)), process


def _command(pid: int) -> bytes:
    """Return a process's command line with NUL between its arguments; empty if the process has ended."""
    try:
        if psutil.LINUX:  # psutil takes four times as long to read it
            with open(f"/proc/{pid}/cmdline", "rb", buffering=0) as file:  # noqa: PTH123  # the fastest way
                return file.read()
        return b"\0".join(map(os.fsencode, psutil.Process(pid).cmdline()))
    except (OSError, psutil.Error):
        return b""


def browsers_of(directory: Path) -> list[psutil.Process]:
    """List the main processes (and their start scripts) that hold a profile, from this worker or left by another."""
    wanted = directory.resolve()
    return [process for held, process in browsers() if held == wanted]


async def kill_browsers_of(directory: Path) -> None:
    """Kill every browser that holds a profile; its child processes end with it (seen within 0.02 s).

    Acknowledged IndexedDB writes survive; the last 5 s of localStorage are lost.
    """
    await asyncio.to_thread(lambda: _kill(browsers_of(directory)))


async def end_orphans(root: Path) -> list[Path]:
    """Kill every browser that holds a profile in a directory of profiles; return those profiles, sorted.

    For a worker's start: it holds the directory's lock, so a browser there was left behind by a worker that died.
    """
    return await asyncio.to_thread(_end_orphans, root)


def _end_orphans(root: Path) -> list[Path]:
    root = root.resolve()
    # Not recursively: visitors keep homes of their own in it (profile.VISITS).
    orphans = [(held, process) for held, process in browsers() if held.parent == root]
    _kill([process for _, process in orphans])
    return sorted({held for held, _ in orphans})


def _kill(doomed: list[psutil.Process]) -> None:
    for process in list(doomed):
        with suppress(psutil.NoSuchProcess):
            doomed += process.children(recursive=True)
    for process in doomed:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    # Not psutil.wait_procs: in a container whose init process does not reap orphans, a zombie stays for ever.
    until = time.monotonic() + KILL_SECONDS
    while any(is_running(process) for process in doomed) and time.monotonic() < until:
        time.sleep(POLL_SECONDS)


@contextmanager
def frozen(directory: Path) -> Iterator[None]:
    """Suspend all processes of the browser that holds a profile during the block, so that its files do not change."""
    stopped: list[psutil.Process] = []
    try:
        for browser in browsers_of(directory):
            with suppress(psutil.NoSuchProcess):
                for process in (browser, *browser.children(recursive=True)):
                    process.suspend()
                    stopped.append(process)
        yield
    finally:
        for process in reversed(stopped):
            with suppress(psutil.NoSuchProcess):
                process.resume()


def newest_driver() -> psutil.Process:
    """Return the Playwright driver that this process started last."""
    drivers = [process for process in psutil.Process().children() if "run-driver" in process.cmdline()]
    return max(drivers, key=psutil.Process.create_time)


def is_running(process: psutil.Process) -> bool:
    """Tell whether a process runs; a zombie does not count."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
