"""docs/page.md: what is known of the page, and how the driver reacts. WRITE_DOCS=1 writes it anew."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fixtures_browser import SELECTORS, Pages, pages, query_of
from fixtures_screens import MEETS
from test_browser_drawing import DRAW
from test_screens_to_states import FATES, Fate

from browser.engine.engine import Look
from browser.page.bubbles import Bubble, Side, Tick, read_tick
from browser.page.reader import Patience, Reader
from browser.page.selectors import Selectors
from browser.sandbox.phone import KINDS

__all__ = ["pages"]

PAGE = Path(__file__).parent.parent / "docs" / "page.md"
BEGINNING = """# What is known of WhatsApp's page, and how Postrider reacts

This page is for the operator who asks why an account stopped, and for anybody who works on the driver. It lists every
screen, status icon, dialog and row of WhatsApp's page that is known, and what Postrider does when it sees it.

`tests/test_page_docs.py` makes this page from the tables that the driver is tested against: do not edit it. What the
page looks like is data ([selectors.md](selectors.md)). The sources are reports of public projects, and the page's own
modules of 2026-08. Nobody has run this against the real page.
"""
SCREENS = """## Screens

The names are those of [the sandbox](sandbox.md), which can show each of them.
"""
ICONS = """## Status icons

The last icon beside the time counts. Its label is read first, then its name; its colour only tells delivered from read.
"""
ROWS_OF_A_CHAT = """## Rows of a chat

This is the page of 2026-08. After a crash, a message counts as not sent only if each row below the last message that
was there before is theirs, no message, or another message of ours, recognised by its id.
"""
FEW_ALTERNATIVES = """## Elements with few alternatives

