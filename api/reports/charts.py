"""Charts of reports as SVG, for mails and slides: what was sent, which part arrived, and how long it took.

Each is made of the rows of a view, as `GET /reports/{view}?format=ndjson` has them. Pure.
"""

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

Row = Mapping[str, Any]

MOST_DAYS = 400
MOST_ACCOUNTS = 6  # lines of one picture
DAY_LABELS = 8  # at most
WIDTH, HEIGHT = 960, 420
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 120, 44  # around what is drawn
LEGEND, LINE, LETTER = 70, 18, 7.4  # where it begins, height of a line of it, and width of a letter, about
LONGEST_NAME = 30  # letters
WIDEST_BAR = 60.0  # of few days

#: Colours that people with any form of colour blindness tell apart (Okabe and Ito, 2008), and two greys.
BLUE, SKY, GREEN, ORANGE, RED, PURPLE = "#0072b2", "#56b4e9", "#009e73", "#e69f00", "#d55e00", "#cc79a7"
GREY, LIGHT = "#8c8c8c", "#d0d0d0"
COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY)

#: Ticks of a scale of seconds.
TIMES = {
    0.1: "0.1 s", 1: "1 s", 10: "10 s", 60: "1 min", 600: "10 min", 3600: "1 h", 21_600: "6 h", 86_400: "1 day",
    864_000: "10 days",
}  # fmt: skip

#: Characters that XML 1.0 does not allow, which a name may contain.
NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Series:
    """A value for each day; None where there is none."""

    name: str
    colour: str
    values: Sequence[float | None]


@dataclass(frozen=True)
class Axis:
    """Values from bottom to top, with their labels."""

    ticks: Mapping[float, str]
    height: Callable[[float], float]  # from 0 at the bottom to 1 at the top


@dataclass(frozen=True)
class Chart:
    """What is drawn."""

    title: str
    says: str
    days: Sequence[date]
    series: Sequence[Series]
    axis: Axis
    stacked: bool = False
    #: the first day that may still change
    provisional: date | None = None
    shown: Callable[[float], str] = field(default="{:,.0f}".format)

    @property
    def told(self) -> Sequence[Series]:
        """Those that have a value at all."""
        return [one for one in self.series if any(value is not None for value in one.values)]

    def svg(self) -> str:
        """Return the picture, as a file of its own."""
        chart = replace(self, series=self.told)
        return _template().render(chart=chart, drawn=_Drawing(chart), width=WIDTH, height=HEIGHT)


def volume(rows: Iterable[Row]) -> Chart:
    """Return what has become of the messages of each day: rows of `daily_volume`."""
    days, sums = _by_day(rows)
    parts: dict[str, tuple[str, Callable[[Mapping[str, int]], int]]] = {
        "read": (BLUE, lambda day: day["read"]),
        "delivered only": (SKY, lambda day: day["delivered"] - day["read"]),
        "sent only": (GREEN, lambda day: day["sent"] - day["delivered"]),
        "open": (LIGHT, lambda day: day["open"]),
        "cancelled": (GREY, lambda day: day["cancelled"]),
        "outcome unknown": (ORANGE, lambda day: day["outcome_unknown"]),
        "failed": (RED, lambda day: day["failed"] - day["outcome_unknown"]),
    }
    series = [Series(name, colour, [of(sums[day]) for day in days]) for name, (colour, of) in parts.items()]
    accepted = [sums[day]["accepted"] for day in days]
    return Chart(
        "Messages by day of acceptance", f"{_period(days)}: {sum(accepted):,} accepted", days,
        [one for one in series if any(one.values)], _counts(max(accepted, default=0)), stacked=True,
    )  # fmt: skip


