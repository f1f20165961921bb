"""Run the sandbox alone: python -m browser.sandbox --port 3100 --data .data."""

import argparse
from pathlib import Path

from browser.sandbox.app import sandbox_alone
from browser.sandbox.timing import Timing
from server import config, run


def main() -> None:
    """Serve the sandbox at /sandbox on a loopback port until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m browser.sandbox", description=__doc__)
    parser.add_argument("--port", type=int, default=3100)
    parser.add_argument("--data", type=Path, default=Path(".data"), help="directory of sandbox.sqlite")
    parser.add_argument(
        "--long-syncing", type=float, default=Timing.long_syncing, help="seconds that a harsh page downloads its chats"
    )
    options = parser.parse_args()
    app = sandbox_alone(options.data, Timing(long_syncing=options.long_syncing))
    run(config(app, "127.0.0.1", options.port), app.state.sandbox.stop)


if __name__ == "__main__":
    main()
