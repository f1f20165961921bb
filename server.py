"""Serve HTTP, alone or in a process that does other things too: how each of our servers runs."""

import asyncio
import contextlib
import gc
import logging
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import cast

import uvicorn
from starlette.applications import Starlette

log = logging.getLogger(__name__)

#: Seconds that an idle connection is kept: longer than clients and balancers do, or we close it as a request arrives.
KEEP_ALIVE = 75
GRACE = 10  # seconds for running requests when a server stops


class Server(uvicorn.Server):
    """A uvicorn that logs where it listens, and calls `on_exit` before it waits for open streams."""

    def __init__(self, config: uvicorn.Config, on_exit: Callable[[], None] | None = None) -> None:
        super().__init__(config)
        self._on_exit = on_exit

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and log it."""
        await super().startup(sockets)
        if self.started:
            log.info(
                "listening on %s:%d", self.config.host, self.config.port,
                extra={"event": "port.open", "host": self.config.host, "port": self.config.port},
            )  # fmt: skip

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop. `on_exit` closes the sandbox's streams, for which uvicorn would wait."""
        if self._on_exit:
            self._on_exit()
        await super().shutdown(sockets)


class _Guest(Server):
    """A server in a process whose other parts handle the signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


def config(
    app: Starlette, host: str, port: int, *, grace: int = GRACE, tls: tuple[Path, Path] | None = None
) -> uvicorn.Config:
    """Return the configuration that all our servers share; `tls` are the files of certificate and key."""
    certificate, key = tls or (None, None)
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http="httptools",
        # Only TRUST_PROXY_HOPS decides the address of a client.
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_config=None,
        lifespan="off",  # `running` enters it
        timeout_graceful_shutdown=grace,
        timeout_keep_alive=KEEP_ALIVE,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )


def listen(port: int = 0) -> socket.socket:
    """Return a socket that listens on a port of the loopback; 0 is one which nobody has."""
    return socket.create_server(("127.0.0.1", port))


def make_garbage_collection_rare() -> None:
    """Make full garbage collections rare: with a thousand running requests each one stops the process up to 0.1 s."""
    gc.freeze()  # imported modules are not searched any more
    gc.set_threshold(10_000, 20, 50)


def run(config: uvicorn.Config, on_exit: Callable[[], None] | None = None) -> None:
    """Serve and do nothing else, until a signal."""
    # Once it has stopped, uvicorn raises the signal again.
    with contextlib.suppress(KeyboardInterrupt):
        Server(config, on_exit).run()


@contextlib.asynccontextmanager
async def running(
    config: uvicorn.Config, on_exit: Callable[[], None] | None = None, listener: socket.socket | None = None
) -> AsyncIterator["asyncio.Task[None]"]:
    """Serve an app within the block, and have its lifespan around that, as `serving` does.

    Raises what the app raises at its start, which uvicorn would only print.
    """
    app = cast("Starlette", config.app)
    async with app.router.lifespan_context(app), serving(config, on_exit, listener) as task:
        yield task


@contextlib.asynccontextmanager
async def serving(
    config: uvicorn.Config, on_exit: Callable[[], None] | None = None, listener: socket.socket | None = None
) -> AsyncIterator["asyncio.Task[None]"]:
    """Serve within the block, beside other things; the task ends early when the port cannot be had.

    A `listener` is served in place of the config's port. The app's lifespan is somebody else's.
    """
    server = _Guest(config, on_exit)
    task = asyncio.create_task(_serve(server, listener))
    try:
        yield task
    finally:
        server.should_exit = True
        await task


async def _serve(server: Server, listener: socket.socket | None) -> None:
    try:
        await server.serve([listener] if listener else None)
    except SystemExit:
        # uvicorn has logged why.
        log.error(  # noqa: TRY400
            "cannot listen on port %d of %s", server.config.port, server.config.host,
            extra={"event": "port.taken", "port": server.config.port},
        )  # fmt: skip
