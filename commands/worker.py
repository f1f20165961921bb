"""`postrider worker`: a worker, and its health and metrics over HTTP, until a signal."""

import asyncio
import resource
from contextlib import nullcontext
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from api.http import problems
from api.http.middleware import ResponseHeaders
from api.operator import metrics
from commands import environment
from commands.signals import on_signals, on_stdin_ended
from crypto import hash_key
from errors import PostriderError
from server import config, make_garbage_collection_rare, running
from settings import Settings
from sql.roles import Role
from tasks.metrics import WORKER
from tasks.worker import Worker
from wiring.worker import make_worker

if TYPE_CHECKING:
    from browser.page.reader import Patience

OPEN_FILES = 10_240  # of a worker, mostly connections; macOS allows no more


def run_worker(settings: Settings, patience: "Patience | None" = None, *, end_with_stdin: bool = False) -> int:
    """Work until a signal or, with `end_with_stdin`, until standard input ends. Returns the exit code."""
    url = environment.ready_database_url(settings, Role.WORKER)
    _allow_connections()
    with environment.home(settings.profiles) if "sessions" in settings.worker_duties else nullcontext() as home:
        return asyncio.run(_worker(settings, url, home, patience, end_with_stdin=end_with_stdin))


def _allow_connections() -> None:
    """Raise the limit of open files, for many connections to receivers: the soft limit is usually 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


async def _worker(
    settings: Settings, url: str, home: str | None, patience: "Patience | None", *, end_with_stdin: bool
) -> int:
    stop = on_signals()
    if end_with_stdin:
        on_stdin_ended(stop.set)
    worker = make_worker(settings, url, home, patience)
    health = config(health_app(worker, settings), settings.host, settings.worker_port)
    make_garbage_collection_rare()
    async with worker.opened(), running(health):
        return await worker.run(stop)


def health_app(worker: Worker, settings: Settings) -> Starlette:
    """Return the app that serves the worker's health and metrics.

    A worker is ready if Postgres stored its last heartbeat and, if it has sessions, a browser starts.
    """
    admin = hash_key(settings.admin_key.get_secret_value()) if settings.admin_key else None

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(_: Request) -> Response:
        try:
            if worker.heartbeat.age > worker.heartbeat.lease_seconds:
                return JSONResponse({"status": "no sign of life"}, 503)
            await worker.check()
        except PostriderError:
            return JSONResponse({"status": "no browser"}, 503)
        return JSONResponse({"status": "ready"})

    async def show_metrics(request: Request) -> Response:
        metrics.admit(request, admin, proxied=settings.trust_proxy_hops > 0)
        return metrics.answer(WORKER)

    return Starlette(
        routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", show_metrics)],
        middleware=[Middleware(ResponseHeaders, production=settings.production)],
        exception_handlers=problems.HANDLERS,
    )
