"""The HTTP API on one screen: routes, middleware, error handlers, lifespan."""

import contextlib
import os
import socket
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from importlib.metadata import version

from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles

from api import (
    accounts,
    admin,
    bootstrap,
    deliveries,
    endpoints,
    health,
    incoming,
    jobs,
    metrics,
    openapi,
    optouts,
    orgs,
    pace,
    pairing,
    problems,
    qr,
    qrpage,
    recoveries,
    replays,
    scenes,
    send,
    signing,
    switches,
    visits,
    webhooks,
    wishes,
)
from api.context import Context
from api.headers import Headers
from api.limits import Rates
from api.operations import Operation, routes
from api.orders import Order
from api.pages import Page
from api.parameters import FORM
from api.presence import Presence
from api.waiting import Waiting
from crypto import Sealer, hash_key
from errors import IdempotencyKeyReused, QueueFull, SettingsWrong
from resolver import Resolver
from settings import Settings
from sql.database import Database
from sql.ids import new_id
from sql.pace import Limits

OPERATIONS = (
    Operation(
        "POST",
        "/send",
        send.send,
        (202, send.Receipt),
        takes=Order,
        refuses=(404,),
        raises=(IdempotencyKeyReused, QueueFull),
    ),
    Operation("POST", "/send/batch", send.send_batch, (200, send.Items), takes=send.Batch),
    Operation("GET", "/jobs", jobs.list_jobs, (200, jobs.Jobs), query=jobs.JobFilter, refuses=(422,)),
    Operation("DELETE", "/jobs", jobs.cancel_jobs, (200, jobs.Cancelled), query=jobs.Cancelling, refuses=(422,)),
    Operation("GET", "/jobs/{jobId}", jobs.show_job, (200, jobs.Job), refuses=(404,)),
    Operation("DELETE", "/jobs/{jobId}", jobs.cancel_job, (200, jobs.Job), refuses=(404, 409)),
    Operation("POST", "/jobs/{jobId}/retry", jobs.retry_job, (202, jobs.Job), takes=jobs.Again, refuses=(404, 409)),
    Operation(
        "GET",
        "/jobs/{jobId}/deliveries",
        deliveries.list_job_deliveries,
        (200, deliveries.Deliveries),
        query=Page,
        refuses=(404, 422),
    ),
    Operation("GET", "/accounts", accounts.list_accounts, (200, accounts.Accounts), query=Page),
    Operation("POST", "/accounts", accounts.create_account, (201, accounts.Account), takes=accounts.NewAccount),
    Operation("GET", "/accounts/{id}", accounts.show_account, (200, accounts.Account), refuses=(404,)),
    Operation(
        "PATCH",
        "/accounts/{id}",
        accounts.change_account,
        (200, accounts.Account),
        accounts.Choices,
        refuses=(404, 409),
    ),
    Operation("DELETE", "/accounts/{id}", accounts.delete_account, (202, accounts.Account), refuses=(404,)),
    Operation("POST", "/accounts/{id}/connect", wishes.connect, (202, accounts.Account), refuses=(404,)),
    Operation("POST", "/accounts/{id}/disconnect", wishes.disconnect, (202, accounts.Account), refuses=(404,)),
    Operation("POST", "/accounts/{id}/logout", wishes.log_out, (202, accounts.Account), refuses=(404,)),
    Operation("POST", "/accounts/{id}/pause", wishes.pause, (202, accounts.Account), refuses=(404,)),
    Operation("POST", "/accounts/{id}/resume", wishes.resume, (202, accounts.Account), refuses=(404,)),
    Operation("GET", "/accounts/{id}/health", pace.show_health, (200, pace.AccountHealth), refuses=(404,)),
    Operation("GET", "/accounts/{id}/qr", qr.show_qr, (200, qr.Qr), refuses=(404, 409, 410), forms=qr.DRAWN),
    Operation(
        "GET", "/accounts/{id}/pairing-code", pairing.show_pairing_code, (200, pairing.PairingCode), refuses=(404, 409)
    ),
    Operation(
        "POST",
        "/accounts/{id}/pairing-code",
        pairing.ask_pairing_code,
        (200, pairing.PairingCode),
        pairing.Pairing,
        also=(202,),
        refuses=(404, 409),
    ),
    Operation(
        "GET",
        "/incoming",
        incoming.list_incoming,
        (200, incoming.IncomingMessages),
        query=incoming.IncomingFilter,
        refuses=(422,),
    ),
    Operation(
        "GET", "/opt-outs", optouts.list_opt_outs, (200, optouts.OptOuts), query=optouts.OptOutFilter, refuses=(422,)
    ),
    Operation("POST", "/opt-outs", optouts.create_opt_out, (201, optouts.OptOut), optouts.NewOptOut, also=(200,)),
    Operation("DELETE", "/opt-outs/{phone}", optouts.lift_opt_out, (204, None), refuses=(404, 422)),
    Operation("GET", "/org", orgs.show_org, (200, orgs.Org)),
    Operation("PATCH", "/org", orgs.change_org, (200, orgs.Org), orgs.OrgChanges),
    Operation("GET", "/webhooks", webhooks.list_endpoints, (200, endpoints.Endpoints), query=Page),
    Operation(
        "POST",
        "/webhooks",
        webhooks.create_endpoint,
        (201, endpoints.EndpointWithSecret),
        endpoints.NewEndpoint,
        refuses=(409,),
    ),
    Operation("GET", "/webhooks/{id}", webhooks.show_endpoint, (200, endpoints.Endpoint), refuses=(404,)),
    Operation(
        "PATCH",
        "/webhooks/{id}",
        webhooks.change_endpoint,
        (200, endpoints.EndpointWithSecret),
        endpoints.EndpointChanges,
        refuses=(404, 409),
    ),
    Operation("DELETE", "/webhooks/{id}", webhooks.delete_endpoint, (204, None), refuses=(404,)),
    Operation("POST", "/webhooks/{id}/pause", switches.pause_endpoint, (200, endpoints.Endpoint), refuses=(404, 409)),
    Operation("POST", "/webhooks/{id}/resume", switches.resume_endpoint, (200, endpoints.Endpoint), refuses=(404, 409)),
    Operation("POST", "/webhooks/{id}/disable", switches.disable_endpoint, (200, endpoints.Endpoint), refuses=(404,)),
    Operation("POST", "/webhooks/{id}/enable", switches.enable_endpoint, (200, endpoints.Endpoint), refuses=(404, 409)),
    Operation("POST", "/webhooks/{id}/test", switches.send_test, (202, switches.Trial), refuses=(404, 409)),
    Operation(
        "POST",
        "/webhooks/{id}/rotate-secret",
        webhooks.rotate_secret,
        (200, endpoints.EndpointWithSecret),
        signing.Rotation,
        refuses=(404, 409),
    ),
    Operation(
        "GET",
        "/webhooks/{id}/deliveries",
        deliveries.list_deliveries,
        (200, deliveries.Deliveries),
        query=deliveries.DeliveryFilter,
        refuses=(404, 422),
    ),
    Operation(
        "POST",
        "/webhooks/{id}/replay",
        replays.replay_selection,
        (200, replays.Replays),
        takes=replays.Selection,
        refuses=(404,),
    ),
    Operation(
        "POST",
        "/webhooks/{id}/recover",
        recoveries.recover,
        (202, recoveries.RecoveryId),
        takes=recoveries.Span,
        refuses=(404, 409),
    ),
    Operation(
        "GET",
        "/webhooks/{id}/recoveries/{recoveryId}",
        recoveries.show_recovery,
        (200, recoveries.Recovery),
        refuses=(404,),
    ),
    Operation(
        "GET", "/deliveries/{id}", deliveries.show_delivery, (200, deliveries.DeliveryWithAttempts), refuses=(404,)
    ),
    Operation(
        "POST", "/deliveries/{id}/replay", replays.replay_delivery, (202, deliveries.Delivery), refuses=(404, 409)
    ),
    Operation(
        "POST",
        "/admin/generate-qr-token",
        visits.generate_qr_token,
        (200, visits.QrToken),
        visits.Guest,
        refuses=(403, 404),
        admin=True,
    ),
    Operation("POST", "/admin/pause", admin.pause_all, (200, admin.Paused), admin.Why, refuses=(403,), admin=True),
    Operation("POST", "/admin/resume", admin.resume_all, (200, admin.Paused), admin.Why, refuses=(403,), admin=True),
    Operation(
        "GET",
        "/qr",
        qrpage.open_qr_page,
        (200, qr.Qr),
        query=qrpage.Ticket,
        refuses=(401, 405, 409, 410, 422, 429, 503),
        forms=(*qr.DRAWN, qrpage.HTML),
        open=True,
    ),
    Operation(
        "POST",
        "/qr",
        qrpage.trade_qr_token,
        (200, qr.Qr),
        qrpage.Trade,
        refuses=(401, 403, 409, 410, 429, 503),
        forms=qr.DRAWN,
        bodies=(FORM,),
        open=True,
    ),
    Operation("GET", "/qr/state", qrpage.follow_qr_page, (200, scenes.Scene), refuses=(401, 410, 429, 503), open=True),
    Operation("GET", "/healthz", health.alive, (200, health.Health), open=True),
    Operation("GET", "/readyz", health.ready, (200, health.Health), refuses=(503,), open=True),
    Operation(
        "GET",
        "/metrics",
        metrics.show_metrics,
        (200, None),
        refuses=(401, 403, 429, 503),
        forms=("text/plain",),
        open=True,
    ),
    Operation("GET", "/openapi.json", openapi.show_openapi, (200, None), forms=("application/json",), open=True),
)


