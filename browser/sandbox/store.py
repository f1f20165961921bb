"""The sandbox's SQLite file: the state of phones, linked devices and recipients. It outlives every restart."""

import re
import sqlite3
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent

#: a value that SQLite can store
Value = str | int | float | bytes | None
#: column → value; the schema is strict, and so fixes the types
Row = Mapping[str, Any]


def _queries(text: str) -> dict[str, str]:
    """Split a file of queries at its `-- name:` lines."""
    parts = re.split(r"^-- name: (\w+)\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


class Store:
    """Named queries on one SQLite connection that any thread may use.

    A statement is durable when its call returns, because every count of lost and duplicated messages relies on the
    file.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._queries = _queries((HERE / "queries.sql").read_text(encoding="utf-8"))
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.execute("pragma journal_mode = wal")
        self._db.execute("pragma synchronous = full")
        self._db.executescript((HERE / "schema.sql").read_text(encoding="utf-8"))

    @property
    def names(self) -> list[str]:
        """Return the names of all queries."""
        return list(self._queries)

    def all(self, query: str, **values: Value) -> list[Row]:
        """Return every row of a named query."""
        with self._lock:
            return [dict(row) for row in self._db.execute(self._queries[query], values)]

    def one(self, query: str, **values: Value) -> Row | None:
        """Return the first row of a named query."""
        return next(iter(self.all(query, **values)), None)

    def change(self, query: str, **values: Value) -> int:
        """Run a named statement; return how many rows it changed."""
        with self._lock:
            return self._db.execute(self._queries[query], values).rowcount

    def insert(self, query: str, **values: Value) -> int:
        """Run a named insert; return the number of the new row."""
        with self._lock:
            return self._db.execute(self._queries[query], values).lastrowid or 0

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()
