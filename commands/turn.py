"""One `up` at a time on a directory of profiles; the next one waits until what the last one left has ended."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import psutil

from errors import OperatorError

#: held by an `up` until it begins to stop, and by it and its children until the last of them has ended
UP, CHILDREN = "up.lock", "up.children.lock"
WAIT = 90.0  # seconds that the children of an earlier one are waited for; they need 45 s at most
LOOK = 0.2  # seconds between looks


@dataclass
class Turn:
    """What an `up` holds. A lock ends with the last process that has its file open, however that ends."""

    _up: TextIO
    _children: TextIO

    @property
    def handed_on(self) -> int:
        """The open file that children are given, so that they count."""
        return self._children.fileno()

    def is_over(self) -> None:
        """Let the next one wait for us, in place of being refused."""
        self._up.close()


@contextmanager
def turn(profiles: Path, tell: Callable[[str], None]) -> Iterator[Turn]:
    """Hold the directory's turn within the block.

    Raises OperatorError at once while another `up` runs, and when what an earlier one left does not end.
    """
    profiles.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as stack:
        up, children = (stack.enter_context((profiles / name).open("a+")) for name in (UP, CHILDREN))
        if not _lock(up):
            up.seek(0)
            raise OperatorError(
                f"Postrider is up already on the profiles in {profiles}, as process {up.read().strip()}: end that one "
                "first, or give this one a DATA_DIR, a PORT and a WORKER_PORT of its own."
            )
        up.truncate(0)
        up.write(str(os.getpid()))
        up.flush()
        if not _lock(children):
            tell(
                "Waiting for the last Postrider here to end: it finishes the message in hand and closes its browsers …"
            )
            _wait(children, profiles / CHILDREN)
        yield Turn(up, children)


def _wait(file: TextIO, path: Path) -> None:
    end = time.monotonic() + WAIT
    while not _lock(file):
        if time.monotonic() > end:
            raise OperatorError(
                f"What the last Postrider here left has not ended after {WAIT:.0f} s; kill {_holders(path)}."
            )
        time.sleep(LOOK)


def _lock(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holders(path: Path) -> str:
    """List the processes that have a file open, but for this one."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid != os.getpid() and any(Path(held.path) == path.resolve() for held in process.open_files()):
                found.append(str(process.pid))
    return ", ".join(found) or f"whatever has {path} open"
