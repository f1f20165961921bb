"""A check of a page for an operator: its screen, the elements found, the account's own chat. It sends nothing."""

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

SETTLE_SECONDS = 5.0  # that a screen may take to be complete
POLL_SECONDS = 0.2
NOT_LISTED = "its own chat is not in the chat list, where it appears once it has a message"


@dataclass(frozen=True)
class Fit:
    """An element, and the alternative that matches now; its place is -1 if none does."""

    name: str
    place: int
    alternatives: int
    css: str | None


@dataclass(frozen=True)
class Findings:
    """The result of a check. It has nothing that people wrote, except perhaps the text of an unknown dialog."""

    screen: str
    #: of the selectors
    version: str
    fits: list[Fit]
    #: elements that this screen needs and that are not found
    missing: list[str]
    #: alternatives that this Chromium cannot parse
    broken: list[str]
    #: the account's own chat was opened
    own_chat: bool = False
    #: why the own chat was not opened
    note: str = ""
    #: the page is at fault for that
    failed: bool = False
    #: our messages in that chat by their ticks
    ticks: dict[str, int] = field(default_factory=dict)
    #: the page's names of unknown ticks
    strange: list[str] = field(default_factory=list)


async def examine(page: WhatsApp, *, shown: float, act: bool, reload: bool) -> Findings:
    """Check a page, which may take `shown` seconds to show a screen; with `act`, open the account's own chat, too.

    `reload` allows a reload of the page to open that chat. Raise PageHung, PageCrashed or BrowserLost when the page
    cannot be read.
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
        # It is unknown or still loading: that is the result.
        return await page.screen()


async def _open_own_chat(page: WhatsApp, *, reload: bool) -> bool:
    with suppress(UiChanged):  # the census finds the missing element
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
    """Take a census until no element that the screen needs is missing, for at most SETTLE_SECONDS."""
    until = time.monotonic() + SETTLE_SECONDS
    while True:
        census = await page.census()
        if not census.missing(screen, own_chat=own_chat) or time.monotonic() > until:
            return census
        await asyncio.sleep(POLL_SECONDS)
