"""Messages as the page shows them, with their status. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Any

from browser.page.selectors import Selectors
from browser.page.text_matching import same_text, surely_same

#: how much more blue than red and green the read tick is: rgb(0, 123, 252) against grey rgba(0, 0, 0, .6), and against
#: translucent white in the dark theme (measured 2026-09-08)
BLUE_MARGIN = 40
CHANNELS = 3


class Tick(IntEnum):
    """The status of an outgoing message."""

    UNKNOWN = -2  # outgoing, with an unknown icon
    FAILED = -1  # the page says that it was not sent
    PENDING = 0  # the clock
    SENT = 1  # one tick: the server has it
    DELIVERED = 2  # two ticks
    READ = 3  # two blue ticks


class Side(Enum):
    """Who wrote a row of the message list."""

    OURS = "ours"
    THEIRS = "theirs"
    NOTICE = "notice"  # the page itself
    HIDDEN = "hidden"  # not known: far from the view, where a row has an id and no content
    UNKNOWN = "unknown"  # a row of an unknown kind


@dataclass(frozen=True)
class Bubble:
    """One row of the open chat that has an id: a message, in most cases."""

    id: str
    text: str
    tick: Tick
    side: Side
    #: pictures in the text, such as emoji, without alternative text
    holes: int = 0
    #: it has a text that can be read
    written: bool = True
    #: why the page says that it was not sent
    failure: str = ""
    #: the page's name of its status
    mark: str = ""

    @property
    def outgoing(self) -> bool:
        """Whether it is a message of ours."""
        return self.side is Side.OURS

    @property
    def is_message(self) -> bool:
        """Whether it is a message of either side, and can be read."""
        return self.side in {Side.OURS, Side.THEIRS}

    def says(self, text: str) -> bool:
        """Tell whether this row shows the text, as far as it can be read."""
        return self.written and same_text(text, self.text, holes=self.holes)

    def surely_says(self, text: str) -> bool:
        """Tell whether this row shows the text, and enough of it to identify the message by its text alone."""
        return self.written and surely_same(text, self.text, holes=self.holes)


def own_id(bubble: str) -> str:
    """Return a message's own id; an older page puts direction and chat before it: false_1555…@c.us_3EB0…."""
    parts = bubble.split("_")
    return parts[2] if len(parts) > 2 and parts[0] in {"true", "false"} else bubble  # noqa: PLR2004 - parts of such an id


def read_bubbles(rows: Iterable[dict[str, Any]], selectors: Selectors) -> list[Bubble]:
    """Make bubbles of what reading.js returns, oldest first; dates and the unread divider have no id and are absent."""
    return [_read(row, selectors) for row in rows]


def read_statuses(rows: Iterable[dict[str, Any]], selectors: Selectors) -> dict[str, Tick]:
    """Make the statuses by message of what reading.js returns: UNKNOWN or FAILED for one that was not sent."""
    return {row["id"]: _status(row, selectors)[0] for row in rows}


def _read(row: dict[str, Any], selectors: Selectors) -> Bubble:
    tick, mark = _status(row, selectors)
    side = _side(row, tick)
    failed = (
        side is Side.OURS and tick is Tick.UNKNOWN and bool(row["failed"] or _named(row["icons"], "failed", selectors))
    )
    return Bubble(
        id=row["id"],
        text=row["text"].strip(),
        tick=Tick.FAILED if failed else tick,
        side=side,
        holes=row["holes"],
        written=row["written"],
        failure=(row["failed"] or "") if failed else "",
        mark=mark,
    )


def _side(row: dict[str, Any], tick: Tick) -> Side:
    """Tell ours from theirs by the first evidence; in the newest page only the first bubble of a run has a tail."""
    if not row["content"]:
        return Side.HIDDEN
    evidence: tuple[tuple[Side, bool], ...] = (
        (Side.NOTICE, row["notice"]),
        (Side.OURS, row["bubble"] and row["id"].startswith("true_")),
        (Side.THEIRS, row["bubble"] and row["id"].startswith("false_")),
        (Side.OURS, row["outgoing"]),
        (Side.THEIRS, row["incoming"]),
        (Side.OURS, tick not in {Tick.UNKNOWN, Tick.FAILED} or row["side"] == "right"),
        (Side.THEIRS, row["side"] == "left"),
    )
    return next((side for side, is_so in evidence if is_so), Side.UNKNOWN)


def _status(row: dict[str, Any], selectors: Selectors) -> tuple[Tick, str]:
    """Read the last icon beside the time; without one, the last icon in the row that is a known status."""
    if status := row["status"]:
        return _tick(status[-1], selectors), status[-1]["label"].strip() or status[-1]["icon"].strip()
    return read_tick(row["icons"], selectors), ""


def read_tick(icons: list[dict[str, str]], selectors: Selectors) -> Tick:
    """Read the last of these icons that is a known status; UNKNOWN if none is."""
    known = (tick for icon in reversed(icons) if (tick := _tick(icon, selectors)) is not Tick.UNKNOWN)
    return next(known, Tick.UNKNOWN)


def _named(icons: list[dict[str, str]], meaning: str, selectors: Selectors) -> bool:
    return any(icon["icon"].strip().lower() in selectors.icons[meaning] for icon in icons)


def _tick(icon: dict[str, str], selectors: Selectors) -> Tick:
    """Read a status icon: its accessible name first, then its own name, its colour only to tell delivered from read."""
    label = icon["label"].strip().lower()
    for meaning, names in selectors.labels.items():
        if label in names:
            return Tick[meaning.upper()]
    name = icon["icon"].strip().lower()
    meaning = next((meaning for meaning, names in selectors.icons.items() if name in names), "unknown")
    if meaning in {"delivered_or_read", "delivered"}:
        return Tick.READ if _is_blue(icon["color"]) else Tick.DELIVERED
    return Tick[meaning.upper()]


def _is_blue(color: str) -> bool:
    channels = [float(number) for number in re.findall(r"[\d.]+", color)[:CHANNELS]]
    return len(channels) == CHANNELS and channels[2] - max(channels[:2]) > BLUE_MARGIN
