"""The page's looks, read from selectors.toml and checked before anything is driven with them."""

import tomllib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from errors import SelectorsWrong

#: what the code asks for; a file that lacks one of them is refused
ELEMENTS = frozenset(
    (
        "boot",
        "progress",
        "pane",
        "qr",
        "qr_ref",
        "qr_reload",
        "qr_promo",
        "search",
        "chat_row",
        "chat_title",
        "chat_status",
        "header",
        "header_title",
        "compose",
        "attach",
        "panel",
        "bubble",
        "outgoing",
        "incoming",
        "box",
        "text",
        "meta",
        "dialog",
        "dialog_ok",
        "butterbar_close",
    )
)
TEXTS = frozenset(
    (
        "unsupported",
        "banned",
        "conflict",
        "proxy_blocked",
        "unavailable",
        "crashed",
        "offline",
        "syncing",
        "logging_out",
        "linking",
        "starting_chat",
        "not_on_whatsapp",
        "restricted",
        "capped",
        "history_top",
        "history_partial",
        "closable",
        "dismiss",
    )
)
LABELS = frozenset(("pending", "sent", "delivered", "read", "failed"))
ICONS = LABELS | {"delivered_or_read"}


@dataclass(frozen=True)
class Selectors:
    """Alternatives by element, and texts, status labels and icons by meaning. All texts are in lower case."""

    version: str
    elements: dict[str, list[str]]
    texts: dict[str, list[str]]
    labels: dict[str, list[str]]
    icons: dict[str, list[str]]


def load(path: Path | None = None) -> Selectors:
    """Read the file at `path`, or the shipped one. Raise SelectorsWrong."""
    try:
        text = path.read_text("utf-8") if path else files("browser").joinpath("selectors.toml").read_text("utf-8")
    except OSError as error:
        raise SelectorsWrong(f"The selectors file {path} cannot be read: {error.strerror}.") from error
    return parse(text)


def parse(text: str) -> Selectors:
    """Check a selectors file's text. Raise SelectorsWrong with the name of what is missing or misshapen."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SelectorsWrong(f"The selectors file is not TOML: {error}.") from error
    version = document.get("version")
    if not isinstance(version, str) or not version:
        raise SelectorsWrong("The selectors file has no version.")
    return Selectors(
        version=version,
        elements={name: _alternatives(name, entry) for name, entry in _table(document, "elements", ELEMENTS).items()},
        texts={name: _texts("texts", name, entry) for name, entry in _table(document, "texts", TEXTS).items()},
        labels={name: _texts("labels", name, entry) for name, entry in _table(document, "labels", LABELS).items()},
        icons={name: _texts("icons", name, entry) for name, entry in _table(document, "icons", ICONS).items()},
    )


def _table(document: dict[str, Any], table: str, names: frozenset[str]) -> dict[str, Any]:
    entries = document.get(table)
    if not isinstance(entries, dict):
        raise SelectorsWrong(f"The selectors file has no table [{table}].")
    if missing := sorted(names - entries.keys()):
        raise SelectorsWrong(f"The selectors file lacks {table}.{missing[0]}.")
    if unknown := sorted(entries.keys() - names):
        raise SelectorsWrong(f"The selectors file has {table}.{unknown[0]}, which nothing reads.")
    return entries


def _alternatives(name: str, entry: object) -> list[str]:
    tries = entry.get("try") if isinstance(entry, dict) else None
    if not isinstance(tries, list) or not tries:
        raise SelectorsWrong(f'elements.{name} needs try = [{{ css = "…", seen = "…" }}, …].')
    for one in tries:
        if not isinstance(one, dict) or not all(isinstance(one.get(key), str) and one[key] for key in ("css", "seen")):
            raise SelectorsWrong(f"elements.{name} has an alternative without css or seen: {one!r}.")
    return [one["css"] for one in tries]


def _texts(table: str, name: str, entry: object) -> list[str]:
    if not isinstance(entry, list) or not entry or not all(isinstance(text, str) and text for text in entry):
        raise SelectorsWrong(f"{table}.{name} must be a list of texts.")
    return [text.lower() for text in entry]
