"""The guard's program: ends browsers whose time is over, whatever becomes of the worker that opened them.

Run as a script by guard.py, with the standard library's smallest modules only: 8 MB, once a worker. On stdin
it takes lines: `keep <seconds of the monotonic clock> <profile directory, hex>`, `forget <directory, hex>`, and `beat`,
which it answers. When stdin ends the worker has ended, and whatever is still kept ends with it.
"""
# pathlib would make it heavier by a quarter:
# ruff: noqa: PTH110, PTH123, PTH208

import os
import select
import signal
import time
from collections.abc import Iterable

#: seconds after which a profile whose time is over is looked for again: a launch may have been under way
AGAIN = 1.0
#: after the worker's end: seconds in which a browser that was being started may still appear, and between two looks
LINGER, LOOK = 1.0, 0.2

PS = ("/bin/ps", "-axwwo", "pid=,ppid=,command=")
SWITCH = b"--user-data-dir="
#: a process: its id, its parent's, and its command line, words ended by NUL where the system tells them apart
Process = tuple[int, int, bytes]


def main() -> None:
    """Obey stdin until it ends."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # A service manager may send them to every process of the service, and the worker needs its time to stop.
        signal.signal(number, signal.SIG_IGN)
    due: dict[bytes, float] = {}
    _guard(due)
    until = time.monotonic() + LINGER
    while due:
        end(due.keys())
        if time.monotonic() > until:
            break
        time.sleep(LOOK)


def _guard(due: dict[bytes, float]) -> None:
    rest = b""
    while True:
        wait = max(0.0, min(due.values()) - time.monotonic()) if due else None
        if select.select([0], [], [], wait)[0]:
            chunk = os.read(0, 65536)
            if not chunk:
                return
            *lines, rest = (rest + chunk).split(b"\n")
            try:
                _obey(due, lines)
            except BrokenPipeError:
                return
        now = time.monotonic()
        if over := [directory for directory, at in due.items() if at <= now]:
            end(over)
            due.update(dict.fromkeys(over, now + AGAIN))


def _obey(due: dict[bytes, float], lines: list[bytes]) -> None:
    for line in lines:
        match line.split():
            case b"keep", until, directory:
                due[bytes.fromhex(directory.decode())] = float(until)
            case b"forget", directory:
                due.pop(bytes.fromhex(directory.decode()), None)
            case (b"beat",):
                os.write(1, b".")


def end(directories: Iterable[bytes]) -> None:
    """Kill every browser that holds one of these profiles, with its children."""
    table = processes()
    doomed = {pid for pid, _, command in table if any(holds(command, directory) for directory in directories)}
    grown = 0
    while doomed and grown != len(doomed):
        grown = len(doomed)
        doomed |= {pid for pid, parent, _ in table if parent in doomed}
    for pid in doomed:
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:  # it has ended, or is not ours
            continue


def holds(command: bytes, directory: bytes) -> bool:
    """Tell whether a command line is the main process of the browser that holds a profile.

    Words end in NUL on Linux. `ps` puts blanks between them, and Chromium's children do so too.
    """
    if b" --type=" in command or b"\0--type=" in command:
        return False
    ends = b"\0" if b"\0" in command else b" "
    return ends + SWITCH + directory + ends in ends + command + ends


def processes() -> list[Process]:
    """List all processes that can be seen."""
    if not os.path.exists("/proc/self/stat"):
        import subprocess  # noqa: PLC0415 - two more MB, and macOS alone needs it

        return parse(subprocess.run(PS, stdout=subprocess.PIPE, check=False).stdout)  # noqa: S603 - a constant
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                stat, command = _read(f"/proc/{name}/stat"), _read(f"/proc/{name}/cmdline")
            except OSError:  # it has ended
                continue
            # The second field is the program's name, in parentheses, and may hold anything.
            found.append((int(name), int(stat[stat.rindex(b")") + 1 :].split()[1]), command))
    return found


def parse(table: bytes) -> list[Process]:
    """Read what `ps -o pid=,ppid=,command=` prints."""
    fields = (line.split(None, 2) for line in table.splitlines())
    return [(int(pid), int(parent), command) for pid, parent, command in (f for f in fields if len(f) == 3)]  # noqa: PLR2004


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read()


if __name__ == "__main__":
    main()
