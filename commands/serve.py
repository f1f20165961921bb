"""`postrider api` and `postrider worker`: one process each, until a signal."""

import asyncio
import contextlib
import gc
import logging
import resource
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import cast

import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from api import metrics, problems
from api.headers import Headers
from browser.engine import Engine
from browser.reader import Patience
from browser.sandbox.timing import Timing
from commands import compose, environment
from commands.signals import on_signals, on_stdin_ended
from crypto import hash_key
from errors import DatabaseUnavailable, PostriderError
from settings import Settings
from sql.database import Database
from tasks.metrics import WORKER
from tasks.worker import Worker

log = logging.getLogger(__name__)

#: Seconds that an idle connection is kept: longer than clients and balancers keep theirs, or a request meets its end.
KEEP_ALIVE = 75
GRACE = 10  # seconds that requests in hand are given when the API stops
LOOK = 5.0  # seconds between looks whether the database is there
CONNECTIONS = 10_240  # and other open files of a worker; macOS allows no more
PROBE_AGAIN = 300.0  # seconds that a probe of the browser counts for


class Server(uvicorn.Server):
    """uvicorn beside other things: it leaves the signals to them, and ends what would hold it up first."""

    def __init__(self, config: uvicorn.Config, on_exit: Callable[[], None] | None = None) -> None:
        super().__init__(config)
        self._on_exit = on_exit

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        if self.started:
            log.info(
                "listening on %s:%d", self.config.host, self.config.port,
                extra={"event": "port.open", "host": self.config.host, "port": self.config.port},
            )  # fmt: skip

    def end(self) -> None:
        """Stop taking requests. It waits for open streams, and the sandbox's pages hold theirs open."""
        if self._on_exit:
            self._on_exit()
        self.should_exit = True

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
        lifespan="off",  # it is `running` that enters it
        timeout_graceful_shutdown=GRACE,
        timeout_keep_alive=KEEP_ALIVE,
    )


def run_api(
    settings: Settings,
    timing: Timing = Timing(),  # noqa: B008 - it is frozen
    *,
    end_with_stdin: bool = False,
) -> int:
    """Serve the API until a signal or, if so told, until standard input ends. Returns the exit code."""
    url = environment.ready_database_url(settings)
    return uvloop.run(_api(settings, url, timing, end_with_stdin=end_with_stdin))


async def _api(settings: Settings, url: str, timing: Timing, *, end_with_stdin: bool) -> int:
    stop = on_signals()
    if end_with_stdin:
        on_stdin_ended(stop.set)
    app, on_exit = compose.make_api(settings, url, timing)
    async with running(config(app, settings.host, settings.port), on_exit) as serving:
        fatal = asyncio.create_task(_away_for_long(app.state.context.database, settings.database_grace_seconds))
        signs = [asyncio.create_task(event.wait()) for event in (stop, app.state.presence.fatal)]
        await asyncio.wait([*signs, fatal, serving], return_when=asyncio.FIRST_COMPLETED)
    if stop.is_set():
        log.info("the API has stopped", extra={"event": "api.stopped"})
    return 0 if stop.is_set() else 1


async def _away_for_long(database: Database, grace: float) -> None:
    """Return when the database has been away for longer than the grace; never with a grace of 0."""
    seen = time.monotonic()
    while not grace or time.monotonic() - seen < grace:
        await asyncio.sleep(LOOK)
        with contextlib.suppress(DatabaseUnavailable):
            await database.one("the_time")
            seen = time.monotonic()
    reason = f"the database has been away for more than {grace:.0f} s"
    log.error("the API ends: %s", reason, extra={"event": "api.failed", "reason": reason})


def run_worker(
    settings: Settings,
    patience: Patience = Patience(),  # noqa: B008 - it is frozen
    *,
    end_with_stdin: bool = False,
) -> int:
    """Work until a signal or, if so told, until standard input ends. Returns the exit code."""
    url = environment.ready_database_url(settings)
    _allow_connections()
    with environment.home(settings.profiles) as home:
        return asyncio.run(_worker(settings, url, home, patience, end_with_stdin=end_with_stdin))


def search_less_for_garbage() -> None:
    """Let a search of all objects be rare: with a thousand requests under way each stops everything for up to 0.1 s."""
    gc.freeze()  # what was imported is searched no more
    gc.set_threshold(10_000, 20, 50)


def _allow_connections() -> None:
    """Let this process have many connections to receivers, if the system allows it: the soft limit is mostly 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = CONNECTIONS if hard == resource.RLIM_INFINITY else min(CONNECTIONS, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


async def _worker(settings: Settings, url: str, home: str, patience: Patience, *, end_with_stdin: bool) -> int:
    stop = on_signals()
    if end_with_stdin:
        on_stdin_ended(stop.set)
    worker, engine = compose.make_worker(settings, url, home, patience)
    health = config(health_app(worker, engine, settings), settings.host, settings.worker_port)
    search_less_for_garbage()
    async with worker.database, engine, running(health):
        return await worker.run(stop)


def listen() -> socket.socket:
    """Return a socket that listens on a port of the loopback which nobody has."""
    return socket.create_server(("127.0.0.1", 0))


@contextlib.asynccontextmanager
async def running(
    config: uvicorn.Config, on_exit: Callable[[], None] | None = None, listener: socket.socket | None = None
) -> AsyncIterator["asyncio.Task[None]"]:
    """Serve within the block, beside other things; the task ends early when the port cannot be had.

    A `listener` is served in place of the config's port. Raises what the app raises at its start, which uvicorn would
    only print.
    """
    server, app = Server(config, on_exit), cast("Starlette", config.app)
    async with app.router.lifespan_context(app):
        serving = asyncio.create_task(_serve(server, listener))
        try:
            yield serving
        finally:
            server.end()
            await serving


async def _serve(server: Server, listener: socket.socket | None) -> None:
    try:
        await server.serve([listener] if listener else None)
    except SystemExit:
        # uvicorn has said why.
        log.error(  # noqa: TRY400
            "port %d of %s cannot be had", server.config.port, server.config.host,
            extra={"event": "port.taken", "port": server.config.port},
        )  # fmt: skip


@contextlib.asynccontextmanager
async def house(
    settings: Settings,
    url: str,
    patience: Patience = Patience(),  # noqa: B008 - it is frozen
    timing: Timing = Timing(),  # noqa: B008 - it is frozen
    *,
    listener: socket.socket,
) -> AsyncIterator[Worker]:
    """Run API and worker together in this process within the block: the demo, and the tests of the whole.

    `listener` listens on the settings' port.
    """
    app, on_exit = compose.make_api(settings, url, timing)
    stop = asyncio.Event()
    with environment.home(settings.profiles) as home:
        worker, engine = compose.make_worker(settings, url, home, patience)
        api = config(app, settings.host, settings.port)
        async with running(api, on_exit, listener), worker.database, engine:
            working = asyncio.create_task(worker.run(stop))
            try:
                yield worker
            finally:
                stop.set()
                await working


def health_app(worker: Worker, engine: Engine, settings: Settings) -> Starlette:
    """Return the worker's health, ready when Postgres took its last sign of life and a browser starts; and metrics."""
    admin = hash_key(settings.admin_key.get_secret_value()) if settings.admin_key else None
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

    async def show_metrics(request: Request) -> Response:
        metrics.admit(request, admin, proxied=settings.trust_proxy_hops > 0)
        return metrics.answer(WORKER)

    return Starlette(
        routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", show_metrics)],
        middleware=[Middleware(Headers, production=settings.production)],
        exception_handlers=problems.HANDLERS,
    )


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
