"""The guard: a real worker process, stopped and killed while its real browsers run."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
from fixtures_browser import until

from browser.engine import guard_process
from browser.engine.guard import Guard
from browser.engine.process import browsers_of, end_orphans, is_running
from browser.engine.profile import VISITS

WORKER = """
import asyncio, sys, time
from pathlib import Path
from browser.engine.engine import Engine, Look
from browser.engine.guard import Guard

async def main():
    guard, engine = Guard(), Engine()
    await guard.start()
    while line := (await asyncio.to_thread(sys.stdin.readline)).split():
        match line:
            case "open", directory, until:
                guard.keep(Path(directory), float(until))
                await engine.open(Path(directory), Look(800, 600))
            case "keep", directory, until:
                guard.keep(Path(directory), float(until))
            case "forget", directory:
                guard.forget(Path(directory))
            case "guard",:
                pass
        print(guard.pid or 0, flush=True)

asyncio.run(main())
"""
FAR = 3600.0


class Worker:
    """A process that opens browsers, in a process group of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def do(self, *words: object) -> int:
        """Make it obey; return the id of its guard, 0 while there is none."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write((" ".join(map(str, words)) + "\n").encode())
        return int(await asyncio.wait_for(self.process.stdout.readline(), 60))

    def signal(self, number: signal.Signals) -> None:
        """Signal its whole group: itself, and Playwright's driver."""
        os.killpg(self.process.pid, number)

    async def other_guard(self, old: int) -> int:
        """Wait until another guard than the old one runs."""

        async def another() -> int:
            new = await self.do("guard")
            return new if new != old else 0

        return await until(another)


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        WORKER,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
        cwd=Path(__file__).parent.parent,
    )
    worker = Worker(process)
    try:
        yield worker
    finally:
        if process.returncode is None:
            worker.signal(signal.SIGKILL)
        await process.wait()


def tree(directory: Path) -> list[psutil.Process]:
    found = browsers_of(directory)
    assert found
    return found + [child for each in found for child in each.children(recursive=True)]


def alive(directory: Path) -> bool:
    return any(map(is_running, browsers_of(directory)))


async def gone(processes: list[psutil.Process]) -> float:
    """Wait until all have ended; return the time."""

    async def all_gone() -> bool:
        return not any(map(is_running, processes))

    await until(all_gone, 30)
    return time.monotonic()


def tell(what: str, seconds: float) -> None:
    print(f"\n{what}: {seconds:.2f} s")  # noqa: T201 - figures for people


async def test_a_stopped_worker_loses_the_browsers_whose_time_is_over(
    worker: Worker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    over, kept = tmp_path / "over", tmp_path / "kept"
    await worker.do("open", over, time.monotonic() + FAR)
    await worker.do("open", kept, time.monotonic() + FAR)
    processes, at = tree(over), time.monotonic() + 2
    await worker.do("keep", over, at)
    worker.signal(signal.SIGSTOP)
    when = await gone(processes)
    assert when > at
    assert len(processes) > 3
    assert alive(kept)
    with capsys.disabled():
        tell("stopped: gone after its time was over", when - at)


async def test_a_worker_that_goes_on_is_renewed_and_forgets(worker: Worker, tmp_path: Path) -> None:
    over, renewed, forgotten = tmp_path / "over", tmp_path / "renewed", tmp_path / "forgotten"
    for directory in (over, renewed, forgotten):
        await worker.do("open", directory, time.monotonic() + FAR)
    processes, at = tree(over), time.monotonic() + 3
    for directory in (renewed, forgotten, over):
        await worker.do("keep", directory, at)
    await worker.do("keep", renewed, at + FAR)
    await worker.do("forget", forgotten)
    await gone(processes)
    assert alive(renewed)
    assert alive(forgotten)


@pytest.mark.long
async def test_a_browser_that_appears_after_its_time_is_ended_too(worker: Worker, tmp_path: Path) -> None:
    over, late = tmp_path / "over", tmp_path / "late"
    await worker.do("open", over, time.monotonic() + FAR)
    await worker.do("keep", late, time.monotonic() - 1)
    with_switch = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "import sys; sys.stdin.read()", f"--user-data-dir={late}", stdin=asyncio.subprocess.PIPE
    )
    assert await asyncio.wait_for(with_switch.wait(), 30) == -signal.SIGKILL
    assert alive(over)