def rates(rows: Iterable[Row]) -> Chart:
    """Return which part arrived, was read and failed: rows of `delivery_rate`."""
    kept = list(rows)
    days, sums = _by_day(kept)

    def rate(of: Callable[[Mapping[str, int]], int], whole: Callable[[Mapping[str, int]], int]) -> list[float | None]:
        return [of(sums[day]) / whole(sums[day]) if whole(sums[day]) else None for day in days]

    def failed(day: Mapping[str, int]) -> int:
        return day["failed"] - day["outcome_unknown"]

    return Chart(
        "Which part arrived, was read, failed",
        f"{_period(days)}, by day of acceptance. Read is a lower bound: people can switch read receipts off",
        days,
        [
            Series("delivered, of sent", BLUE, rate(lambda day: day["delivered"], lambda day: day["sent"])),
            Series("read, of delivered", GREEN, rate(lambda day: day["read"], lambda day: day["delivered"])),
            Series("failed, of ended", RED, rate(failed, lambda day: day["sent"] + failed(day))),
        ],
        Axis({part / 4: f"{part * 25} %" for part in range(5)}, lambda value: value),
        provisional=min((date.fromisoformat(row["day"]) for row in kept if row["provisional"]), default=None),
        shown="{:.1%}".format,
    )


def latency(rows: Iterable[Row], names: Mapping[str, str]) -> Chart:
    """Return how long the first tick took: rows of `latency`. `names` has the names of accounts, but of deleted ones.

    Of one account, three percentiles. Percentiles of several cannot be put together, so it is a line for each account.
    """
    kept = list(rows)
    days, _ = _by_day(kept)
    sent: defaultdict[str, int] = defaultdict(int)
    for row in kept:
        sent[row["account_id"]] += row["sent"]
    busy = sorted((account for account in sent if sent[account]), key=lambda account: (-sent[account], account))
    shown = busy[:MOST_ACCOUNTS]
    called = {account: _plain(names.get(account, account)) for account in shown}
    if len(shown) == 1:
        lines = [
            ("half took at most", BLUE, shown[0], "sent_p50"),
            ("95 in 100", ORANGE, shown[0], "sent_p95"),
            ("99 in 100", RED, shown[0], "sent_p99"),
        ]
        of = called[shown[0]]
    else:
        lines = [(called[one], colour, one, "sent_p95") for one, colour in zip(shown, COLOURS, strict=False)]
        of = "what 95 in 100 took at most"
        if len(busy) > len(shown):
            of += f", of the {len(shown)} busiest of {len(busy)} accounts"
    # A day on which the zone changed has two rows; the slower one counts.
    values: defaultdict[tuple[str, str, date], list[float]] = defaultdict(list)
    for row in kept:
        for _, _, _, column in lines:
            if row[column] is not None:
                values[row["account_id"], column, date.fromisoformat(row["day"])].append(row[column])
    series = [
        Series(name, colour, [max(values[account, column, day], default=None) for day in days])
        for name, colour, account, column in lines
    ]
    seconds = [value for one in series for value in one.values if value is not None]
    return Chart(
        "From acceptance to the first tick", f"{_period(days)}: {of}", days, series, _times(seconds),
        shown="{:,.1f} s".format,
    )  # fmt: skip


def _by_day(rows: Iterable[Row]) -> tuple[list[date], dict[date, dict[str, int]]]:
    """Return all days from the first to the last, and the sums of each."""
    sums: dict[date, dict[str, int]] = {}
    for row in rows:
        day = sums.setdefault(date.fromisoformat(row["day"]), defaultdict(int))
        for name, value in row.items():
            if isinstance(value, int):
                day[name] += value
    if not sums:
        return [], {}
    first, last = min(sums), max(sums)
    days = [first + timedelta(number) for number in range((last - first).days + 1)]
    return days, {day: sums.get(day, defaultdict(int)) for day in days}


def _period(days: Sequence[date]) -> str:
    if not days:
        return "no days"
    first, last = days[0], days[-1]
    if first == last:
        return _day(first, year=True)
    return f"{_day(first, year=first.year != last.year)} to {_day(last, year=True)}"


def _day(day: date, *, year: bool = False) -> str:
    return f"{day.day} {day:%b}" + (f" {day.year}" if year else "")


def _plain(name: str) -> str:
    text = NO_XML.sub("", name)
    return text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 1] + "…"


# --- axes --------------------------------------------------------------------------------------------------------


def _counts(most: float) -> Axis:
    """Return an axis from 0 to at least `most`, with up to six steps of a round number."""
    rough = max(most, 1) / 6
    magnitude = 10 ** math.floor(math.log10(rough))
    step = max(1, next(round(magnitude * each) for each in (1, 2, 5, 10) if magnitude * each >= rough))
    top = math.ceil(max(most, 1) / step) * step
    return Axis({value: f"{value:,}" for value in range(0, top + 1, step)}, lambda value: value / top)


