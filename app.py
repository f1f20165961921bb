"""The HTTP API on one screen: its resources, middleware, error handlers, lifespan."""

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles

from api.accounts import account_health, accounts, pairing, qr, qr_page, qr_tokens
from api.accounts import actions as account_actions
from api.http import problems
from api.http.context import Context
from api.http.direct import Direct
from api.http.middleware import ResponseHeaders
from api.http.operations import routes
from api.openapi import document
from api.operator import admin, health, metrics
from api.operator import orgs as operator_orgs
from api.orgs import orgs
from api.reports import reports
from api.sending import incoming, jobs, opt_outs, send
from api.webhooks import actions as endpoint_actions
from api.webhooks import deliveries, endpoints, recoveries, replays

#: Modules that each have OPERATIONS and their handlers.
RESOURCES = (
    send,
    jobs,
    accounts,
    account_actions,
    account_health,
    qr,
    pairing,
    incoming,
    opt_outs,
    orgs,
    reports,
    endpoints,
    endpoint_actions,
    deliveries,
    replays,
    recoveries,
    qr_tokens,
    admin,
    operator_orgs,
    qr_page,
    health,
    metrics,
    document,
)
OPERATIONS = tuple(operation for resource in RESOURCES for operation in resource.OPERATIONS)


def create_app(
    context: Context, kept: Callable[[], AbstractAsyncContextManager[object]], mounts: Sequence[BaseRoute] = ()
) -> Starlette:
    """Return the API, which keeps `kept` open during its lifespan; `mounts` come after its own routes."""

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            for mount in mounts:
                # Starlette enters the lifespan of the outermost app alone.
                if isinstance(mount, Mount) and isinstance(mount.app, Starlette):
                    await stack.enter_async_context(mount.app.router.lifespan_context(mount.app))
            await stack.enter_async_context(kept())
            yield

    ours = routes(OPERATIONS)
    app = Starlette(
        routes=[*ours, Mount("/qr/static", StaticFiles(packages=[("api.accounts", "static")])), *mounts],
        middleware=[
            Middleware(ResponseHeaders, production=context.production),
            Middleware(Direct, routes=ours, handlers=problems.HANDLERS),
        ],
        exception_handlers=problems.HANDLERS,
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.state.context = context
    app.state.operations = OPERATIONS
    return app