async def test_a_worker_that_is_killed_takes_its_browsers_with_it(
    worker: Worker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    guard = psutil.Process(await worker.do("open", tmp_path / "one", time.monotonic() + FAR))
    # Playwright's driver would end its browsers by itself: it is stopped, so that this is the guard's doing.
    processes = tree(tmp_path / "one")
    drivers = [each for each in psutil.Process(worker.process.pid).children() if "run-driver" in each.cmdline()]
    assert len(drivers) == 1
    drivers[0].suspend()
    began = time.monotonic()
    worker.process.kill()
    when = await gone(processes)
    with capsys.disabled():
        tell("killed: gone after", when - began)
    await gone([guard])
    drivers[0].kill()


@pytest.mark.parametrize("number", [pytest.param(signal.SIGKILL, marks=pytest.mark.long), signal.SIGSTOP])
async def test_a_guard_that_dies_or_hangs_is_started_again(
    worker: Worker, tmp_path: Path, number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    guard = await worker.do("open", tmp_path / "one", time.monotonic() + FAR)
    processes = tree(tmp_path / "one")
    began = time.monotonic()
    os.kill(guard, number)
    new = await worker.other_guard(guard)
    with capsys.disabled():
        tell(f"{number.name} of the guard: another after", time.monotonic() - began)
    await gone([psutil.Process(guard)] if psutil.pid_exists(guard) else [])
    # It knows the deadline that it was never told itself.
    worker.process.kill()
    await gone(processes)
    await gone([psutil.Process(new)] if psutil.pid_exists(new) else [])


async def test_the_guard_outlives_the_signals_of_its_group_and_its_worker(worker: Worker, tmp_path: Path) -> None:
    guard = psutil.Process(await worker.do("open", tmp_path / "one", time.monotonic() + FAR))
    assert os.getpgid(guard.pid) == guard.pid
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        guard.send_signal(number)
    assert await worker.do("guard") == guard.pid
    processes = tree(tmp_path / "one")
    await worker.do("keep", tmp_path / "one", time.monotonic())
    await gone(processes)
    assert is_running(guard)


async def test_a_guard_is_light_and_keeps_no_secrets(
    worker: Worker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    guard = psutil.Process(await worker.do("open", tmp_path / "one", time.monotonic() + FAR))
    assert set(guard.environ()) <= {"PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LC_CTYPE"}
    if hasattr(info := guard.memory_full_info(), "pss"):
        with capsys.disabled():
            print(f"\nthe guard weighs {info.pss / 1e6:.1f} MB")  # noqa: T201 - figures for people


async def test_what_is_kept_ends_when_the_guard_is_closed() -> None:
    guard = Guard()
    await guard.start()
    pid = guard.pid
    assert pid
    await guard.close()
    assert guard.pid is None
    assert not psutil.pid_exists(pid)


async def test_orphans_are_ended_and_nothing_else(worker: Worker, tmp_path: Path) -> None:
    home, other = tmp_path / "home", tmp_path / "home-of-another"
    visitor = home / VISITS / "visit_1" / "acc_3"
    for directory in (home / "acc_1", home / "acc_2", other / "acc_1", visitor):
        await worker.do("open", directory, time.monotonic() + FAR)
    processes = tree(home / "acc_1") + tree(home / "acc_2")
    assert await end_orphans(home) == [home / "acc_1", home / "acc_2"]
    await gone(processes)
    assert alive(other / "acc_1")
    assert alive(visitor)
    assert await end_orphans(home) == []


# --- how it knows a browser


@pytest.mark.parametrize(
    ("command", "is_held"),
    [
        (b"/usr/bin/chromium\0--headless\0--user-data-dir=/d/acc_1\0about:blank\0", True),
        (b"/bin/sh\0/usr/bin/chromium\0--user-data-dir=/d/acc_1\0", True),
        (b"/usr/bin/chromium\0--user-data-dir=/d/acc_12\0", False),
        (b"/usr/bin/chromium\0--user-data-dir=/d/acc_1 more\0", False),
        (b"/usr/bin/chromium\0--type=renderer\0--user-data-dir=/d/acc_1\0", False),
        (b"/usr/bin/chromium --type=renderer --user-data-dir=/d/acc_1 --lang=en", False),
        (b"/Applications/Google Chrome.app/Contents/MacOS/Google Chrome --user-data-dir=/d/acc_1 --headless", True),
        (b"/Applications/Chromium.app/Contents/MacOS/Chromium --headless --user-data-dir=/d/acc_1", True),
        (b"/Applications/Chromium.app/Contents/MacOS/Chromium --headless --user-data-dir=/d/acc_10", False),
        (b"grep --user-data-dir=/d/acc_1x", False),
        (b"", False),
    ],
)
def test_which_command_lines_hold_a_profile(command: bytes, *, is_held: bool) -> None:
    assert guard_process.holds(command, b"/d/acc_1") is is_held


def test_a_table_of_ps_is_read() -> None:
    table = b"    1     0 /sbin/launchd\n  512     1 /Applications/A b.app/A b --user-data-dir=/d/acc 1 -x\n   7 1 \n"
    assert guard_process.parse(table) == [
        (1, 0, b"/sbin/launchd"),
        (512, 1, b"/Applications/A b.app/A b --user-data-dir=/d/acc 1 -x"),
    ]


def test_this_process_is_in_the_list() -> None:
    own = {pid: (parent, command) for pid, parent, command in guard_process.processes()}[os.getpid()]
    assert own[0] == os.getppid()
    assert own[1].startswith(os.fsencode(sys.executable) + b"\0")
