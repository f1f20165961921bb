"""Run the sandbox alone: python -m browser.sandbox --port 3100 --data .data."""

import argparse
import socket
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from browser.sandbox.app import create_sandbox
from browser.sandbox.timing import Timing


class Server(uvicorn.Server):
    """Ends the event streams when it is told to stop; otherwise it would wait for every open page."""

    def __init__(self, config: uvicorn.Config, sandbox: Starlette) -> None:
        super().__init__(config)
        self._sandbox = sandbox

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop."""
        self._sandbox.state.sandbox.stop()
        await super().shutdown(sockets)


def main() -> None:
    """Serve the sandbox at /sandbox on a loopback port until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m browser.sandbox", description=__doc__)
    parser.add_argument("--port", type=int, default=3100)
    parser.add_argument("--data", type=Path, default=Path(".data"), help="directory of sandbox.sqlite")
    parser.add_argument(
        "--long-syncing", type=float, default=Timing.long_syncing, help="seconds that a harsh page downloads its chats"
    )
    options = parser.parse_args()
    sandbox = create_sandbox(options.data, Timing(long_syncing=options.long_syncing))
    app = Starlette(routes=[Mount("/sandbox", sandbox)])
    Server(uvicorn.Config(app, host="127.0.0.1", port=options.port, log_level="warning"), sandbox).run()


if __name__ == "__main__":
    main()
