"""The engine: one Playwright driver per worker, which starts browsers that need little memory and look ordinary."""

import asyncio
import hashlib
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from weakref import WeakSet

import psutil
from playwright.async_api import BrowserContext, Playwright

from browser.engine.chromium import Chromium, find_chromium, trial_profile
from browser.engine.flags import BYPASS, FLAGS, PROXIED, identity, user_agent
from browser.engine.playwright_calls import bounded, start_driver
from browser.engine.process import is_running, kill_browsers_of, newest_driver
from browser.engine.proxy import Proxy
from browser.engine.relay import Relay
from errors import BrowserLost, SendError

LOG = logging.getLogger(__name__)

LAUNCH_SECONDS = 60.0
STOP_SECONDS = 10.0
WATCH_SECONDS = 1.0


@dataclass(frozen=True)
class Look:
    """What a page can see of a browser's window; the same for an account at every opening, on any worker."""

    width: int
    height: int
    locale: str = "en-US"
    timezone_id: str = "UTC"


def look_for(account_id: str) -> Look:
    """Derive an account's window size from its id: about that of a common laptop."""
    digest = hashlib.sha256(account_id.encode()).digest()
    return Look(width=1366 + digest[0] % 120, height=768 + digest[1] % 80)


class Engine:
    """Opens browsers. Playwright's driver (about 130 MB) starts at the first opening, and anew after it has died."""

    def __init__(
        self,
        *,
        executable: Path | None = None,
        sandbox: Literal["auto", "on", "off"] = "auto",
        flags: Sequence[str] = FLAGS,
        profiles: Path | None = None,
    ) -> None:
        self._executable = executable
        self._sandbox = sandbox
        self._profiles = profiles
        self._chromium: Chromium | None = None
        self._flags = flags
        self._playwright: Playwright | None = None
        self._starting = asyncio.Lock()
        self._warned = False
        self._watch: asyncio.Task[None] | None = None
        self._losses: WeakSet[asyncio.Event] = WeakSet()
        self._relays: set[Relay] = set()
        #: the browser's version, as in "156.0.8078.79"; empty before the first opening
        self.version = ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self, directory: Path, look: Look, proxy: Proxy | None = None) -> BrowserContext:
        """Start a browser on a prepared profile. Raise ChromiumMissing, BrowserLost or PageHung.

        With a proxy, all traffic of the browser goes through it.
        """
        playwright = await self._driver()
        relay = None if proxy is None else Relay(proxy)
        try:
            context = await self._launch(playwright, directory, look, await relay.start() if relay else None)
        except BaseException:
            if relay is not None:
                relay.close()
            await kill_browsers_of(directory)
            raise
        if relay is not None:
            self._relays.add(relay)
            context.on("close", lambda _: self._end(relay))
        return context

    def _end(self, *relays: Relay) -> None:
        for relay in relays:
            relay.close()
            self._relays.discard(relay)

    async def probe(self) -> None:
        """Open a blank page and close it again, for doctor and readyz. Raise what `open` raises."""
        with trial_profile(self._profiles) as directory:
            context = await self.open(directory, Look(800, 600))
            await bounded(context.close(), STOP_SECONDS)

    async def close(self) -> None:
        """Stop the driver; browsers that are still open end with it, within 2 s."""
        async with self._starting:
            await self._drop()

    async def _driver(self) -> Playwright:
        async with self._starting:
            if self._playwright is not None and not await _answers(self._playwright):
                await self._drop()
            if self._playwright is None:
                self._chromium = await self._find()
                self.version = self._chromium.version
                self._playwright = await start_driver(LAUNCH_SECONDS)
                self._watch = asyncio.create_task(self._watch_driver(await asyncio.to_thread(newest_driver)))
            return self._playwright

    async def _launch(self, playwright: Playwright, directory: Path, look: Look, relay: str | None) -> BrowserContext:
        if self._chromium is None:
            raise BrowserLost
        proxied = PROXIED if relay else ()
        return await bounded(
            playwright.chromium.launch_persistent_context(
                await asyncio.to_thread(directory.resolve),
                executable_path=self._chromium.path,
                headless=True,
                chromium_sandbox=self._chromium.sandboxed,
                args=[*self._flags, *proxied, f"--user-agent={self.user_agent}"],
                proxy={"server": relay, "bypass": BYPASS} if relay else None,
                viewport={"width": look.width, "height": look.height},
                locale=look.locale,
                timezone_id=look.timezone_id,
                # A service worker's requests bypass the overrides set for the page, and it caches old page versions.
                service_workers="block",
            ),
            LAUNCH_SECONDS,
        )

    async def _find(self) -> Chromium:
        found = await find_chromium(self._executable, sandbox=self._sandbox, profiles=self._profiles)
        if self._sandbox == "auto" and not found.sandboxed and not self._warned:
            self._warned = True
            LOG.warning(
                "Chromium's own sandbox does not start here; browsers run without it (CHROMIUM_SANDBOX=auto).",
                extra={"event": "browser.unsandboxed"},
            )
        return found

    def tell_loss(self, event: asyncio.Event) -> None:
        """Set the event when the driver dies, which ends every browser: Playwright itself reports nothing then."""
        self._losses.add(event)

    async def _watch_driver(self, driver: psutil.Process) -> None:
        while is_running(driver):  # noqa: ASYNC110 - there is no event for the end of another process
            await asyncio.sleep(WATCH_SECONDS)
        for event in list(self._losses):
            event.set()
        self._losses.clear()
        self._end(*self._relays)

    async def _drop(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
        self._end(*self._relays)
        playwright, self._playwright = self._playwright, None
        if playwright is not None:
            with suppress(SendError):  # it may be dead already
                await bounded(playwright.stop(), STOP_SECONDS)

    @property
    def user_agent(self) -> str:
        """The browsers' User-Agent."""
        return user_agent(self.version)

    @property
    def identity(self) -> dict[str, Any]:
        """The argument of Emulation.setUserAgentOverride for every page."""
        return identity(self.user_agent, self.version)


async def _answers(playwright: Playwright) -> bool:
    """Make a cheap call to the driver: its API does not say whether its process lives."""
    try:
        context = await bounded(playwright.request.new_context(), STOP_SECONDS)
        await bounded(context.dispose(), STOP_SECONDS)
    except SendError:
        return False
    return True
