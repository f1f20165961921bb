"""Pages of a list: the query `?limit=&cursor=`, the answer `{"items", "nextCursor"}`."""

import base64
import binascii
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema

from api.http.models import Model, shown
from sql.database import Row

MAX_LIMIT = 200  # items of a page
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
#: Microseconds since 1970, which have 16 digits from 2001 to 2286, and an id.
CURSOR = re.compile(r"[0-9]{16}\.[a-z0-9_]{1,64}", re.ASCII)
#: The base64 form of 0.5.0. 0.6.0 still accepts it, since a client may be reading a list during the upgrade.
OLD_CURSOR = re.compile(r"(\S+) ([a-z0-9_]+)", re.ASCII)

AS_CURSOR = {"type": "string", "pattern": f"^{CURSOR.pattern}$"}
Cursor = Annotated[str, WithJsonSchema(AS_CURSOR)]

SOONEST, LATEST = "-infinity", "infinity"  # times of Postgres

Place = tuple[datetime, str]  # time and id of the last row of the previous page


def _place(text: object) -> Place:
    place = _parsed(str(text))
    if place is None:
        raise ValueError(f"must be a nextCursor as it came, not {shown(text)}")
    return place


def _parsed(text: str) -> Place | None:
    if not CURSOR.fullmatch(text):
        return _parsed_old(text)
    microseconds, _, row_id = text.partition(".")
    return EPOCH + int(microseconds) * MICROSECOND, row_id


def _parsed_old(text: str) -> Place | None:
    try:
        found = OLD_CURSOR.fullmatch(base64.urlsafe_b64decode(text.encode()).decode())
        return (datetime.fromisoformat(found[1]), found[2]) if found else None
    except (binascii.Error, ValueError):
        return None


class Page(Model):
    """Which page of a list."""

    limit: Annotated[int, Field(strict=False, ge=1, le=MAX_LIMIT)] = Field(
        default=50,
        description="Items of a page, at most.",
    )
    cursor: Annotated[Place, BeforeValidator(_place), WithJsonSchema(AS_CURSOR)] | None = Field(
        default=None,
        description="`nextCursor` of the previous page.",
    )

    def values(self, until: datetime | None = None, *, oldest_first: bool = False) -> dict[str, object]:
        """Return the parameters of a list's query; it has only rows from before `until`.

        A bound that is not given is an infinite one, and no null: under a policy, Postgres looks up no index by
        `coalesce`, of which it does not know whether it tells what others may not see.

        `until` and the last row of the previous page are one bound: given two, an index may begin at the wrong one and
        go through all that is newer. One more row is read, to see whether there is a next page.
        """
        at, row_id = self.cursor or (None, "")
        if until and (at is None or until <= at):
            at, row_id = until, ""
        return {"after_at": at or (SOONEST if oldest_first else LATEST), "after_id": row_id, "limit": self.limit + 1}

    def next_cursor(self, rows: Sequence[Row], at: str = "created_at") -> str | None:
        """Return the cursor of the next page, or None on the last one; the list is ordered by the column `at`."""
        if len(rows) <= self.limit:
            return None
        last = rows[self.limit - 1]
        return f"{(last[at] - EPOCH) // MICROSECOND:016}.{last['id']}"
