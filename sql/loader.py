"""Named queries, read from queries/*.sql.

A file holds one subject. A query begins with a line `-- name: take_job`; comment lines below it explain it.
"""

import re
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "queries"

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@cache
def queries() -> dict[str, bytes]:
    """Return the text of every query by its name; raise ValueError for a name used twice."""
    found: dict[str, bytes] = {}
    for path in sorted(FOLDER.glob("*.sql")):
        parts = _NAME.split(path.read_text(encoding="utf-8"))
        for name, text in zip(parts[1::2], parts[2::2], strict=True):
            if name in found:
                raise ValueError(f"{path.name}: query {name} is defined twice")
            found[name] = text.strip().encode()
    return found
