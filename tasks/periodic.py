"""A duty: something done again and again while the worker lives. `run_once` does it, `keep` is the loop around it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from errors import DatabaseUnavailable

log = logging.getLogger(__name__)

PATIENCE = 1.0  # seconds that one turn waits for whoever is busy


async def run_every(name: str, every: float, run_once: Callable[[], Awaitable[object]]) -> None:
    """Do `run_once` every so many seconds until cancelled. What it raises is logged, and the next turn comes."""
    while True:
        try:
            await run_once()
        except DatabaseUnavailable:
            log.warning("%s waits for the database", name, extra={"event": "duty.waits", "duty": name})
        except Exception:
            log.exception("%s failed", name, extra={"event": "duty.failed", "duty": name})
        await asyncio.sleep(every)


class PerKey:
    """Does something for each of many, in its own time: one that is busy holds up no other, nor the next turn."""

    def __init__(self) -> None:
        self._running: dict[str, asyncio.Future[None]] = {}

    async def each(self, work: Mapping[str, Callable[[], Awaitable[None]]], *, patience: float = PATIENCE) -> None:
        """Begin what is not under way since an earlier turn, and wait a little. Raises what one of them raised."""
        for name, do in work.items():
            if name not in self._running:
                self._running[name] = asyncio.ensure_future(do())
        if self._running:
            done, _ = await asyncio.wait(self._running.values(), timeout=patience)
            self._running = {name: task for name, task in self._running.items() if task not in done}
            for task in done:
                task.result()
