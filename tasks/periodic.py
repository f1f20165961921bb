"""Periodic tasks: a `run_once` that does the work, and a loop around it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from errors import DatabaseError

log = logging.getLogger(__name__)

PATIENCE = 1.0  # seconds that a call waits for the tasks it has started


async def run_every(name: str, every: float, run_once: Callable[[], Awaitable[object]]) -> None:
    """Call `run_once` every so many seconds until cancelled. Its exceptions are logged and do not end the loop."""
    while True:
        try:
            await run_once()
        except DatabaseError:
            log.warning("%s waits for the database", name, extra={"event": "duty.waits", "duty": name})
        except Exception:
            log.exception("%s failed", name, extra={"event": "duty.failed", "duty": name})
        await asyncio.sleep(every)


class PerKey:
    """Runs one task per key concurrently; a key whose task still runs is skipped."""

    def __init__(self) -> None:
        self._running: dict[str, asyncio.Future[None]] = {}

    async def each(self, work: Mapping[str, Callable[[], Awaitable[None]]], *, patience: float = PATIENCE) -> None:
        """Start a task for each idle key and wait up to `patience` seconds. Raises what a finished task raised."""
        ended = self._ended()
        for name, do in work.items():
            if name not in self._running:
                self._running[name] = asyncio.ensure_future(do())
        if self._running:
            await asyncio.wait(self._running.values(), timeout=patience)
        for task in ended + self._ended():
            task.result()

    def _ended(self) -> list[asyncio.Future[None]]:
        """Return the tasks that have finished, and count them no longer as running."""
        ended = {name: task for name, task in self._running.items() if task.done()}
        for name in ended:
            del self._running[name]
        return list(ended.values())
