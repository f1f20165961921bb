"""A look at a page for a person: its screen, what is found of it, and the account's own chat. It sends nothing."""

import asyncio
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field, replace

from browser.page.bubbles import Tick
from browser.page.census import Census
from browser.page.screens import Screen
from browser.page.whatsapp import WhatsApp
from errors import PageHung, SendError, UiChanged

SETTLING = 5.0  # seconds that a screen may take to be whole
LOOK = 0.2  # seconds between looks at it
NOT_LISTED = "its own chat is not in the chat list, which it is once it has a message"


@dataclass(frozen=True)
class Fit:
    """An element, and the alternative that fits it now; a place of -1 for none."""

    name: str
    place: int
    alternatives: int
    css: str | None


@dataclass(frozen=True)
class Findings:
    """What was found of a page. It holds nothing that people wrote, but for what a dialog that is not known says."""

    screen: str
    #: of the selectors
    version: str
    fits: list[Fit]
    #: elements that this screen needs and that are not found
    missing: list[str]
    #: alternatives that are no CSS to this Chromium
    broken: list[str]
    #: the account's own chat was opened
    own_chat: bool = False
    #: why it was not
    note: str = ""
    #: and that is a fault of the page
    failed: bool = False
    #: our messages in that chat by their ticks
    ticks: dict[str, int] = field(default_factory=dict)
    #: what the page calls ticks that are not known
    strange: list[str] = field(default_factory=list)


async def examine(page: WhatsApp, *, shown: float, act: bool, reload: bool) -> Findings:
    """Look at a page, which may take `shown` seconds to show something; with `act` in the account's own chat, too.

    `reload` allows the page to be loaded anew for it. Raise PageHung, PageCrashed or BrowserLost where it cannot be
    looked at.
    """
    screen = await _screen(page, shown)
    if screen is not Screen.MAIN or not act:
        return await _findings(page, screen)
    try:
        opened = await _open_own_chat(page, reload=reload)
    except SendError as error:
        return replace(await _findings(page, screen), note=error.detail, failed=True)
    found = await _findings(page, screen, own_chat=opened)
    if not opened:
        return replace(found, note=NOT_LISTED)
    marks = await page.marks()
    return replace(
        found,
        own_chat=True,
        ticks=dict(Counter(tick.name.lower() for tick, _ in marks)),
        strange=sorted({name for tick, name in marks if tick is Tick.UNKNOWN and name}),
    )


async def _screen(page: WhatsApp, shown: float) -> Screen:
    try:
        return await page.wait_screen(timeout=shown)
    except (UiChanged, PageHung):
        # Nobody knows it, or it is still loading: that is what is found.
        return await page.screen()


async def _open_own_chat(page: WhatsApp, *, reload: bool) -> bool:
    with suppress(UiChanged):  # what is missing is found by the census
        await page.settle_in()
    return await page.open_own_chat(reload=reload)


async def _findings(page: WhatsApp, screen: Screen, *, own_chat: bool = False) -> Findings:
    census = await _census(page, screen, own_chat=own_chat)
    tries = census.selectors.elements
    return Findings(
        screen=screen,
        version=census.selectors.version,
        fits=[Fit(name, census.places[name], len(tries[name]), css) for name, css in census.found.items()],
        missing=census.missing(screen, own_chat=own_chat),
        broken=list(census.broken),
    )


async def _census(page: WhatsApp, screen: Screen, *, own_chat: bool) -> Census:
    """Look until all that the screen needs is there, for some seconds."""
    until = time.monotonic() + SETTLING
    while True:
        census = await page.census()
        if not census.missing(screen, own_chat=own_chat) or time.monotonic() > until:
            return census
        await asyncio.sleep(LOOK)
