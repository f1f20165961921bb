"""Restrictions of an account to its known chats, read from the page's own words. Pure."""

import re
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

from browser.page.selectors import Selectors
from errors import NewChatsRestricted

#: for its conduct, until WhatsApp lifts it; or because it has reached the monthly limit on new chats
Kind = Literal["new_chats", "monthly_cap"]

#: unambiguous English dates: "December 1, 2026", "1 Dec 2026", with or without year and weekday
DAY = re.compile(
    r"\s*(?:\w+day,?\s+)?(?:(?P<month>[a-z]{3,9})\.?\s+(?P<day>\d{1,2})|(?P<day2>\d{1,2})\s+(?P<month2>[a-z]{3,9})\.?)"
    r"(?:,?\s+(?P<year>\d{4}))?\b"
)
MONTHS = ("%B", "%b")


@dataclass(frozen=True)
class Restriction:
    """One of WhatsApp's two restrictions, and the day on which it ends, if the page says so."""

    kind: Kind
    until: date | None = None

    def error(self) -> NewChatsRestricted:
        """Make the exception for a chat that it keeps closed."""
        return NewChatsRestricted(restriction=self.kind, until=self.until)


def read(text: str, selectors: Selectors, today: date) -> Restriction | None:
    """Read a restriction from the page's own normalised text; None if it has none, or one that was lifted."""
    texts = selectors.texts
    if said := [words for words in texts["capped"] if words in text]:
        ends = (_day(text.partition(words)[2], today) for words in said)
        return Restriction("monthly_cap", next((day for day in ends if day), None))
    lifted = any(words in text for words in texts["unrestricted"])
    if not lifted and any(words in text for words in texts["restricted"]):
        return Restriction("new_chats")
    return None


def _day(text: str, today: date) -> date | None:
    """Read the date at the beginning of a normalised text; without a year it is the next such day."""
    found = DAY.match(text)
    if found is None:
        return None
    month, day = found["month"] or found["month2"], found["day"] or found["day2"]
    for year in (found["year"],) if found["year"] else (str(today.year), str(today.year + 1)):
        for names in MONTHS:
            try:
                ends = datetime.strptime(f"{day} {month[:9]} {year}", f"%d {names} %Y").date()  # noqa: DTZ007 - a day has no time zone
            except ValueError:
                continue
            if found["year"] or ends >= today:
                return ends
    return None
