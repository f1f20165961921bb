"""Closing dialogs and hint bars."""

import re
from contextlib import suppress

from browser.engine.playwright_calls import bounded
from browser.page.reader import Doubts, Reader
from browser.page.screens import Dialog, says
from errors import PageHung, UnknownDialog

CLOSE_SECONDS = 20.0
#: attempts to close one dialog before it counts as one that does not go away
MAX_TRIES = 3
#: hint bars that may be stacked
MAX_BARS = 5


async def close_all(reader: Reader, quiet: float = 0) -> None:
    """Close every dialog and hint bar, until none has come for `quiet` seconds. Raise UnknownDialog when one stays.

    An open dialog intercepts clicks, and an unanswered "What's new" has led to a logout five minutes after linking
    (rmyndharis/OpenWA #982). A media preview is never closed: a person is about to send it.
    """
    closed: list[Dialog] = []
    doubts = Doubts()
    async for _ in reader.looks(CLOSE_SECONDS):
        dialogs = [dialog for dialog in (await reader.sight()).dialogs if not dialog.media]
        if doubts.last("quiet", quiet, seen=not dialogs):
            break
        if not dialogs:
            continue
        # The last one is usually on top; if it does not go away, another one is tried.
        dialog = min(reversed(dialogs), key=closed.count)
        if closed.count(dialog) >= MAX_TRIES:
            raise UnknownDialog(f"A dialog does not go away: {dialog.text[:200]}")
        closed.append(dialog)
        await close(reader, dialog)
    # A bar covers nothing, and may go by itself before the click.
    with suppress(PageHung):
        for _ in range(MAX_BARS):
            if (bar := await reader.find("butterbar_close")) is None:
                break
            await reader.click(bar)


async def close(reader: Reader, dialog: Dialog) -> None:
    """Close one dialog, and wait until it is gone: a known one by its button, any other by Escape."""
    # A dialog on top of it may intercept the click; the caller sees that one in its next read.
    with suppress(PageHung):
        await _answer(reader, dialog)
    async for _ in reader.looks(reader.patience.doubt):
        if dialog not in (await reader.sight()).dialogs:
            return


async def _answer(reader: Reader, dialog: Dialog) -> None:
    if says(reader.selectors, "refreshing", dialog.text):
        # Otherwise the page would reload itself in the middle of a message.
        await bounded(reader.page.reload(wait_until="domcontentloaded"), reader.patience.navigation)
        return
    names = [name for name in reader.selectors.texts["dismiss"] if name in dialog.buttons]
    if names and is_known(reader, dialog):
        await press(reader, names[0])
    elif says(reader.selectors, "closable", dialog.text) and (button := await reader.find("dialog_ok")):
        await reader.click(button)
    else:
        await bounded(reader.page.keyboard.press("Escape"), reader.patience.answer)


def is_known(reader: Reader, dialog: Dialog) -> bool:
    """Tell whether a dialog only informs: the button of any other may log out, or agree to terms."""
    informs = ("closable", "not_on_whatsapp", "restricted", "capped", "unrestricted", "pairing_refused")
    return any(says(reader.selectors, meaning, dialog.text) for meaning in informs)


async def press(reader: Reader, name: str) -> None:
    """Click a dialog's button by its full name; of two buttons with that name, one may be covered by the other."""
    exactly = re.compile(rf"^\s*{re.escape(name)}\s*$", re.IGNORECASE)
    inside = reader.page.locator(", ".join(reader.selectors.elements["dialog"]))
    buttons = inside.get_by_role("button", name=exactly)
    try:
        await reader.click(buttons.last)
    except PageHung:
        await reader.click(buttons.first)
