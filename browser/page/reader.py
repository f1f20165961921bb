"""The reader: asks a page one question at a time, each answered by one bounded call of reading.js."""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from playwright.async_api import JSHandle, Locator, Page

from browser.engine.playwright_calls import bounded
from browser.page.bubbles import Bubble, read_bubbles
from browser.page.screens import Sight
from browser.page.selectors import Selectors
from errors import PageCrashed, SendError, UiChanged

#: a page that navigates more often than this during one question is broken
MAX_NAVIGATIONS = 5
READING = files("browser.page").joinpath("reading.js").read_text("utf-8")


@dataclass(frozen=True)
class Patience:
    """How long each step may take or must last, in seconds."""

    #: one answer of the page, or one click
    answer: float = 15.0
    #: a click, with the wait until its target is at rest and uncovered
    click: float = 3.0
    #: without a dialog, before a fresh chat list counts as free of them
    quiet: float = 0.6
    #: a navigation up to its HTML
    navigation: float = 60.0
    #: a page that was just opened, up to a screen that lasts (a cold boot was measured at 20-25 s)
    boot: float = 90.0
    #: opening a chat, including a cold boot
    chat: float = 90.0
    #: without a change, before a page that was just opened counts as having received the messages that it missed
    arrival: float = 1.5
    #: a search in the chat list
    search: float = 2.0
    #: that a state which may pass by itself must last to count: a dialog, a wrong chat, a missing compose box
    doubt: float = 3.0
    #: for the box to show the last key; it is slow with a text of thousands of lines
    typed: float = 5.0
    #: for the box to be empty after Enter
    taken: float = 3.0
    #: between two reads that must agree that nothing was sent
    settle: float = 3.0
    #: for our message to show a readable status, once the box is empty
    status: float = 10.0
    #: before a screen that would end a login is read a second time
    again: float = 12.0
    #: no connection, before the account is said to be offline
    offline: float = 20.0
    #: an unknown screen, before the page counts as changed
    unknown: float = 20.0
    #: between two reads
    poll: float = 0.2


class Doubts:
    """Tracks since when each questionable state has been seen without a break."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def last(self, what: str, seconds: float, *, seen: bool = True) -> bool:
        """Note whether `what` is seen now; tell whether it has been for `seconds`."""
        if not seen:
            self._since.pop(what, None)
            return False
        return time.monotonic() - self._since.setdefault(what, time.monotonic()) >= seconds


class Reader:
    """Reads one page. Every method raises PageHung, PageCrashed or BrowserLost when the page does not answer."""

    def __init__(self, page: Page, selectors: Selectors, patience: Patience) -> None:
        self.page = page
        self.selectors = selectors
        self.patience = patience
        #: the readers in the document that was asked last, and the selectors that they were made with
        self._readers: tuple[Selectors, JSHandle] | None = None

    async def ask(self, question: str, **more: Any) -> Any:
        """Call one of the readers in reading.js, and again if the page has navigated meanwhile."""
        asked = [question, json.dumps(more)]
        for tries_left in range(MAX_NAVIGATIONS, -1, -1):
            known = self._readers
            try:
                readers = await self._made()
                told = await bounded(readers.evaluate("(read, asked) => read(...asked)", asked), self.patience.answer)
                return json.loads(told)
            except PageCrashed as error:
                self._readers = None
                if not tries_left or "context was destroyed" not in str(error.__cause__):
                    raise
                # Readers of an earlier document fail only when they are used: then there is no reason to wait.
                if known is None:
                    await asyncio.sleep(self.patience.poll)
        raise PageCrashed

    async def _made(self) -> JSHandle:
        """Return the document's readers, made by reading.js at the first question: compiling it takes 2 ms.

        The page cannot reach them, and they end with the document.
        """
        if self._readers is None or self._readers[0] is not self.selectors:
            made = await bounded(self.page.evaluate_handle(READING, self.selectors.elements), self.patience.answer)
            self._readers = (self.selectors, made)
        return self._readers[1]

    async def answers(self, seconds: float) -> bool:
        """Tell whether the page answers at all."""
        try:
            await bounded(self.page.evaluate("1"), seconds)
        except SendError:
            return False
        return True

    async def sight(self) -> Sight:
        """Read the whole screen."""
        return Sight.of(await self.ask("sight"))

    async def bubbles(self) -> list[Bubble]:
        """Read the open chat's messages that are in the DOM, oldest first."""
        return read_bubbles(await self.ask("rows"), self.selectors)

    async def find(self, element: str) -> Locator | None:
        """Locate an element by its first alternative that is visible now."""
        alternatives = self.selectors.elements[element]
        place = await self.ask("place", alternatives=alternatives)
        return None if place is None else self.page.locator(alternatives[place[0]]).nth(place[1])

    async def need(self, element: str) -> Locator:
        """Locate an element that must be there. Raise UiChanged with its name."""
        if (found := await self.find(element)) is None:
            raise self.lacks(element)
        return found

    def lacks(self, element: str) -> UiChanged:
        """Make the exception for an element that must be there and is not."""
        detail = f"The page has no {element} where one is expected (selectors {self.selectors.version})."
        return UiChanged(detail, element=element)

    async def click(self, target: Locator) -> None:
        """Click as a person does: by a trusted event, in the middle, once the target is at rest."""
        await bounded(target.click(timeout=self.patience.click * 1000), self.patience.click + 1)

    async def looks(self, seconds: float, *, least: int = 1) -> AsyncIterator[float]:
        """Yield the seconds that have passed, at once and then at each poll, until `seconds` are over.

        It yields `least` times in any case: on a busy machine one read may take longer than all of them should.
        """
        began, looked = time.monotonic(), 0
        while (passed := time.monotonic() - began) < seconds or looked < least:
            yield passed
            looked += 1
            await asyncio.sleep(self.patience.poll)


def secret_name() -> str:
    """Make a random name for something on the page, which the page cannot guess."""
    return f"_{secrets.token_hex(8)}"
