"""Charts: what they draw is what the views say, and they are pictures whatever the names are."""

import re
from datetime import date, timedelta
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from api.reports import charts

SVG = "{http://www.w3.org/2000/svg}"
NONE: dict[str, Any] = dict.fromkeys(
    ("accepted", "sent", "delivered", "read", "failed", "cancelled", "open", "outcome_unknown"), 0
)


def volume_row(day: str, account: str = "acc_1", /, **counts: int) -> dict[str, Any]:
    return {**NONE, "account_id": account, "day": day, "zone": "UTC", **counts}


def latency_row(day: str, account: str, sent: int, p95: float | None) -> dict[str, Any]:
    return {"account_id": account, "day": day, "sent": sent, "sent_p50": p95, "sent_p95": p95, "sent_p99": p95}


def rate_row(day: str, **counts: int) -> dict[str, Any]:
    """Return a row that may still change with `provisional=1`."""
    return {**NONE, "account_id": "acc_1", "day": day, "provisional": False, **counts}


def drawn(chart: charts.Chart) -> ET.Element:
    return ET.fromstring(chart.svg())  # noqa: S314  # our own


def texts(chart: charts.Chart) -> list[str]:
    return [element.text or "" for element in drawn(chart).iter(f"{SVG}text")]


def test_parts_of_a_day_add_up_to_what_was_accepted() -> None:
    """None is counted twice: what was read was delivered and sent too."""
    chart = charts.volume(
        [
            volume_row(
                "2026-11-01",
                accepted=20,
                sent=15,
                delivered=12,
                read=7,
                failed=3,
                outcome_unknown=1,
                open=1,
                cancelled=1,
            ),
            volume_row("2026-11-01", "acc_2", accepted=5, sent=5, delivered=5, read=5),
        ]
    )
    assert {series.name: series.values for series in chart.series} == {
        "read": [12], "delivered only": [5], "sent only": [3], "open": [1], "cancelled": [1], "outcome unknown": [1],
        "failed": [2],
    }  # fmt: skip
    assert sum(value or 0 for series in chart.series for value in series.values) == 25
    assert "1 Nov 2026: 25 accepted" in texts(chart)


def test_bars_are_as_high_as_their_numbers() -> None:
    rows = [volume_row("2026-11-01", accepted=50, sent=50), volume_row("2026-11-03", accepted=100, sent=75, open=25)]
    bars = list(drawn(charts.volume(rows)).iter(f"{SVG}g"))
    heights = [[float(part.attrib["height"]) for part in bar.iter(f"{SVG}rect")] for bar in bars]
    whole = charts.HEIGHT - charts.TOP - charts.BOTTOM
    assert heights == [[pytest.approx(whole / 2)], [pytest.approx(whole * 0.75), pytest.approx(whole / 4)]]
    assert [bar.findtext(f"{SVG}title") for bar in bars] == ["1 Nov: sent only 50", "3 Nov: sent only 75, open 25"]


def test_rates_of_several_accounts_are_made_from_their_sums() -> None:
    chart = charts.rates(
        [
            rate_row("2026-11-01", sent=90, delivered=90, read=45, failed=10, outcome_unknown=10),
            rate_row("2026-11-01", sent=10, delivered=0, failed=25),
            rate_row("2026-11-02", provisional=1),
            rate_row("2026-11-03", sent=4, delivered=1, provisional=1),
        ]
    )
    assert [list(series.values) for series in chart.series] == [[0.9, None, 0.25], [0.5, None, 0], [0.2, None, 0]]
    assert chart.provisional == date(2026, 11, 2)
    assert "shaded: may still change" in texts(chart)


def test_a_line_is_broken_where_there_is_no_rate() -> None:
    counts = {"sent": 1, "delivered": 1}
    days = [date(2026, 11, 1) + timedelta(number) for number in range(5)]
    rows = [rate_row(str(day), **(counts if number != 2 else {})) for number, day in enumerate(days)]
    paths = [path.attrib["d"] for path in drawn(charts.rates(rows)).iter(f"{SVG}path") if path.get("fill") == "none"]
    assert [re.sub(r"[\d. ]+", "", path) for path in paths] == ["MLML"] * 3


