"""`postrider api` and `postrider worker`: one process each, until a signal."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import FrameType

import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from browser.engine import Engine
from commands import compose
from errors import PostriderError
from settings import Settings
from tasks.worker import Worker

log = logging.getLogger(__name__)

GRACE = 10  # seconds that requests in hand are given when the API stops
PROBE_AGAIN = 300.0  # seconds that a probe of the browser counts for


class Server(uvicorn.Server):
    """uvicorn, telling what to end first: it waits for open streams, and the sandbox's pages hold theirs open."""

    def __init__(self, config: uvicorn.Config, on_exit: Callable[[], None] | None = None) -> None:
        super().__init__(config)
        self._on_exit = on_exit

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop upon a signal."""
        self.end()
        super().handle_exit(sig, frame)

    def end(self) -> None:
        """Stop taking requests."""
        if self._on_exit:
            self._on_exit()
        self.should_exit = True


class Quiet(Server):
    """The same in a process that minds its signals itself."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


def config(app: Starlette, host: str, port: int) -> uvicorn.Config:
    """Return how every server of ours runs."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http="httptools",
        # The address of a client is taken through TRUST_PROXY_HOPS alone.
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=GRACE,
    )


def run_api(settings: Settings) -> int:
    """Serve the API until SIGINT or SIGTERM."""
    url = compose.database_url(settings)
    compose.wait_for_database(url)
    compose.check_schema(url)
    app, on_exit = compose.make_api(settings, url)
    server = Server(config(app, settings.host, settings.port), on_exit)
    uvloop.run(server.serve())
    return 0 if server.started else 1


def run_worker(settings: Settings) -> int:
    """Work until SIGINT or SIGTERM; a second one ends at once. Returns the exit code."""
    url = compose.database_url(settings)
    compose.wait_for_database(url)
    compose.check_schema(url)
    with compose.home(settings.profiles) as home:
        return asyncio.run(_worker(settings, url, home))


async def _worker(settings: Settings, url: str, home: str) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    worker, engine = compose.make_worker(settings, url, home)
    health = config(health_app(worker, engine), settings.host, settings.worker_port)
    async with worker.database, engine, running(health):
        return await worker.run(stop)


@contextlib.asynccontextmanager
async def running(config: uvicorn.Config, on_exit: Callable[[], None] | None = None) -> AsyncIterator[None]:
    """Serve within the block, beside other things."""
    server = Quiet(config, on_exit)
    serving = asyncio.create_task(server.serve())
    try:
        yield
    finally:
        server.end()
        await serving


@contextlib.asynccontextmanager
async def house(settings: Settings, url: str) -> AsyncIterator[Worker]:
    """Run API and worker together in this process within the block: the demo, and the tests of the whole."""
    app, on_exit = compose.make_api(settings, url)
    stop = asyncio.Event()
    with compose.home(settings.profiles) as home:
        worker, engine = compose.make_worker(settings, url, home)
        api = config(app, settings.host, settings.port)
        async with running(api, on_exit), worker.database, engine:
            working = asyncio.create_task(worker.run(stop))
            try:
                yield worker
            finally:
                stop.set()
                await working


def health_app(worker: Worker, engine: Engine) -> Starlette:
    """Return the worker's health: ready when Postgres took its last sign of life and its browser starts."""
    ready = _Cached(engine.probe, PROBE_AGAIN)

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(_: Request) -> Response:
        try:
            if worker.heartbeat.age > worker.heartbeat.lease_seconds:
                return JSONResponse({"status": "no sign of life"}, 503)
            await ready()
        except PostriderError:
            return JSONResponse({"status": "no browser"}, 503)
        return JSONResponse({"status": "ready"})

    return Starlette(routes=[Route("/healthz", healthz), Route("/readyz", readyz)])


class _Cached:
    """A check whose success counts for a while."""

    def __init__(self, check: Callable[[], Awaitable[None]], seconds: float) -> None:
        self._check, self._seconds, self._until = check, seconds, 0.0
        self._lock = asyncio.Lock()

    async def __call__(self) -> None:
        async with self._lock:
            now = asyncio.get_running_loop().time()
            if now > self._until:
                await self._check()
                self._until = asyncio.get_running_loop().time() + self._seconds
