"""Print to standard output: at once, or repeatedly while a command waits."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

EVERY = 5.0  # seconds between lines


def tell(text: str) -> None:
    """Print and flush a text; do nothing if the terminal or the pipe has been closed."""
    try:
        print(text, flush=True)  # noqa: T201  # a command prints
    except OSError:
        # Discard the rest of the buffer, which would fail again at the interpreter's exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@asynccontextmanager
async def keep_telling(text: Callable[[], str]) -> AsyncIterator[None]:
    """Print `text()` every 5 s within the block, so that a long wait is not silent."""

    async def again() -> None:
        while True:
            await asyncio.sleep(EVERY)
            tell(text())

    telling = asyncio.create_task(again())
    try:
        yield
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
