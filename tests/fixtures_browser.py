"""The sandbox in process, a browser engine, and pages of both DOM generations."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import pytest
from starlette.applications import Starlette

import server
from browser.engine import profile
from browser.engine.engine import Engine, look_for
from browser.page import selectors
from browser.page.bubbles import Bubble
from browser.page.reader import Patience
from browser.page.screens import Screen
from browser.page.whatsapp import WhatsApp
from browser.sandbox.app import sandbox_alone
from browser.sandbox.timing import Timing
from commands import demo_timing
from commands.client import looks
from errors import EnterNotTaken

T = TypeVar("T")
#: the generations of the page
DOMS = ("legacy", "bare", "2026-08")
#: for tests of what all draw alike: it is seen on the newest one, and on the others in the long tests
EACH_DOM = [*(pytest.param(dom, marks=pytest.mark.long) for dom in DOMS[:-1]), DOMS[-1]]
HARSH = "-harsh"
#: each generation, plain and harsh
KINDS = tuple(dom + harsh for dom in DOMS for harsh in ("", HARSH))
#: Each generation once. A test is run on one of its kinds, and on all of them in the long tests: see conftest.py.
GENERATIONS = ("legacy", "bare-harsh", "2026-08-harsh")
SELECTORS = selectors.load()
#: what takes a person's while on the real page takes a moment here
TIMING = replace(
    demo_timing.TIMING,
    qr_first_life=1.5,
    qr_life=0.3,
    delivered=0.1,
    read=0.15,
    popup_after=0.01,
    offline=1.0,
    reconnect=0.5,
)
PATIENCE = Patience(
    answer=4.0,
    navigation=10.0,
    chat=15.0,
    search=0.06,
    doubt=0.4,
    quiet=0.15,
    arrival=0.3,
    click=2.0,  # in a run of all tests, a busy machine took more than one second
    typed=1.0,
    taken=0.4,
    settle=0.2,
    status=1.5,
    again=0.3,
    offline=6.0,
    unknown=1.0,
    poll=0.05,
)
_numbers = itertools.count(15551000001)
_accounts = itertools.count(1)


def new_phone() -> str:
    """Return a number that nobody has written to."""
    return str(next(_numbers))


@dataclass(frozen=True)
class Pages:
    """The sandbox's server, and WhatsApp pages opened on it."""

    origin: str
    http: httpx2.AsyncClient
    engine: Engine
    root: Path

    async def phone(self, account: str, act: str, **fields: str) -> None:
        """Do something on the account's phone."""
        answer = await self.http.post(f"/sandbox/accounts/{account}/{act}", json=fields)
        assert answer.is_success, answer.text

    async def received(self, phone: str, account: str = "") -> list[str]:
        """Return what a recipient has received, from one account or any: the truth."""
        answer = await self.http.get("/sandbox/messages", params={"phone": phone, "account": account})
        return [item["text"] for item in answer.json()["items"]]

    async def standing(self, account: str) -> dict[str, Any]:
        """Return how the phone's side sees an account."""
        items = (await self.http.get("/sandbox/overview")).json()["items"]
        return next(item for item in items if item["account"] == account)

    async def open(
        self, account: str, kind: str, *, directory: Path | None = None, patience: Patience = PATIENCE
    ) -> WhatsApp:
        """Open an account's page, which is one of KINDS."""
        directory = directory or profile.directory_of(self.root, account)
        profile.prepare(directory)
        return await WhatsApp.open(
            self.engine,
            directory,
            look_for(account),
            f"{self.origin}/sandbox/web/{account}/{query_of(kind)}",
            selectors=SELECTORS,
            typing_delay_ms=(0, 1),
            patience=patience,
        )

    async def link(self, account: str, page: WhatsApp) -> None:
        """Scan the code that the page shows, and come to rest on the chat list."""
        await page.wait_screen(Screen.QR, timeout=30)
        await until(page.qr)
        await self.phone(account, "scan")
        await page.wait_screen(Screen.MAIN, timeout=30)
        await page.settle_in()

    @asynccontextmanager
    async def linked(self, kind: str, *, patience: Patience = PATIENCE) -> AsyncIterator[tuple[str, WhatsApp]]:
        """Open and link a new account's page for a while."""
        account = new_account()
        page = await self.open(account, kind, patience=patience)
        try:
            await self.link(account, page)
            yield account, page
        finally:
            await page.close()


