"""The selectors: what WhatsApp's page looks like, loaded from selectors.toml and checked before use."""

import hashlib
import json
import re
import tomllib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from errors import SelectorsWrong

#: the names that the code uses; a file that lacks one of them is refused
ELEMENTS = frozenset(
    (
        "boot",
        "progress",
        "pane",
        "qr",
        "qr_ref",
        "qr_reload",
        "qr_promo",
        "pairing_link",
        "pairing_input",
        "pairing_cells",
        "menu",
        "log_out",
        "search",
        "chat_row",
        "chat_title",
        "chat_status",
        "chat_unread",
        "chat_group",
        "chat_own",
        "main",
        "header",
        "header_title",
        "contact",
        "contact_close",
        "compose",
        "send",
        "suggestions",
        "preview_close",
        "attach",
        "panel",
        "message_row",
        "bubble",
        "outgoing",
        "incoming",
        "box",
        "text",
        "quote",
        "meta",
        "failed",
        "notice",
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
        "pairing_link",
        "pairing_next",
        "pairing_renew",
        "pairing_refused",
        "log_out",
        "starting_chat",
        "not_on_whatsapp",
        "restricted",
        "capped",
        "unrestricted",
        "history_top",
        "history_partial",
        "unread",
        "group",
        "own_chat",
        "read_more",
        "closable",
        "refreshing",
        "dismiss",
    )
)
LABELS = frozenset(("pending", "sent", "delivered", "read", "failed"))
ICONS = LABELS | {"delivered_or_read"}

#: a string, or one escaped character, of CSS (CSS Syntax Level 3, 4.3)
STRING = re.compile(r"""\"(?:[^"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'|\\.""")
#: text that no selector contains, an empty selector in a list, and a combinator with nothing after it
INVALID = re.compile(r"[{};@<\n]|/\*|^\s*$|^\s*,|,\s*(?:[,)]|$)|[>+~]\s*(?:,|$)")
BRACKET = re.compile(r"[()\[\]]")
PAIRS = {"(": ")", "[": "]"}


@dataclass(frozen=True)
class Selectors:
    """Alternatives by element, and texts, status labels and icons by meaning. All texts are in lower case."""

    version: str
    elements: dict[str, list[str]]
    texts: dict[str, list[str]]
    labels: dict[str, list[str]]
    icons: dict[str, list[str]]

    @property
    def fingerprint(self) -> str:
        """Identify the content: a file may be changed without a new version."""
        content = json.dumps([self.elements, self.texts, self.labels, self.icons], sort_keys=True)
        return f"{self.version} {hashlib.sha256(content.encode()).hexdigest()[:16]}"


def load(path: Path | None = None) -> Selectors:
    """Read the file at `path`, or the shipped one. Raise SelectorsWrong."""
    try:
        content = path.read_bytes() if path else files("browser.page").joinpath("selectors.toml").read_bytes()
    except OSError as error:
        raise SelectorsWrong(f"The selectors file {path} cannot be read: {error.strerror}.") from error
    return decode(content)


def decode(content: bytes) -> Selectors:
    """Parse and check a selectors file's bytes. Raise SelectorsWrong."""
    try:
        return parse(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise SelectorsWrong(f"The selectors file is not UTF-8: {error}.") from error


def parse(text: str) -> Selectors:
    """Parse and check a selectors file's text. Raise SelectorsWrong, naming the entry that is missing or malformed."""
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
        if fault := _fault(one["css"]):
            raise SelectorsWrong(
                f"elements.{name} has an alternative that is no CSS selector, {fault}: {one['css']!r}."
            )
    return [one["css"] for one in tries]


def _fault(css: str) -> str | None:
    """Return what makes a text an invalid selector, as far as that can be checked without a browser.

    An unclosed bracket or quote would swallow the selectors that are joined after it. A name that CSS does not know
    merely matches nothing, and the census reports it.
    """
    bare = STRING.sub("x", css)
    if '"' in bare or "'" in bare:
        return "a quote is not closed"
    if invalid := INVALID.search(bare):
        return f"{invalid[0]!r} is not allowed there"
    open_brackets: list[str] = []
    for bracket in BRACKET.findall(bare):
        if bracket in PAIRS:
            open_brackets.append(PAIRS[bracket])
        elif not open_brackets or open_brackets.pop() != bracket:
            return f"{bracket!r} closes nothing"
    return f"{open_brackets[-1]!r} is missing" if open_brackets else None


def _texts(table: str, name: str, entry: object) -> list[str]:
    if not isinstance(entry, list) or not entry or not all(isinstance(text, str) and text for text in entry):
        raise SelectorsWrong(f"{table}.{name} must be a list of texts.")
    return [text.lower() for text in entry]
