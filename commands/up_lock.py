"""One `up` at a time per directory of profiles; the next one waits until the last one's children have ended."""

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

#: the first is locked by an `up` until it begins to stop, the second by it and its children until all have ended
UP, CHILDREN = "up.lock", "up.children.lock"
WAIT = 90.0  # seconds to wait for the children of an earlier `up`; they need 45 s at most
POLL_SECONDS = 0.2


@dataclass
class Turn:
    """The locks of an `up`. A file lock ends with the last process that has the file open, even if it is killed."""

    _up: TextIO
    _children: TextIO

    @property
    def handed_on(self) -> int:
        """The open file that children inherit, so that they hold the second lock too."""
        return self._children.fileno()

    def is_over(self) -> None:
        """Release the first lock: the next `up` now waits for us instead of being refused."""
        self._up.close()


@contextmanager
def turn(profiles: Path, tell: Callable[[str], None]) -> Iterator[Turn]:
    """Hold both locks of the directory within the block.

    Raises OperatorError at once if another `up` is running, and if the children of an earlier one do not end.
    """
    profiles.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as stack:
        up, children = (stack.enter_context((profiles / name).open("a+")) for name in (UP, CHILDREN))
        if not _lock(up):
            up.seek(0)
            raise OperatorError(
                f"Postrider is up already on the profiles in {profiles}, as process {up.read().strip()}: end that one "
                "first, or set another DATA_DIR, PORT and WORKER_PORT for this one."
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
                f"Processes of the last Postrider here have not ended after {WAIT:.0f} s; kill {_holders(path)}."
            )
        time.sleep(POLL_SECONDS)


def _lock(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holders(path: Path) -> str:
    """List the other processes that have a file open."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid != os.getpid() and any(Path(held.path) == path.resolve() for held in process.open_files()):
                found.append(str(process.pid))
    return ", ".join(found) or f"the process that has {path} open"
