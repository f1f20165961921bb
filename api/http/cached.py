"""The result of an asynchronous call, shared by all who ask within some seconds."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Cached(Generic[T]):
    """Calls `fetch` at most once in `seconds`, and never twice at a time. An exception is shared like a result."""

    def __init__(self, fetch: Callable[[], Awaitable[T]], seconds: float) -> None:
        self._fetch = fetch
        self._seconds = seconds
        self._until = 0.0
        self._task: asyncio.Task[T] | None = None

    async def get(self) -> T:
        """Return the result of the newest call, which may still be running."""
        if self._task is None or (self._task.done() and time.monotonic() >= self._until):
            self._task = asyncio.create_task(self._call())
        # Shielded: a client that goes away must not end the call of the others.
        return await asyncio.shield(self._task)

    async def _call(self) -> T:
        try:
            return await self._fetch()
        finally:
            self._until = time.monotonic() + self._seconds
