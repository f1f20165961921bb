"""Run a program that takes long, with a line that says how far it is. Every Python from 3.7 on can load this file."""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

PULSE = 5.0  # seconds; nothing is silent for longer
FRAME = 0.2  # seconds between looks, and between changes of the line in a terminal
WIDTH = 78
TAIL = 20  # lines of a program that failed which are worth reading


class Follower:
    """Runs programs and tells of them. In a terminal one line is written again and again, elsewhere lines follow.

    `held` are open files that the programs inherit: what locks them is locked for as long as any of these runs.
    """

    def __init__(self, *held: int) -> None:
        self._held = held
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long all of it has taken."""
        return time.monotonic() - self._began

    def tell(self, text: str) -> None:
        """Print a line."""
        print(text, flush=True)  # noqa: T201  # a command prints

    def run(
        self,
        what: str,
        *commands: Sequence[str | Path],
        read: Callable[[str], str] = str.strip,
        environment: Mapping[str, str] | None = None,
    ) -> tuple[int, list[str]]:
        """Run commands side by side; say `what` and what `read` finds in their output, at least every 5 s.

        `read` returns an empty text for a line that says nothing. Returns the exit code and the last lines of the first
        command that fails, else of the first one.
        """
        said = ""
        self._show(what)
        shown = time.monotonic()
        lines: queue.Queue[str] = queue.Queue()
        runs = [_Run(command, lines, environment, self._held) for command in commands]
        while any(run.is_alive() for run in runs) or not lines.empty():
            with suppress(queue.Empty):
                said = read(lines.get(timeout=FRAME)) or said
            if time.monotonic() - shown > (FRAME if sys.stdout.isatty() else PULSE):
                shown = time.monotonic()
                self._show(f"{what}: {said}" if said else what)
        self._show("")
        return next((run.result for run in runs if run.result[0] != 0), runs[0].result)

    def _show(self, text: str) -> None:
        line = f"{self.seconds:5.0f} s  {text}" if text else ""
        if sys.stdout.isatty():
            sys.stdout.write("\r\033[K" + line[:WIDTH])
            sys.stdout.flush()
        elif line:
            self.tell(line)


class _Run(threading.Thread):
    """A program that runs, whose lines are put into a queue; `result` is its exit code and its last lines."""

    def __init__(
        self,
        command: Sequence[str | Path],
        lines: queue.Queue[str],
        environment: Mapping[str, str] | None,
        held: Sequence[int],
    ) -> None:
        super().__init__(daemon=True)
        self._lines = lines
        self._process = subprocess.Popen(  # noqa: S603  # ours
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environment,
            pass_fds=held,
        )
        self.result: tuple[int, list[str]] = (0, [])
        self.start()

    def run(self) -> None:
        """Read to the end."""
        tail: list[str] = []
        with self._process as process:
            for line in process.stdout or ():
                tail = [*tail, line.rstrip()][-TAIL:]
                self._lines.put(line.rstrip())
        self.result = (process.returncode, tail)
