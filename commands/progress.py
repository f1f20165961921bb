"""Run a long program, with a line that shows its progress. Every Python from 3.7 on can load this file."""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

PULSE = 5.0  # seconds between lines, so that no step is silent for longer
FRAME = 0.2  # seconds between updates of the line in a terminal
WIDTH = 78
TAIL = 20  # last lines of a failed program to keep


class Follower:
    """Runs programs and shows their progress: in a terminal in one line that changes, elsewhere in lines.

    `held` are open files that the programs inherit: locks on them are held for as long as any of the programs runs.
    """

    def __init__(self, *held: int) -> None:
        self._held = held
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the beginning."""
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
        """Run commands in parallel; show `what` and the text that `read` finds in their output, at least every 5 s.

        `read` returns an empty text for a line without news. Returns the exit code and the last lines of the first
        command that fails, or of the first command.
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
    """A running program that puts its lines into a queue; `result` is its exit code and its last lines."""

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
        """Read the output to its end."""
        tail: list[str] = []
        with self._process as process:
            for line in process.stdout or ():
                tail = [*tail, line.rstrip()][-TAIL:]
                self._lines.put(line.rstrip())
        self.result = (process.returncode, tail)
