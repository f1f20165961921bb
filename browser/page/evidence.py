"""What is kept of a page that went wrong: picture and HTML, without what people wrote, their names and numbers."""

import re
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files

from playwright.async_api import Page

from browser.engine.seam import bounded
from browser.page.selectors import Selectors
from errors import SendError

TAKING = files("browser.page").joinpath("evidence.js").read_text("utf-8")
SECONDS = 5.0  # for each of its steps; a page that takes longer is left alone
CAP = 2_000_000  # characters of HTML

#: elements in which people speak, and not the page
HIDDEN = (
    "pane", "panel", "header", "header_title", "contact", "quote", "suggestions", "compose", "search", "chat_row",
    "chat_title", "bubble", "text", "pairing_cells", "pairing_input",
)  # fmt: skip
#: the same by structure alone, for a page that changed so much that the selectors do not find them
HIDDEN_ALWAYS = (
    "#pane-side", "[data-id]", "[data-pre-plain-text]", '[contenteditable="true"]', "input", "textarea", "span[title]",
    '[role="grid"]', '[role="row"]', '[role="gridcell"]', '[role="listitem"]', '[role="application"]',
    "[aria-details]", '[aria-label^="Enter code"]', ".selectable-text",
)  # fmt: skip
#: what speaks for the page even where chats are shown
OPEN = ('[role="alert"]', '[role="alertdialog"]', '[data-testid*="butterbar"]', '[data-testid*="banner"]')
#: any of these means that chats are shown
WITHIN = ("#side", "#pane-side", "#main")
WITHIN_ELEMENTS = ("pane", "panel", "chat_row", "compose")
#: labels that selectors ask for are the page's, wherever they stand
LABEL = re.compile(r"""\[aria-label[*^$~|]?=["']([^"']+)["']""")


@dataclass(frozen=True)
class Evidence:
    """A PNG and HTML without private text; empty where the page did not give them."""

    png: bytes
    html: str


async def take(page: Page, selectors: Selectors, seconds: float = SECONDS) -> Evidence:
    """Take what a page gives, each step within so many seconds, and raise nothing: one that hangs gives nothing."""
    html, png = "", b""
    with suppress(SendError):
        taken = await bounded(page.evaluate_handle(f"(asked) => ({TAKING})(asked)", _asked(selectors)), seconds)
        try:
            html = await bounded(taken.evaluate("taken => taken.html"), seconds)
            # With its caret, which Playwright would hide by a style, and leave an empty one behind.
            picture = await bounded(page.screenshot(timeout=seconds * 1000, caret="initial"), seconds + 1)
        finally:
            # It fails when the page went to another document meanwhile, which has no veil: then there is no picture.
            await bounded(taken.evaluate("taken => taken.unveil()"), seconds)
        png = picture
    return Evidence(png, html)


def _asked(selectors: Selectors) -> dict[str, object]:
    elements = selectors.elements
    labels = [label for tries in elements.values() for css in tries for label in LABEL.findall(css)]
    return {
        "hidden": [css for name in HIDDEN for css in elements[name]] + list(HIDDEN_ALWAYS),
        "open": elements["dialog"] + list(OPEN),
        "within": [css for name in WITHIN_ELEMENTS for css in elements[name]] + list(WITHIN),
        "codes": elements["qr_ref"],
        "linking": elements["qr"],
        "known": [label.strip().lower() for label in labels]
        + [each for names in selectors.labels.values() for each in names],
        "version": selectors.version,
        "cap": CAP,
    }
