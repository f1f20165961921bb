"""`postrider api`: the HTTP API, until a signal."""

import asyncio
import logging
import time

import uvloop
from starlette.applications import Starlette

from commands import environment
from commands.signals import on_signals, on_stdin_ended
from errors import DatabaseError, DatabaseUnavailable
from server import config, make_garbage_collection_rare, running
from settings import Settings
from sql.database import Database
from sql.roles import Role
from wiring.api import make_api

log = logging.getLogger(__name__)

POLL_SECONDS = 5.0  # between checks that the database answers


def run_api(settings: Settings, sandbox: Starlette | None = None, *, end_with_stdin: bool = False) -> int:
    """Serve the API until a signal or, with `end_with_stdin`, until standard input ends. Returns the exit code.

    In development it serves a sandbox too: the given one, or a new one.
    """
    url = environment.ready_database_url(settings, Role.API)
    return uvloop.run(_api(settings, url, sandbox or _sandbox(settings), end_with_stdin=end_with_stdin))


def _sandbox(settings: Settings) -> Starlette | None:
    if settings.production:
        return None
    # Imported here, since production never needs it.
    from wiring.sandbox import make_sandbox  # noqa: PLC0415

    return make_sandbox(settings)


async def _api(settings: Settings, url: str, sandbox: Starlette | None, *, end_with_stdin: bool) -> int:
    stop = on_signals()
    if end_with_stdin:
        on_stdin_ended(stop.set)
    app = make_api(settings, url, sandbox)
    on_exit = sandbox.state.sandbox.stop if sandbox else None
    make_garbage_collection_rare()
    async with running(config(app, settings.host, settings.port), on_exit) as serving:
        fatal = asyncio.create_task(_away_for_long(url, settings.database_grace_seconds))
        signs = [asyncio.create_task(event.wait()) for event in (stop, app.state.fatal)]
        await asyncio.wait([*signs, fatal, serving], return_when=asyncio.FIRST_COMPLETED)
    if stop.is_set():
        log.info("the API has stopped", extra={"event": "api.stopped"})
    return 0 if stop.is_set() else 1


async def _away_for_long(url: str, grace: float) -> None:
    """Return when the database has been away for longer than the grace; never with a grace of 0.

    It asks on a connection of its own: a pool that is fully in use, or a slow query, is no outage.
    """
    seen = time.monotonic()
    async with Database(url, Role.API, size=1, name="postrider watch") as database:
        while not grace or time.monotonic() - seen < grace:
            await asyncio.sleep(POLL_SECONDS)
            try:
                await database.one("database_time")
            except DatabaseUnavailable:
                continue
            except DatabaseError:
                log.debug("the database answers, but does not do its work")
            seen = time.monotonic()
    reason = f"the database has been away for more than {grace:.0f} s"
    log.error("the API ends: %s", reason, extra={"event": "api.failed", "reason": reason})
