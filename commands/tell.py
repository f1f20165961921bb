"""Telling people something on standard output: at once, or again and again while a command waits."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

EVERY = 5.0  # seconds


def tell(text: str) -> None:
    """Print a text at once; nothing happens where the terminal has been closed, or the pipe."""
    try:
        print(text, flush=True)  # noqa: T201  # a command prints
    except OSError:
        # What is left in the buffer goes nowhere, or it would fail once more at the interpreter's end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@asynccontextmanager
async def keep_telling(text: Callable[[], str]) -> AsyncIterator[None]:
    """Print `text` every 5 s within the block, so that nothing that takes long is silent."""

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
