"""The guard's program: kills browsers at their deadline, even if the worker that opened them is frozen or dead.

guard.py runs it as a script, one per worker. It imports only the smallest modules of the standard library (8 MB in
all). It reads lines from stdin: `keep <deadline on the monotonic clock> <profile directory, hex>`,
`forget <directory, hex>`, and `beat`, which it answers. When stdin closes, the worker has ended: then every browser
with a deadline is killed.
"""
# pathlib would add a quarter to its memory:
# ruff: noqa: PTH110, PTH123, PTH208

import os
import select
import signal
import time
from collections.abc import Iterable

#: seconds between kills after a profile's deadline: its browser may have been starting
RETRY_SECONDS = 1.0
#: after the worker's end: how long a browser that was starting may still appear, and how often it is looked for
LINGER_SECONDS, POLL_SECONDS = 1.0, 0.2

PS = ("/bin/ps", "-axwwo", "pid=,ppid=,command=")
SWITCH = b"--user-data-dir="
#: a process: its id, its parent's id, and its command line, with NUL after each argument where the system has that
Process = tuple[int, int, bytes]


def main() -> None:
    """Obey the lines on stdin until it closes, then kill every browser that still has a deadline."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # A service manager may signal every process of the service, but the guard must outlast the worker.
        signal.signal(number, signal.SIG_IGN)
    due: dict[bytes, float] = {}
    _guard(due)
    until = time.monotonic() + LINGER_SECONDS
    while due:
        end(due.keys())
        if time.monotonic() > until:
            break
        time.sleep(POLL_SECONDS)


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
            due.update(dict.fromkeys(over, now + RETRY_SECONDS))


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
    """Tell whether a command line is that of the main process of a browser on this profile.

    Arguments end in NUL on Linux. `ps` separates them by blanks, and so do Chromium's child processes.
    """
    if b" --type=" in command or b"\0--type=" in command:
        return False
    ends = b"\0" if b"\0" in command else b" "
    return ends + SWITCH + directory + ends in ends + command + ends


def processes() -> list[Process]:
    """List all visible processes."""
    if not os.path.exists("/proc/self/stat"):
        import subprocess  # noqa: PLC0415 - it takes 2 MB, and only macOS needs it

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
