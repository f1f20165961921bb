"""Every call of Playwright is made here: bounded in time, with its exceptions translated into ours."""

import asyncio
import re
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from playwright.async_api import Error, Playwright, async_playwright

from errors import BrowserLost, ChromiumMissing, Offline, PageCrashed, PageHung, SendError
from texts import printable

T = TypeVar("T")

#: Playwright's exceptions by class name and a pattern of the message; the first match counts. Chromium's network errors
#: are in net/base/net_error_list.h; those named here mean that the server cannot be reached.
TABLE: tuple[tuple[str, str, type[SendError]], ...] = (
    ("TargetClosedError", "", BrowserLost),
    ("TimeoutError", "", PageHung),
    ("AbortError", "", BrowserLost),
    ("ValidationError", "", PageCrashed),
    ("Error", r"crashed", PageCrashed),
    ("Error", r"net::ERR_(INTERNET|NETWORK|NAME|ADDRESS|CONNECTION|PROXY|SOCKS|TUNNEL|TIMED_OUT|EMPTY|DNS)", Offline),
    ("Error", r"has been closed|connection closed|disconnected|failed to launch", BrowserLost),
    ("Error", "", PageCrashed),
)


def translate(error: Error) -> SendError:
    """Map one of Playwright's exceptions to one of ours, with its first line as detail."""
    name, message = type(error).__name__, printable(str(error))
    for known, pattern, ours in TABLE:
        if name == known and re.search(pattern, message, re.IGNORECASE):
            return ours(f"{ours.__doc__} ({message.splitlines()[0][:200]})")
    return PageCrashed(message)


@contextmanager
def translated() -> Iterator[None]:
    """Translate every Playwright exception that leaves the block."""
    try:
        yield
    except Error as error:
        raise translate(error) from error


async def bounded(step: Coroutine[Any, Any, T], seconds: float) -> T:
    """Await one step for at most `seconds`. Raise PageHung, or what `translate` says.

    Playwright's evaluate has no timeout of its own, and a page whose main thread is blocked never answers.
    """
    with translated():
        try:
            async with asyncio.timeout(seconds):
                return await step
        except TimeoutError as error:
            raise PageHung(f"The page did not answer within {seconds:.0f} s.") from error


async def start_driver(seconds: float) -> Playwright:
    """Start Playwright's driver. Raise PageHung, or ChromiumMissing where it does not start.

    The driver is a bundled Node.js that needs libatomic1, which small images lack; Playwright then raises a bare
    Exception.
    """
    try:
        return await bounded(async_playwright().start(), seconds)
    except SendError:
        raise
    except Exception as error:
        raise ChromiumMissing(f"Playwright's driver does not start ({error}): `postrider doctor` says why.") from error
