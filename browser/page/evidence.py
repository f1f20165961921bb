"""Evidence of a page that went wrong: a screenshot and the HTML, without people's texts, names and numbers."""

import re
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files

from playwright.async_api import Page

from browser.engine.playwright_calls import bounded
from browser.page.selectors import Selectors
from errors import SendError

SCRIPT = files("browser.page").joinpath("evidence.js").read_text("utf-8")
STEP_SECONDS = 5.0  # for each step; a page that takes longer gives no evidence
MAX_HTML = 2_000_000  # characters

#: elements with the text of people, not of the page
HIDDEN = (
    "pane", "panel", "header", "header_title", "contact", "quote", "suggestions", "compose", "search", "chat_row",
    "chat_title", "bubble", "text", "pairing_cells", "pairing_input",
)  # fmt: skip
#: the same by structure alone, for a page that has changed so much that the selectors do not find them
HIDDEN_ALWAYS = (
    "#pane-side", "[data-id]", "[data-pre-plain-text]", '[contenteditable="true"]', "input", "textarea", "span[title]",
    '[role="grid"]', '[role="row"]', '[role="gridcell"]', '[role="listitem"]', '[role="application"]',
    "[aria-details]", '[aria-label^="Enter code"]', ".selectable-text",
)  # fmt: skip
#: elements with the page's own text, readable even while chats are shown
OPEN = ('[role="alert"]', '[role="alertdialog"]', '[data-testid*="butterbar"]', '[data-testid*="banner"]')
#: any of these means that chats are shown
WITHIN = ("#side", "#pane-side", "#main")
WITHIN_ELEMENTS = ("pane", "panel", "chat_row", "compose")
#: a label that a selector asks for is the page's own text, wherever it appears
LABEL = re.compile(r"""\[aria-label[*^$~|]?=["']([^"']+)["']""")


@dataclass(frozen=True)
class Evidence:
    """A PNG and HTML without private text; empty where the page did not give them."""

    png: bytes
    html: str


async def take(page: Page, selectors: Selectors, seconds: float = STEP_SECONDS) -> Evidence:
    """Take evidence of a page, each step within so many seconds. Raise nothing: a page that hangs gives none."""
    html, png = "", b""
    with suppress(SendError):
        taken = await bounded(page.evaluate_handle(f"(asked) => ({SCRIPT})(asked)", _asked(selectors)), seconds)
        try:
            html = await bounded(taken.evaluate("taken => taken.html"), seconds)
            # With the caret: Playwright would hide it by a style element, and leave that behind, empty.
            picture = await bounded(page.screenshot(timeout=seconds * 1000, caret="initial"), seconds + 1)
        finally:
            # This fails when the page has navigated meanwhile: the new document has no veil, so the picture is dropped.
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
        "cap": MAX_HTML,
    }
