"""The account that a page is logged in to, and logging out of it."""

import json
from contextlib import suppress
from dataclasses import dataclass

from browser.engine.playwright_calls import bounded
from browser.page.dialogs import close_all, press
from browser.page.reader import Reader
from browser.page.screens import ERRORS, Screen, Sight, recognise
from errors import PageHung, UiChanged
from texts import printable

LOG_OUT_SECONDS = 30.0
#: what the page stores about its account (localStorage, bundle 2026-04)
STORED = """() => ["last-wid-md", "me-display-name"].map((key) => localStorage.getItem(key))"""


@dataclass(frozen=True)
class OwnAccount:
    """A page's account, as far as the page stores it."""

    #: E.164 digits
    phone: str | None
    #: the display name that the owner chose
    name: str | None
    #: The phone's operating system. No known part of the page shows it, or stores it where it can be read.
    platform: str | None = None


async def read_own(reader: Reader) -> OwnAccount:
    """Read the account from the page's localStorage; missing values are None, as before linking."""
    device, name = [_text(kept) for kept in await bounded(reader.page.evaluate(STORED), reader.patience.answer)]
    # A device's id has the account's number, the device's number and the server: 15551234567:12@c.us.
    phone = (device or "").partition("@")[0].partition(":")[0]
    return OwnAccount(phone if phone.isdecimal() else None, name)


def _text(kept: str | None) -> str | None:
    """Decode a stored value: it is JSON, or plain text."""
    with suppress(ValueError):
        kept = json.loads(kept or "null")
    return printable(kept) if isinstance(kept, str) and kept.strip() else None


async def log_out(reader: Reader) -> None:
    """Unlink this browser through the menu; do nothing when it is not linked."""
    screen = recognise(await reader.sight(), reader.selectors)
    if screen is Screen.QR:
        return
    if screen is not Screen.MAIN:
        raise ERRORS[screen](f"The page shows {screen} instead of the chat list, so it cannot log out.")
    await close_all(reader)
    await reader.click(await reader.need("menu"))
    await _click_item(reader)
    async for _ in reader.looks(LOG_OUT_SECONDS):
        sight = await reader.sight()
        if _is_out(sight, reader):
            return
        # The dialog "Log out?" asks for confirmation.
        for name in reader.selectors.texts["log_out"]:
            if any(name in dialog.buttons for dialog in sight.dialogs):
                # It may stay, or go before the click, while the page logs out: the next look tells.
                with suppress(PageHung):
                    await press(reader, name)
                break
    raise PageHung(f"The page had not logged out after {LOG_OUT_SECONDS:.0f} s.")


async def _click_item(reader: Reader) -> None:
    async for _ in reader.looks(reader.patience.doubt):
        if item := await reader.find("log_out"):
            await reader.click(item)
            return
    raise UiChanged(f"The menu has no log_out where one is expected (selectors {reader.selectors.version}).")


def _is_out(sight: Sight, reader: Reader) -> bool:
    left = "post_logout" in sight.path and "pane" not in sight.found
    return left or recognise(sight, reader.selectors) is Screen.QR
