"""Lists by pages: `?limit=&cursor=` in, `{"items", "nextCursor"}` out."""

import base64
import binascii
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema

from api.http.models import Model, shown
from sql.database import Row

MOST = 200  # items of a page
CURSOR = re.compile(r"(\S+) ([a-z0-9_]+)", re.ASCII)

Place = tuple[datetime, str]  # time and id of the last row of the page before


def _place(text: object) -> Place:
    place = _parsed(str(text))
    if place is None:
        raise ValueError(f"must be a nextCursor as it came, not {shown(text)}")
    return place


def _parsed(text: str) -> Place | None:
    try:
        found = CURSOR.fullmatch(base64.urlsafe_b64decode(text.encode()).decode())
        return (datetime.fromisoformat(found[1]), found[2]) if found else None
    except (binascii.Error, ValueError):
        return None


class Page(Model):
    """Which part of a list."""

    limit: Annotated[int, Field(strict=False, ge=1, le=MOST)] = Field(
        default=50,
        description="Items of a page at most.",
    )
    cursor: Annotated[Place | None, BeforeValidator(_place), WithJsonSchema({"type": "string"})] = Field(
        default=None,
        description="`nextCursor` of the page before.",
    )

    def values(self) -> dict[str, object]:
        """Return the parameters of a list's query; it asks for one row more, to see whether there is a next page."""
        at, row_id = self.cursor or (None, "")
        return {"after_at": at, "after_id": row_id, "limit": self.limit + 1}

    def next_cursor(self, rows: Sequence[Row], at: str = "created_at") -> str | None:
        """Return where the next page begins, or None when there is none; the list is ordered by its time `at`."""
        if len(rows) <= self.limit:
            return None
        last = rows[self.limit - 1]
        return base64.urlsafe_b64encode(f"{last[at].isoformat()} {last['id']}".encode()).decode()
