"""The API, put together from the settings."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from functools import partial

from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Mount

import app
from api.http.cached import Cached
from api.http.context import Context
from api.http.key_cache import KeyCache
from api.http.rate_limit import RateLimit
from api.operator import bootstrap
from api.operator.heartbeat import Heartbeat
from api.sending.acceptance import Acceptance
from api.sending.flush import FLUSHES, Flusher
from crypto import Sealer, hash_key
from errors import SettingsWrong
from resolver import Resolver
from settings import Settings
from sql.database import Database
from sql.ids import new_id
from sql.roles import Role
from wiring.shared import VERSION, pace_limits

#: Requests that wait for a connection in a burst; a further one would wait for a second or more, and is turned away.
MOST_WAITING = 300
#: The part of the connections that lists and metrics use at most, so that slow ones leave some to /send.
READING_SHARE = 0.4
READING_PATIENCE = 3.0  # seconds that a list waits for one of them
PROBES_SHARE = 1.0  # seconds for which one look at the schema answers all readiness probes


def make_api(settings: Settings, url: str, sandbox: Starlette | None = None) -> Starlette:
    """Return the API, in development with the sandbox mounted on it."""
    process = new_id("api_")
    # Older processes, which do not write down their keys, have the bare name; `keys reseal` finds them by it.
    database = Database(url, Role.API, name=f"postrider api {process}", most_waiting=MOST_WAITING)
    return create_app(settings, database, [Mount("/sandbox", sandbox)] if sandbox else [], process=process)


def create_app(
    settings: Settings, database: Database, mounts: Sequence[BaseRoute] = (), *, process: str | None = None
) -> Starlette:
    """Return the API on a database that it opens and closes itself; `mounts` come after its own routes.

    `process` is its id in Postgres. Its lifespan raises SettingsWrong for faults that only the database shows.
    """
    context = make_context(settings, database)
    fatal = asyncio.Event()
    flushing = database.apart(FLUSHES + 1)  # one wakes lanes
    flusher = Flusher(make_acceptance(settings, flushing), fatal)
    heartbeat = Heartbeat(
        database,
        process or new_id("api_"),
        f"{socket.gethostname()}:{os.getpid()}",
        context.version,
        context.sealer.fingerprints,
        fatal=fatal,
    )

    @contextlib.asynccontextmanager
    async def kept() -> AsyncIterator[None]:
        async with database, heartbeat.kept(), bootstrap.kept(context, _bootstrap(settings)), flushing, flusher.kept():
            yield

    made = app.create_app(context, kept, mounts)
    made.state.heartbeat = heartbeat
    made.state.acceptance = make_acceptance(settings, database)
    made.state.flusher = flusher
    made.state.fatal = fatal
    return made


def make_acceptance(settings: Settings, database: Database) -> Acceptance:
    """Return what accepts orders, of requests and others."""
    return Acceptance(
        database,
        ttl=timedelta(seconds=settings.job_ttl_seconds),
        dedupe=timedelta(seconds=settings.dedupe_seconds),
        max_queued=settings.max_queued,
    )


def make_context(settings: Settings, database: Database) -> Context:
    """Return the context of the handlers. Raises SettingsWrong."""
    if settings.encryption_key is None:
        raise SettingsWrong("ENCRYPTION_KEY must be set")
    return Context(
        database=database,
        reading=database.share(
            max(1, int(database.size * READING_SHARE)), patience=READING_PATIENCE, planned_anew=True
        ),
        sealer=Sealer.from_text(settings.encryption_key.get_secret_value()),
        schema_state=Cached(partial(database.all, "schema_state"), PROBES_SHARE),
        keys=KeyCache(lambda hashed: database.one("find_key", hash=hashed), database.admit),
        rate_limit=RateLimit(settings.rate_limit_per_minute, settings.requests_of_an_org, settings.trust_proxy_hops),
        production=settings.production,
        proxied=settings.trust_proxy_hops > 0,
        admin=hash_key(settings.admin_key.get_secret_value()) if settings.admin_key else None,
        version=VERSION,
        addresses=settings.addresses,
        resolver=Resolver(),
        job_ttl=timedelta(seconds=settings.job_ttl_seconds),
        pace=pace_limits(settings),
    )


def _bootstrap(settings: Settings) -> bootstrap.Bootstrap:
    return bootstrap.Bootstrap(
        api_key=_revealed(settings.api_key),
        api_secret=_revealed(settings.api_secret),
        webhook_url=settings.webhook_url,
        webhook_secret=_revealed(settings.webhook_secret),
    )


def _revealed(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None
