"""`postrider doctor`: what is well and what is not, a line each."""

import asyncio
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

import psycopg

from browser.census import Census
from browser.chromium import check_driver, find_chromium
from browser.screens import Screen
from browser.whatsapp import WhatsApp
from commands import compose, selectors
from commands.sealed import Survey, walk
from errors import OperatorError, PostriderError, UiChanged
from settings import Settings
from sql import schema
from sql.database import Database
from tasks.states import Account

DISK = 2**30  # bytes that should be free
CLOCK = 5.0  # seconds that our clock and Postgres's may differ; signed requests are refused beyond that
BOOT = 90.0  # seconds
SETTLING = 5.0  # seconds that a screen may take to be whole


def run_doctor(settings: Settings, account: str | None) -> int:
    """Check settings, database, keys, Chromium and so on; with an account, its page; 1 when one is wrong."""
    print("ok    settings  every value is allowed")  # noqa: T201
    checks: list[tuple[str, Callable[[Settings], str]]] = [
        ("database", _database),
        ("schema", _schema),
        ("clock", _clock),
        ("keys", lambda it: asyncio.run(_keys(it))),
        ("chromium", lambda it: asyncio.run(_chromium(it))),
        ("disk", _disk),
    ]
    if account:
        checks.append(("page", lambda it: asyncio.run(_page(it, account))))
    return max(_check(name, check, settings) for name, check in checks)


def _check(name: str, check: Callable[[Settings], str], settings: Settings) -> int:
    try:
        print(f"ok    {name:9} {check(settings)}")  # noqa: T201
    except (PostriderError, psycopg.Error) as error:
        print(f"WRONG {name:9} {str(error).strip().splitlines()[0]}")  # noqa: T201
        return 1
    return 0


def _database(settings: Settings) -> str:
    url = compose.database_url(settings)
    schema.knock(url)
    return "Postgres answers" + ("" if settings.database_url else " (embedded)")


def _schema(settings: Settings) -> str:
    compose.check_schema(compose.database_url(settings))
    return f"fits version {compose.VERSION}"


def _clock(settings: Settings) -> str:
    with psycopg.connect(compose.database_url(settings), connect_timeout=5) as connection:
        began = time.monotonic()
        row = connection.execute("select clock_timestamp()").fetchone()
        took = time.monotonic() - began
    off = abs((datetime.now(UTC) - row[0]).total_seconds()) - took if row else 0.0
    if off > CLOCK:
        raise OperatorError(f"This clock and Postgres's differ by {off:.1f} s; set both by NTP.")
    return f"within {max(off, 0):.2f} s of Postgres's"


async def _keys(settings: Settings) -> str:
    survey = Survey()
    async with Database(compose.database_url(settings), size=1) as database:
        await walk(database, compose.sealer(settings), survey)
    wrong = []
    if survey.closed:
        wrong.append(f"No key of ENCRYPTION_KEY opens {survey.closed}: put the key that sealed them at its end.")
    if survey.left:
        wrong.append(f"Of {survey.told} {survey.left:,} still need an old key: run `postrider keys reseal`.")
    if wrong:
        raise OperatorError(" ".join(wrong))
    return f"all {survey.told} are sealed with the first key"


async def _chromium(settings: Settings) -> str:
    await check_driver()
    found = await find_chromium(
        settings.chromium_path, sandbox=settings.chromium_sandbox, profiles=settings.profiles.resolve()
    )
    sandbox = "is off" if settings.chromium_sandbox == "off" else "starts" if found.sandboxed else "does not start"
    return f"{found.path} {found.version}, its sandbox {sandbox}"


def _disk(settings: Settings) -> str:
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(settings.data_dir).free
    if free < DISK:
        raise OperatorError(f"Only {free // 2**20} MB are free in {settings.data_dir}.")
    return f"{free // 2**30} GB free"


async def _page(settings: Settings, account_id: str) -> str:
    """Open the account's page and print each element: which alternative matched, or that it is missing."""
    found = selectors.source(settings)
    found.load()
    with compose.home(settings.profiles) as home:
        worker, engine = compose.make_worker(settings, compose.database_url(settings), home)
        async with worker.database, engine:
            rows = await worker.database.read(Account, "account_to_drain", account=account_id, keepalive=0)
            if not rows:
                raise OperatorError(f"There is no account {account_id}.")
            if not await worker.seats.lease(account_id):
                raise OperatorError(f"Account {account_id} is open in a worker: disconnect it first.")
            try:
                session = await worker.seats.open(rows[0])
                return await _fit(session.page, found.origin)
            finally:
                await worker.seats.leave(account_id, "looked at by doctor")


async def _fit(page: WhatsApp, origin: str) -> str:
    """Print what was found of each element. Raise OperatorError when one that this screen needs is missing."""
    screen = await page.wait_screen(timeout=BOOT)
    if screen is Screen.MAIN:
        with suppress(UiChanged):  # what is missing is told below
            await page.settle_in()
    census, missing = await _census(page, screen)
    for name, css in census.found.items():
        tries = len(census.selectors.elements[name])
        absent = "MISSING on this screen" if name in missing else "not on this screen"
        print(f"      {name:17} " + (f"{census.places[name] + 1}/{tries} {css}" if css else f"-/{tries} {absent}"))  # noqa: T201
    for css in census.broken:
        print(f"      {css!r} is no CSS that this Chromium knows")  # noqa: T201
    which = f"selectors {census.selectors.version} ({origin})"
    if missing:
        raise OperatorError(f"The screen {screen} lacks {', '.join(missing)} by {which}: see docs/selectors.md.")
    return f"shows the screen {screen}, and {which} find what it needs"


async def _census(page: WhatsApp, screen: Screen) -> tuple[Census, list[str]]:
    """Look until all that the screen needs is there, for some seconds."""
    until = time.monotonic() + SETTLING
    while True:
        census = await page.census()
        missing = census.missing(screen)
        if not missing or time.monotonic() > until:
            return census, missing
        await asyncio.sleep(0.2)