def query_of(kind: str) -> str:
    """Return what asks the sandbox for a page of this kind."""
    return f"?dom={kind.removesuffix(HARSH)}&harsh={int(kind.endswith(HARSH))}"


def new_account() -> str:
    """Return the id of an account that nobody has used."""
    return f"acc_{next(_accounts):04d}"


async def until(ask: Callable[[], Awaitable[T]], seconds: float = 30) -> T:
    """Ask again and again until the answer is something."""
    async with asyncio.timeout(seconds):
        async for _ in looks(seconds, 0.02):
            if answer := await ask():
                return answer
    raise TimeoutError


async def send(page: WhatsApp, phone: str, text: str) -> Bubble:
    """Send one message and see it leave the clock."""
    await page.open_chat(phone)
    return await page.confirm(text, await press(page, text), 30)


async def press(page: WhatsApp, text: str) -> str | None:
    """Write into the open chat and press Enter, again where the page did not take it; return the anchor."""
    for _ in range(5):
        await page.write(text)
        anchor = await page.arm(10)
        await page.press_enter()
        if await page.held_back():
            continue
        async for _ in looks(PATIENCE.taken, 0.02):
            if await page._box.is_empty() or await page.screen() is not Screen.MAIN:
                return anchor
        with suppress(EnterNotTaken):
            await page.confirm(text, anchor, 5)
            return anchor
    raise AssertionError("The page takes no Enter.")


async def last(page: WhatsApp) -> str | None:
    """Return the id of the open chat's last row."""
    return (await page.inbox.glance()).last


@asynccontextmanager
async def serving(app: Starlette, on_exit: Callable[[], None] | None = None) -> AsyncIterator[str]:
    """Serve an app on a free loopback port; yield its origin."""
    listener = server.listen()
    host, port = listener.getsockname()
    async with server.serving(server.config(app, host, port, grace=1), on_exit, listener):
        yield f"http://{host}:{port}"


@asynccontextmanager
async def sandbox_at(data: Path, timing: Timing) -> AsyncIterator[tuple[str, httpx2.AsyncClient]]:
    """Serve a sandbox at /sandbox; yield its origin and a client of it."""
    app = sandbox_alone(data, timing)
    async with (
        app.router.lifespan_context(app),
        serving(app, app.state.sandbox.stop) as origin,
        httpx2.AsyncClient(base_url=origin) as http,
    ):
        yield origin, http


@pytest.fixture(scope="session")
async def pages(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pages]:
    async with (
        sandbox_at(tmp_path_factory.mktemp("sandbox"), TIMING) as (origin, http),
        Engine(executable=None, sandbox="auto") as engine,
    ):
        yield Pages(origin, http, engine, tmp_path_factory.mktemp("chrome-data"))


@pytest.fixture(scope="session", params=GENERATIONS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
async def linked(pages: Pages, kind: str) -> AsyncIterator[tuple[str, WhatsApp]]:
    """One linked page a kind, for tests that leave it as they found it."""
    async with pages.linked(kind) as opened:
        yield opened


@pytest.fixture
def page(linked: tuple[str, WhatsApp]) -> WhatsApp:
    return linked[1]


@pytest.fixture(scope="session")
async def friend(linked: tuple[str, WhatsApp]) -> str:
    """A number whose chat is in the list, so that opening it needs no reload."""
    phone = new_phone()
    await send(linked[1], phone, "hello, friend")
    return phone
