"""A duty: something done again and again while the worker lives. `run_once` does it, `keep` is the loop around it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from errors import DatabaseUnavailable

log = logging.getLogger(__name__)


async def keep(name: str, every: float, run_once: Callable[[], Awaitable[object]]) -> None:
    """Do `run_once` every so many seconds until cancelled. What it raises is logged, and the next turn comes."""
    while True:
        try:
            await run_once()
        except DatabaseUnavailable:
            log.warning("%s waits for the database", name)
        except Exception:
            log.exception("%s failed", name)
        await asyncio.sleep(every)
