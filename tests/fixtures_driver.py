"""Playwright's driver, one for a whole test process: each start takes 0.8 s of processor time, and 130 MB."""

import asyncio
from typing import Any, cast

import pytest
from playwright.async_api import Playwright

from browser.engine import engine, playwright_calls


class Lent:
    """A driver that goes on when one who has borrowed it stops it."""

    def __init__(self, driver: Playwright) -> None:
        self._driver = driver

    def __getattr__(self, name: str) -> Any:
        return getattr(self._driver, name)

    async def stop(self) -> None:
        """Give it back."""


class Lender:
    """Starts a driver when the first one is asked for, and lends it to all."""

    def __init__(self) -> None:
        self._driver: Playwright | None = None
        self._starting = asyncio.Lock()

    async def start(self, seconds: float = 60) -> Playwright:
        """Lend the driver, in place of `playwright_calls.start_driver`."""
        async with self._starting:
            if self._driver is None:
                self._driver = await playwright_calls.start_driver(seconds)
            return cast("Playwright", Lent(self._driver))

    async def stop(self) -> None:
        """End it, with all that its borrowers have left open."""
        if self._driver is not None:
            await self._driver.stop()


def let_engines_have_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a test that harms the driver."""
    monkeypatch.setattr(engine, "start_driver", playwright_calls.start_driver)
