"""The sandbox over HTTP: our stand-in for WhatsApp Web, with a phone to scan and numbers that misbehave."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Mount

from browser.sandbox import phone, recipients, web
from browser.sandbox.loopback import LoopbackOnly
from browser.sandbox.problem import problem
from browser.sandbox.sandbox import Sandbox
from browser.sandbox.timing import Timing
from errors import RequestError


def create_sandbox(data_dir: Path, timing: Timing = Timing()) -> Starlette:  # noqa: B008 - it is frozen
    """Return the sandbox on `<data_dir>/sandbox.sqlite`, to be mounted anywhere; its URLs are relative.

    Call `state.sandbox.stop()` before the server stops: it ends the event streams, for which the server would wait. The
    lifespan of the app closes the file.
    """
    app = Starlette(
        routes=[
            *web.routes,
            *recipients.routes,
            Mount("/accounts/{account}", routes=phone.routes),
        ],
        middleware=[Middleware(LoopbackOnly)],
        exception_handlers={RequestError: problem, HTTPException: problem},
        lifespan=_lifespan,
    )
    app.state.sandbox = Sandbox.open(data_dir, timing)
    return app


def sandbox_alone(data_dir: Path, timing: Timing = Timing()) -> Starlette:  # noqa: B008 - it is frozen
    """Return an app that has nothing but the sandbox, at /sandbox; its state and its lifespan are the sandbox's."""
    sandbox = create_sandbox(data_dir, timing)
    app = Starlette(routes=[Mount("/sandbox", sandbox)], lifespan=_lifespan)
    app.state.sandbox = sandbox.state.sandbox
    return app


@asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    try:
        yield
    finally:
        app.state.sandbox.store.close()