def test_one_account_has_percentiles_and_several_have_a_line_each() -> None:
    one = charts.latency([latency_row("2026-11-01", "acc_1", 5, 3.0)], {"acc_1": "Shop"})
    assert [series.name for series in one.series] == ["half took at most", "95 in 100", "99 in 100"]
    rows = [latency_row("2026-11-01", f"acc_{number}", number, float(number)) for number in range(1, 10)]
    several = charts.latency(rows, {f"acc_{number}": f"Shop {number}" for number in range(1, 10)})
    assert [series.name for series in several.series] == [f"Shop {number}" for number in range(9, 3, -1)]
    assert "of the 6 busiest of 9 accounts" in several.says


def test_an_account_that_is_no_more_goes_by_its_id() -> None:
    """Its days stay when upkeep deletes it."""
    gone = [latency_row("2026-11-01", account, 5, 3.0) for account in ("acc_1", "acc_2")]
    assert [series.name for series in charts.latency(gone, {"acc_1": "Shop"}).series] == ["Shop", "acc_2"]
    assert charts.latency(gone[:1], {}).says.endswith(": acc_1")


def test_times_are_on_a_logarithmic_scale() -> None:
    rows = [latency_row(f"2026-11-0{number}", "acc_1", 5, took) for number, took in enumerate((1.0, 10.0, 60.0), 1)]
    chart = charts.latency(rows, {"acc_1": "Shop"})
    assert list(chart.axis.ticks.values()) == ["1 s", "10 s", "1 min"]
    assert [round(chart.axis.height(value), 2) for value in (1, 10, 60)] == [0, 0.56, 1]


def test_what_took_more_than_the_highest_tick_is_at_the_top() -> None:
    chart = charts.latency([latency_row("2026-11-01", "acc_1", 5, 10.0**7)], {"acc_1": "Shop"})
    assert chart.axis.height(10.0**7) == 1
    assert drawn(chart) is not None


@pytest.mark.parametrize("most", [0, 1, 2, 3, 7, 12, 99, 100, 101, 12_345, 10**9])
def test_the_axis_of_counts_has_room_for_all_and_few_whole_ticks(most: int) -> None:
    axis = charts.volume([volume_row("2026-11-01", accepted=most, sent=most)]).axis
    ticks = list(axis.ticks)
    assert ticks[0] == 0
    assert ticks[-1] >= most
    assert 2 <= len(ticks) <= 7
    assert all(isinstance(tick, int) for tick in ticks)


def test_without_messages_it_says_so() -> None:
    some = [
        charts.volume([]), charts.volume([volume_row("2026-11-01")]), charts.rates([]),
        charts.rates([rate_row("2026-11-01", provisional=1)]), charts.latency([], {}),
        charts.latency([latency_row("2026-11-01", "acc_1", 0, None)], {"acc_1": "Shop"}),
    ]  # fmt: skip
    for chart in some:
        assert "No messages in this period." in texts(chart)


def test_names_are_text_and_no_markup() -> None:
    name = '</text><script>alert(1)</script>\x00\x1b\ud83d&"' + "x" * 200
    rows = [latency_row("2026-11-01", account, 5, 3.0) for account in ("acc_1", "acc_2")]
    for several in (rows, rows[:1]):
        picture = drawn(charts.latency(several, dict.fromkeys(("acc_1", "acc_2"), name)))
        assert not list(picture.iter(f"{SVG}script"))
        assert any("</text><script>alert(1)</scri…" in (each.text or "") for each in picture.iter(f"{SVG}text"))


def test_nothing_is_drawn_outside_of_the_picture() -> None:
    days = [str(date(2026, 1, 1) + timedelta(number)) for number in range(charts.MOST_DAYS)]
    names = {f"acc_{number}": "W" * 40 for number in range(9)}
    lines = [latency_row(day, one, 5, 0.01 * 3**number) for number, one in enumerate(names) for day in days[::7]]
    bars = [volume_row(day, accepted=9, sent=9) for day in days]
    for chart in (charts.latency(lines, names), charts.volume(bars)):
        picture = drawn(chart)
        for element in picture.iter():
            for attributes, most in ((("x", "cx"), charts.WIDTH), (("y", "cy"), charts.HEIGHT)):
                assert all(0 <= float(element.get(name, 0)) <= most for name in attributes)
        legend = [float(each.attrib["y"]) for each in picture.iter(f"{SVG}rect") if each.get("width") == "12"]
        assert max(legend) + 12 < charts.TOP
        below = [each for each in picture.iter(f"{SVG}text") if float(each.attrib["y"]) > charts.HEIGHT - charts.BOTTOM]
        assert 1 < len(below) <= charts.DAY_LABELS + 1, "days, and the lowest tick"
