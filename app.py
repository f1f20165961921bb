"""The HTTP API on one screen: routes, middleware, error handlers, lifespan."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from importlib.metadata import version

from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import BaseRoute

from api import accounts, bootstrap, health, jobs, openapi, problems, qr, send, webhooks
from api.context import Context
from api.headers import Headers
from api.limits import Rates
from api.operations import Operation, routes
from api.orders import Order
from api.pages import Page
from api.waiting import Waiting
from crypto import Sealer
from errors import SettingsWrong
from settings import Settings
from sql.database import Database

OPERATIONS = (
    Operation("POST", "/send", send.send, (202, send.Receipt), takes=Order, refuses=(404,)),
    Operation("POST", "/send/batch", send.send_batch, (200, send.Items), takes=send.Batch),
    Operation("GET", "/jobs", jobs.list_jobs, (200, jobs.Jobs), query=jobs.JobFilter, refuses=(422,)),
    Operation("DELETE", "/jobs", jobs.cancel_jobs, (200, jobs.Cancelled), query=jobs.Cancelling, refuses=(422,)),
    Operation("GET", "/jobs/{jobId}", jobs.show_job, (200, jobs.Job), refuses=(404,)),
    Operation("DELETE", "/jobs/{jobId}", jobs.cancel_job, (200, jobs.Job), refuses=(404, 409)),
    Operation("POST", "/jobs/{jobId}/retry", jobs.retry_job, (202, jobs.Job), takes=jobs.Again, refuses=(404, 409)),
    Operation("GET", "/accounts", accounts.list_accounts, (200, accounts.Accounts), query=Page),
    Operation("POST", "/accounts", accounts.create_account, (201, accounts.Account), takes=accounts.NewAccount),
    Operation("GET", "/accounts/{id}", accounts.show_account, (200, accounts.Account), refuses=(404,)),
    Operation("POST", "/accounts/{id}/connect", accounts.connect, (202, accounts.Account), refuses=(404,)),
    Operation("POST", "/accounts/{id}/disconnect", accounts.disconnect, (202, accounts.Account), refuses=(404,)),
    Operation("POST", "/accounts/{id}/pause", accounts.pause, (202, accounts.Account), refuses=(404,)),
    Operation("POST", "/accounts/{id}/resume", accounts.resume, (202, accounts.Account), refuses=(404,)),
    Operation("GET", "/accounts/{id}/qr", qr.show_qr, (200, qr.Qr), refuses=(404, 409, 410)),
    Operation("GET", "/webhooks", webhooks.list_endpoints, (200, webhooks.Endpoints), query=Page),
    Operation(
        "POST", "/webhooks", webhooks.create_endpoint, (201, webhooks.EndpointWithSecret), takes=webhooks.NewEndpoint
    ),
    Operation("GET", "/webhooks/{id}", webhooks.show_endpoint, (200, webhooks.Endpoint), refuses=(404,)),
    Operation("DELETE", "/webhooks/{id}", webhooks.delete_endpoint, (204, None), refuses=(404,)),
    Operation("GET", "/healthz", health.alive, (200, health.Health), open=True),
    Operation("GET", "/readyz", health.ready, (200, health.Health), refuses=(503,), open=True),
    Operation("GET", "/openapi.json", openapi.show_openapi, (200, None), open=True),
)


def create_app(settings: Settings, database: Database, mounts: Sequence[BaseRoute] = ()) -> Starlette:
    """Return the API on a database that it opens and closes itself; `mounts` come after its own routes."""
    context = _context(settings, database)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with database, bootstrap.kept(context, _bootstrap(settings)):
            yield

    app = Starlette(
        routes=[*routes(OPERATIONS), *mounts],
        middleware=[Middleware(Headers, production=settings.production)],
        exception_handlers=problems.HANDLERS,
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.state.context = context
    app.state.openapi = openapi.document(OPERATIONS, context.version)
    return app


def _context(settings: Settings, database: Database) -> Context:
    if settings.encryption_key is None:
        raise SettingsWrong("ENCRYPTION_KEY must be set")
    return Context(
        database=database,
        sealer=Sealer.from_text(settings.encryption_key.get_secret_value()),
        rates=Rates(settings.rate_limit_per_minute, settings.trust_proxy_hops),
        waiting=Waiting(settings.max_queued),
        production=settings.production,
        version=version("postrider"),
        job_ttl=timedelta(seconds=settings.job_ttl_seconds),
        dedupe=timedelta(seconds=settings.dedupe_seconds),
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
