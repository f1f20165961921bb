"""The browser's processes, found by the profile directory that they hold: Playwright does not tell their ids."""

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import psutil

#: how Chromium is told which profile to hold; the engine always gives it resolved
SWITCH = b"\0--user-data-dir="
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
KILL_SECONDS = 5.0
POLL_SECONDS = 0.02


@cache
def machine_boot() -> str:
    """Name the boot that this machine is in; another one may have lost what was on its way to the disk."""
    with suppress(OSError):
        return BOOT_ID.read_text("ascii").strip()  # Linux, proc_sys_kernel(5)
    return str(psutil.boot_time())


def browsers() -> Iterator[tuple[Path, psutil.Process]]:
    """Yield every browser's main process (and its start script) with the profile directory that it holds."""
    for pid in psutil.pids():
        # Nearly all of these are no browsers, hence no list of words for them.
        command = _command(pid)
        if SWITCH in command and b"\0--type=" not in command:
            held = command.partition(SWITCH)[2].partition(b"\0")[0]
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                if _command(pid) == command:  # and not another one's by now
                    yield Path(os.fsdecode(held)), process


def _command(pid: int) -> bytes:
    """Return a process's command line, its words apart by NUL as the system keeps them; nothing of one that ended."""
    try:
        if psutil.LINUX:  # psutil's own reading takes four times as long
            with open(f"/proc/{pid}/cmdline", "rb", buffering=0) as file:  # noqa: PTH123  # as quick as can be
                return file.read()
        return b"\0".join(map(os.fsencode, psutil.Process(pid).cmdline()))
    except (OSError, psutil.Error):
        return b""


def browsers_of(directory: Path) -> list[psutil.Process]:
    """List the main processes (and their start scripts) that hold a profile, from this worker or left by another."""
    wanted = directory.resolve()
    return [process for held, process in browsers() if held == wanted]


async def kill_browsers_of(directory: Path) -> None:
    """End every browser that holds a profile, whatever it is doing; its children end with it (seen within 0.02 s).

    IndexedDB writes that had been acknowledged stay; localStorage of the last 5 s is lost.
    """
    await asyncio.to_thread(lambda: _kill(browsers_of(directory)))


async def end_orphans(root: Path) -> list[Path]:
    """End every browser that holds a profile in a directory of profiles; return those profiles, sorted.

    For a worker's start: it holds the directory's lock, so whatever runs there was left by one that died.
    """
    return await asyncio.to_thread(_end_orphans, root)


def _end_orphans(root: Path) -> list[Path]:
    root = root.resolve()
    # No deeper: visitors have homes of their own in it.
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
    # Not psutil.wait_procs: in a container whose first process collects no orphans, a zombie stays for good.
    until = time.monotonic() + KILL_SECONDS
    while any(is_running(process) for process in doomed) and time.monotonic() < until:
        time.sleep(POLL_SECONDS)


@contextmanager
def frozen(directory: Path) -> Iterator[None]:
    """Stop the browser that holds a profile within the block, with all its processes: its files stand still."""
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
    """Tell whether a process runs; one that has ended and is not yet waited for does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
