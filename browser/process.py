"""The browser's processes, found by the profile directory that they hold: Playwright does not tell their ids."""

import asyncio
import time
from pathlib import Path

import psutil

KILL_SECONDS = 5.0
POLL_SECONDS = 0.02


def browsers_of(directory: Path) -> list[psutil.Process]:
    """List the main processes (and their start scripts) that hold a profile, from this worker or left by another."""
    switch = f"--user-data-dir={directory.resolve()}"
    found = []
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
        except psutil.Error:
            continue
        if switch in command and not any(word.startswith("--type=") for word in command):
            found.append(process)
    return found


async def kill_browsers_of(directory: Path) -> None:
    """End every browser that holds a profile, whatever it is doing; its children end with it (seen within 0.02 s).

    IndexedDB writes that had been acknowledged stay; localStorage of the last 5 s is lost.
    """
    await asyncio.to_thread(_kill, directory)


def _kill(directory: Path) -> None:
    doomed = browsers_of(directory)
    for process in list(doomed):
        doomed += process.children(recursive=True) if process.is_running() else []
    for process in doomed:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    # Not psutil.wait_procs: in a container whose first process collects no orphans, a zombie stays for good.
    until = time.monotonic() + KILL_SECONDS
    while any(is_running(process) for process in doomed) and time.monotonic() < until:
        time.sleep(POLL_SECONDS)


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
