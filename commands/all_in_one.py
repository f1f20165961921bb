"""API, sandbox and worker in one process, for the demo and for end-to-end tests."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

from browser.page.reader import Patience
from browser.sandbox.timing import Timing
from commands import environment
from server import config, running
from settings import Settings
from tasks.worker import Worker
from wiring.api import make_api
from wiring.sandbox import make_sandbox
from wiring.worker import make_worker


@contextlib.asynccontextmanager
async def all_in_one(
    settings: Settings,
    url: str,
    patience: Patience = Patience(),  # noqa: B008 - it is frozen
    timing: Timing = Timing(),  # noqa: B008 - it is frozen
    *,
    listener: socket.socket,
) -> AsyncIterator[Worker]:
    """Run API, sandbox and worker within the block. `listener` listens on the settings' port."""
    sandbox = make_sandbox(settings, timing)
    stop = asyncio.Event()
    with environment.home(settings.profiles) as home:
        worker = make_worker(settings, url, home, patience)
        api = config(make_api(settings, url, sandbox), settings.host, settings.port)
        async with running(api, sandbox.state.sandbox.stop, listener), worker.opened():
            working = asyncio.create_task(worker.run(stop))
            try:
                yield worker
            finally:
                stop.set()
                await working
