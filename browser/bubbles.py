"""Messages as the page shows them, and how far each has come. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from browser.selectors import Selectors
from browser.words import same_text

#: how much more blue than red and green the read tick is: rgb(0, 123, 252) against grey rgba(0, 0, 0, .6), and against
#: translucent white in the dark theme (measured 2026-09-08)
BLUE_MARGIN = 40
CHANNELS = 3


class Tick(IntEnum):
    """How far an outgoing message has come."""

    UNKNOWN = -2  # outgoing, but its icon is none that we know
    FAILED = -1  # the page says that it was not sent
    PENDING = 0  # the clock
    SENT = 1  # one tick: the server has it
    DELIVERED = 2  # two ticks
    READ = 3  # two blue ticks


@dataclass(frozen=True)
class Bubble:
    """One message in the open chat."""

    id: str
    text: str
    tick: Tick
    outgoing: bool
    #: pictures in the text, such as emoji, that do not name themselves
    holes: int = 0

    def says(self, text: str) -> bool:
        """Tell whether this is the text, as far as the page lets it be read."""
        return same_text(text, self.text, holes=self.holes)


def read_bubbles(rows: Iterable[dict[str, Any]], selectors: Selectors) -> list[Bubble]:
    """Make bubbles of what reading.js returns, oldest first; notices and dividers are left out."""
    bubbles = []
    for row in rows:
        if not row["bubble"]:
            continue
        tick = read_tick(row["status"], selectors)
        bubbles.append(Bubble(row["id"], row["text"].strip(), tick, _is_outgoing(row, tick), row["holes"]))
    return bubbles


def read_marks(rows: Iterable[dict[str, Any]], selectors: Selectors) -> list[tuple[Tick, str]]:
    """Read the ticks of our messages, each with what the page calls its icon."""
    marks = []
    for row in rows:
        status, tick = row["status"], read_tick(row["status"], selectors)
        if row["bubble"] and _is_outgoing(row, tick):
            marks.append((tick, (status["label"].strip() or status["icon"].strip()) if status else ""))
    return marks


def _is_outgoing(row: dict[str, Any], tick: Tick) -> bool:
    """Tell ours from theirs by the first evidence there is; a run's later bubbles have no tail in the newest page."""
    if row["id"].startswith(("true_", "false_")):
        return bool(row["id"].startswith("true_"))
    if row["outgoing"] or row["incoming"]:
        return bool(row["outgoing"])
    return tick is not Tick.UNKNOWN or row["side"] == "right"


def read_tick(status: dict[str, str] | None, selectors: Selectors) -> Tick:
    """Read a status icon: its accessible name first, then its own name, its colour only to tell delivered from read."""
    if status is None:
        return Tick.UNKNOWN
    label = status["label"].strip().lower()
    for meaning, names in selectors.labels.items():
        if label in names:
            return Tick[meaning.upper()]
    icon = status["icon"].strip().lower()
    meaning = next((meaning for meaning, names in selectors.icons.items() if icon in names), "unknown")
    if meaning in {"delivered_or_read", "delivered"}:
        return Tick.READ if _is_blue(status["color"]) else Tick.DELIVERED
    return Tick[meaning.upper()]


def _is_blue(color: str) -> bool:
    channels = [float(number) for number in re.findall(r"[\d.]+", color)[:CHANNELS]]
    return len(channels) == CHANNELS and channels[2] - max(channels[:2]) > BLUE_MARGIN