Elements with fewer than two known alternatives, or fewer than two that work without test ids. If WhatsApp
changes one of these, a new selectors file is needed.
"""
#: elements with fewer alternatives are listed
ENOUGH = 2
GREY, BLUE = "rgba(0, 0, 0, 0.6)", "rgb(0, 123, 252)"
#: kinds of dialogs, and what is done about them
DIALOGS = {
    "closable": "closed by its button",
    "refreshing": "the page is reloaded at once",
    "unrestricted": "closed by its button",
    "restricted": "closed by its button; messages to new chats fail with `new_chats_restricted`, others are sent",
    "capped": "closed by its button; messages to new chats fail with `new_chats_restricted`, others are sent",
    "not_on_whatsapp": "closed by its button; the message fails with `not_on_whatsapp`",
    "pairing_refused": "closed by its button; there is no pairing code",
    "starting_chat": "waited for",
}
#: messages of every kind, as bubble.js draws them
ROWS: list[dict[str, Any]] = [
    *({"kind": kind} for kind in KINDS),
    {"kind": "text", "quote": "what was asked"},
    {"kind": "text", "starred": True},
    *({"kind": "text", "ack": ack, "mine": True} for ack in (0, 1, 2, 3, -1)),
    {"kind": "image", "ack": 2, "mine": True},
]
MEANINGS = {
    Side.OURS: "ours",
    Side.THEIRS: "theirs",
    Side.NOTICE: "no message",
    Side.HIDDEN: "ours or theirs",
    Side.UNKNOWN: "may be ours",
}


def table(*head: str, rows: Iterable[Iterable[str]]) -> str:
    lines = [" | ".join(head), "|".join("---" for _ in head), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" if "---" not in line else f"|{line}|" for line in lines) + "\n"


def fate(one: Fate | None) -> str:
    if one is None:
        return "messages are still sent"
    ends = "until somebody acts, or the page is known again" if one.gate == "ui_changed" else "until somebody acts"
    return f"`{one.state}`, closed by `{one.gate}` {ends if one.for_good else 'for a while'}"


def screens() -> str:
    rows = []
    for name, error in MEETS.items():
        one = FATES[error]
        rows.append((f"`{name}`", f"`{error.code}`" if error else "", fate(one["idle"]), fate(one["opening"])))
    head = ("screen", "error", "in an open session", "in a session that is being opened")
    return table(*head, rows=rows)


def icons() -> str:
    rows = []
    for meaning, names in SELECTORS.icons.items():
        for name in names:
            ticks = {read_tick([{"label": "", "icon": name, "color": c}], SELECTORS) for c in (GREY, BLUE)}
            rows.append(
                (f"`{name}`", meaning.replace("_", " "), ", ".join(sorted(tick.name.lower() for tick in ticks)))
            )
    for meaning, labels in SELECTORS.labels.items():
        rows.append((", ".join(f'"{label}"' for label in labels), meaning, meaning))
    rows.append(("any other", "", "unknown: stops the account if it is on the message in hand, else ignored"))
    return table("icon, or label", "meaning", "read as", rows=rows)


def dialogs() -> str:
    rows = [(", ".join(f'"{text}"' for text in SELECTORS.texts[meaning]), what) for meaning, what in DIALOGS.items()]
    rows.append(
        ("any other", "Escape is pressed; if it stays, the page is opened anew; if it is still there, `ui_changed`")
    )
    rows.append(("a media preview", "left alone, since a person may be about to send it"))
    return table("words", "what is done", rows=rows)


def described(message: dict[str, Any]) -> str:
    words: str = message["kind"]
    if message.get("quote"):
        words += " that answers another"
    if message.get("starred"):
        words += ", starred"
    if "ack" in message:
        acks = {-1: "not sent", 0: "at the clock", 1: "one tick", 2: "two ticks", 3: "blue ticks"}
        words += f" of ours, {acks[message['ack']]}"
    return words


async def rows(reader: Reader) -> str:
    plain = {"text": "the words", "mine": False, "ack": None}
    await reader.page.evaluate(DRAW, [plain | message for message in ROWS])
    bubbles = await reader.bubbles()
    assert len(bubbles) == len(ROWS)
    lines = [(described(message), *read(bubble)) for message, bubble in zip(ROWS, bubbles, strict=True)]
    lines.append(("far from the view, without content", "hidden", MEANINGS[Side.HIDDEN], "", ""))
    return table("row", "read as", "counts as", "status", "text", rows=lines)


def read(bubble: Bubble) -> tuple[str, str, str, str]:
    tick = bubble.tick.name.lower() if bubble.outgoing or bubble.tick is not Tick.UNKNOWN else ""
    return bubble.side.value, MEANINGS[bubble.side], tick, bubble.text


def few_alternatives(selectors: Selectors) -> str:
    lines = []
    for name, tries in selectors.elements.items():
        without = [css for css in tries if "data-testid" not in css]
        if min(len(tries), len(without)) < ENOUGH:
            lines.append((f"`{name}`", str(len(tries)), str(len(without))))
    return table("element", "alternatives", "without test ids", rows=lines)


async def test_the_page_is_described_as_it_is_driven(pages: Pages) -> None:
    context = await pages.engine.open(pages.root / "docs", Look(1000, 700))
    try:
        page = context.pages[0]
        await pages.phone("docs", "show", screen="unknown")
        await page.goto(f"{pages.origin}/sandbox/web/docs/{query_of('2026-08')}")
        await page.get_by_text("Choose your avatar").wait_for()
        drawn = await rows(Reader(page, SELECTORS, Patience()))
    finally:
        await context.close()
    parts = [
        BEGINNING, SCREENS, screens(), ICONS, icons(), "## Dialogs\n", dialogs(), ROWS_OF_A_CHAT, drawn,
        FEW_ALTERNATIVES, few_alternatives(SELECTORS),
    ]  # fmt: skip
    text = "\n".join(parts)
    if os.environ.get("WRITE_DOCS"):
        PAGE.write_text(text, "utf-8")
    assert PAGE.read_text("utf-8") == text, "WRITE_DOCS=1 writes it anew"