def create_app(
    settings: Settings, database: Database, mounts: Sequence[BaseRoute] = (), *, process: str | None = None
) -> Starlette:
    """Return the API on a database that it opens and closes itself; `mounts` come after its own routes.

    `process` is its id in Postgres. Its lifespan raises SettingsWrong for what only the database tells.
    """
    context = make_context(settings, database)
    presence = Presence(
        database,
        process or new_id("api_"),
        f"{socket.gethostname()}:{os.getpid()}",
        context.version,
        context.sealer.fingerprints,
    )

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            for mount in mounts:
                # Starlette enters the lifespan of the outermost app alone.
                if isinstance(mount, Mount) and isinstance(mount.app, Starlette):
                    await stack.enter_async_context(mount.app.router.lifespan_context(mount.app))
            for kept in (database, presence.kept(), bootstrap.kept(context, _bootstrap(settings))):
                await stack.enter_async_context(kept)
            yield

    app = Starlette(
        routes=[*routes(OPERATIONS), Mount("/qr/static", StaticFiles(packages=[("api", "static")])), *mounts],
        middleware=[Middleware(Headers, production=settings.production)],
        exception_handlers=problems.HANDLERS,
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.state.context = context
    app.state.presence = presence
    app.state.operations = OPERATIONS
    return app


def make_context(settings: Settings, database: Database) -> Context:
    """Return what handlers are handed, and what accepts a job without a request. Raises SettingsWrong."""
    if settings.encryption_key is None:
        raise SettingsWrong("ENCRYPTION_KEY must be set")
    return Context(
        database=database,
        sealer=Sealer.from_text(settings.encryption_key.get_secret_value()),
        rates=Rates(settings.rate_limit_per_minute, settings.trust_proxy_hops),
        waiting=Waiting(settings.max_queued),
        production=settings.production,
        proxied=settings.trust_proxy_hops > 0,
        admin=hash_key(settings.admin_key.get_secret_value()) if settings.admin_key else None,
        version=version("postrider"),
        addresses=settings.addresses,
        resolver=Resolver(),
        job_ttl=timedelta(seconds=settings.job_ttl_seconds),
        dedupe=timedelta(seconds=settings.dedupe_seconds),
        pace=pace_limits(settings),
    )


def pace_limits(settings: Settings) -> Limits:
    """Return the limits of pace, for the API and for workers."""
    return Limits(
        per_minute=settings.pace_per_minute,
        per_hour=settings.pace_per_hour,
        per_day=settings.pace_per_day,
        ramp_start=settings.pace_ramp_start,
        ramp_step=settings.pace_ramp_step,
        ramp_max=settings.pace_ramp_max,
        per_recipient_hour=settings.pace_per_recipient_hour,
        gap_seconds=settings.pace_gap_seconds,
        quiet_hours=settings.quiet_hours,
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
