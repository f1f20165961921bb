"""A sandbox on a port of its own, and browser profiles to open it with."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import httpx2
import pytest
from fixtures_browser import EACH_DOM
from fixtures_driver import Lender
from playwright.async_api import BrowserContext, Error, Locator, Page, Playwright, expect

from bench.ports import held_ports
from browser.engine.chromium import candidates
from browser.sandbox.app import sandbox_alone
from browser.sandbox.timing import Timing
from commands import demo_timing
from server import config, listen, running

USER_AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36"

expect.set_options(timeout=30_000)

#: everything that is waited for, short; the rest as shipped
QUICK = replace(
    demo_timing.TIMING, sent=0.1, delivered=0.2, read=0.3, startup=0.0, lookup=0.0, popup_after=0.1, popup_stay=0.0,
    whats_new=0.05, offline=0.6, hang=0.6,
)  # fmt: skip


class SandboxServer:
    """A running sandbox: its `url` ends in a slash and is where it is mounted."""

    def __init__(self, data: Path, timing: Timing) -> None:
        self.data, self.timing = data, timing
        (self.port,) = held_ports(1)
        self.url = f"http://127.0.0.1:{self.port}/sandbox/"
        self.client = httpx2.AsyncClient(base_url=self.url)

    async def start(self) -> None:
        """Serve, again after a stop, on the same port and file."""
        app = sandbox_alone(self.data, self.timing)
        served = running(config(app, "127.0.0.1", self.port), app.state.sandbox.stop, listen(self.port))
        self._stack = AsyncExitStack()
        await self._stack.enter_async_context(served)

    async def stop(self) -> None:
        """Stop; pages lose their connection."""
        await self._stack.aclose()

    async def post(self, path: str, body: object = None) -> httpx2.Response:
        """Do something on the phone's side: `acc/scan`."""
        return await self.client.post(f"accounts/{path}", json=body if body is not None else {})

    async def items(self, path: str) -> list[dict[str, Any]]:
        """Return the items of a list: `messages?phone=…`."""
        response = await self.client.get(path)
        assert response.status_code == 200, response.text
        return list(response.json()["items"])


class Profile:
    """A browser on a profile directory, with one page in it."""

    def __init__(self, server: SandboxServer, context: BrowserContext, account: str) -> None:
        self.server, self.context, self.account = server, context, account
        self.page: Page = context.pages[0]
        self.generation = ""
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    async def goto(self, path: str = "", *, wait: bool = True) -> None:
        """Open an address below the account's page."""
        await self.page.goto(f"{self.server.url}web/{self.account}/{path}", wait_until="load" if wait else "commit")

    async def link(self, generation: str = "2026-08") -> None:
        """Link by scanning the QR code, and wait for the chat list."""
        self.generation = generation
        await self.goto(f"?dom={generation}")
        await self.page.locator("[data-ref] canvas").wait_for()
        assert (await self.server.post(f"{self.account}/scan")).status_code == 200
        await self.chats.wait_for()

    async def open(self, phone: str, text: str = "") -> None:
        """Open a chat by its link, and wait until it can be written in."""
        await self.goto(f"send?phone={phone}&text={text}")
        await self.box.wait_for()

    async def send(self, phone: str, text: str) -> None:
        """Open a chat, type and press Enter."""
        await self.open(phone)
        await self.box.fill(text)
        await self.box.press("Enter")

    @property
    def chats(self) -> Locator:
        return self.page.locator('#pane-side [role="grid"]')

    @property
    def box(self) -> Locator:
        return self.page.locator('#main footer div[contenteditable="true"][role="textbox"]')

    @property
    def bubbles(self) -> Locator:
        return self.page.locator("#main [data-id]")

    @property
    def ticked(self) -> Locator:
        """Bubbles that have left the clock."""
        names = ("Sent", "Delivered", "Read")
        return self.page.locator(", ".join(f'#main [data-id]:has([aria-label=" {name} "])' for name in names))

    def status(self, name: str) -> Locator:
        """Return the status mark that is named so, in a bubble."""
        return self.page.locator(f'#main [data-id] [aria-label=" {name} "]')


@asynccontextmanager
async def serve(data: Path, timing: Timing = QUICK) -> AsyncIterator[SandboxServer]:
    """Run a sandbox for a while."""
    server = SandboxServer(data, timing)
    await server.start()
    try:
        yield server
    finally:
        with suppress(Exception):
            await server.stop()
        await server.client.aclose()


@pytest.fixture(name="playwright", scope="session")
async def a_playwright(one_driver: Lender) -> Playwright:
    return await one_driver.start()


@pytest.fixture(name="sandbox", scope="session")
async def a_sandbox(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SandboxServer]:
    """A running sandbox that all tests share; each takes an account of its own."""
    async with serve(tmp_path_factory.mktemp("sandbox")) as server:
        yield server


@asynccontextmanager
async def browse(
    playwright: Playwright, server: SandboxServer, account: str, directory: Path, *, news: bool = False
) -> AsyncIterator[Profile]:
    """Open a browser on a profile directory.

    The dialog about what is new stays away, as on the loads that come without it, unless `news` is given.
    """
    context = await playwright.chromium.launch_persistent_context(
        directory,
        executable_path=candidates(None)[0],
        chromium_sandbox=False,
        user_agent=USER_AGENT,
        viewport={"width": 1280, "height": 800},
    )
    if not news:
        await context.add_init_script("localStorage.setItem('whats-new-loads', 3)")
    try:
        yield Profile(server, context, account)
    finally:
        with suppress(Error):  # a test may have closed it
            await context.close()


class OpenProfile(Protocol):
    """Opens a browser for a test's own account: on the shared sandbox or another, on a directory by name."""

    async def __call__(
        self, name: str = "profile", *, server: SandboxServer | None = None, news: bool = False
    ) -> Profile: ...


@pytest.fixture(name="open_profile")
async def profiles(
    playwright: Playwright, sandbox: SandboxServer, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[OpenProfile]:
    """Open browser profiles that are closed after the test."""
    account = "".join(c if c.isalnum() else "-" for c in request.node.name)[-60:]
    async with AsyncExitStack() as stack:

        async def open_one(
            name: str = "profile", *, server: SandboxServer | None = None, news: bool = False
        ) -> Profile:
            opened = browse(playwright, server or sandbox, account, tmp_path / name, news=news)
            return await stack.enter_async_context(opened)

        yield open_one


@pytest.fixture(name="generation", params=EACH_DOM)
def a_generation(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(name="profile")
async def a_profile(open_profile: OpenProfile) -> AsyncIterator[Profile]:
    """A browser that has opened nothing yet; the page must not throw while it is used."""
    one = await open_profile()
    yield one
    assert one.errors == []


@pytest.fixture(name="linked", scope="module", params=EACH_DOM)
async def a_linked(
    request: pytest.FixtureRequest,
    playwright: Playwright,
    sandbox: SandboxServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Profile]:
    """A linked browser of each generation, for a module's tests that leave the account as they found it."""
    generation = str(request.param)
    account = f"{request.module.__name__}-{generation}".replace("_", "-")
    async with browse(playwright, sandbox, account, tmp_path_factory.mktemp("linked")) as one:
        await one.link(generation)
        yield one
        assert one.errors == []