def _times(seconds: Sequence[float]) -> Axis:
    """Return a logarithmic axis around the given times."""
    all_ticks = list(TIMES)
    low = max((tick for tick in all_ticks[:-1] if tick <= min(seconds, default=1)), default=all_ticks[0])
    high = min((tick for tick in all_ticks if tick >= max(seconds, default=10) and tick > low), default=all_ticks[-1])

    def height(value: float) -> float:
        return min(1.0, max(0.0, math.log(max(value, low) / low) / math.log(high / low)))

    return Axis({tick: TIMES[tick] for tick in all_ticks if low <= tick <= high}, height)


# --- drawing -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Drawing:
    """Where things are, in pixels; the template draws them."""

    chart: Chart

    @property
    def step(self) -> float:
        return (WIDTH - LEFT - RIGHT) / max(1, len(self.chart.days))

    def middle(self, number: int) -> float:
        return round(LEFT + (number + 0.5) * self.step, 1)

    def y(self, value: float) -> float:
        return round(HEIGHT - BOTTOM - self.chart.axis.height(value) * (HEIGHT - TOP - BOTTOM), 1)

    @property
    def frame(self) -> dict[str, float]:
        return {"left": LEFT, "right": WIDTH - RIGHT, "top": TOP, "bottom": HEIGHT - BOTTOM}

    @property
    def ticks(self) -> list[tuple[float, str]]:
        return [(self.y(value), label) for value, label in self.chart.axis.ticks.items()]

    @property
    def day_labels(self) -> list[tuple[float, str]]:
        every = max(1, math.ceil(len(self.chart.days) / DAY_LABELS))
        return [(self.middle(n), _day(day)) for n, day in enumerate(self.chart.days) if n % every == 0]

    @property
    def legend(self) -> list[tuple[float, float, str, str]]:
        """Place, colour and name of each series, in two lines at most."""
        placed: list[tuple[float, float, str, str]] = []
        x, y = float(LEFT), float(LEGEND)
        for series in self.chart.series:
            width = 36 + LETTER * len(series.name)
            if x + width > WIDTH:
                x, y = float(LEFT), y + LINE
            placed.append((round(x), y, series.colour, series.name))
            x += width
        return placed

    @property
    def shaded(self) -> float | None:
        """Where the days begin that may still change."""
        if self.chart.provisional is None:
            return None
        return round(LEFT + self.chart.days.index(self.chart.provisional) * self.step, 1)

    @property
    def bars(self) -> list[dict[str, Any]]:
        """A bar for each day, of its parts from the bottom up."""
        width = min(WIDEST_BAR, round(self.step * 0.8, 1))
        bars = []
        for number, day in enumerate(self.chart.days):
            parts, below = [], 0.0
            for series in self.chart.series:
                value = series.values[number] or 0
                top, bottom = self.y(below + value), self.y(below)
                if value:
                    parts.append({"colour": series.colour, "y": top, "height": round(bottom - top, 1)})
                below += value
            bars.append({"x": round(self.middle(number) - width / 2, 1), "width": width, "parts": parts,
                         "says": self._says(number, day)})  # fmt: skip
        return bars

    @property
    def lines(self) -> list[dict[str, Any]]:
        """A line for each series, broken where a day has no value."""
        return [
            {
                "colour": series.colour,
                "path": self._path(series),
                "dots": [
                    (self.middle(number), self.y(value), f"{_day(day)}: {series.name} {self.chart.shown(value)}")
                    for number, (day, value) in enumerate(zip(self.chart.days, series.values, strict=True))
                    if value is not None
                ],
            }
            for series in self.chart.series
        ]

    @property
    def dot(self) -> float:
        return 3 if self.step > 12 else 1.5  # noqa: PLR2004  # pixels

    def _path(self, series: Series) -> str:
        path, drawing = [], False
        for number, value in enumerate(series.values):
            if value is not None:
                path.append(f"{'L' if drawing else 'M'}{self.middle(number)} {self.y(value)}")
            drawing = value is not None
        return "".join(path)

    def _says(self, number: int, day: date) -> str:
        parts = [(series.name, series.values[number]) for series in self.chart.series]
        return f"{_day(day)}: " + ", ".join(f"{name} {self.chart.shown(value)}" for name, value in parts if value)


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("api.reports"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("chart.svg")
