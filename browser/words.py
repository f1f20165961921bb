"""Comparing what was asked for with what the page shows: texts and phone numbers. Pure."""

import re
import unicodedata
from functools import lru_cache

import phonenumbers

from phones import forms

#: emoji and the symbols that WhatsApp draws like them, keycaps included (Unicode emoji-data 16, in whole blocks)
EMOJI = re.compile(
    "[0-9#*]\ufe0f?\u20e3|[\u00a9\u00ae\u203c\u2049\u2122\u2139\u2190-\u21ff\u2300-\u23ff\u24c2\u25a0-\u27bf"
    "\u2900-\u297f\u2b00-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001fbff]"
)
#: list and quote marks at the beginning of a line, which the page turns into real lists and quotes
BULLET = re.compile(r"^[^\S\n]*(?:[-*>•]|\d+\.)[^\S\n]+", re.MULTILINE)
#: marks of bold, italic, struck and typewriter text, which the page shows as what they mean
MARKS = str.maketrans("", "", "*_~`")
#: control, format (bidi marks, joiners) and space characters: the page adds and drops them
UNSEEN = frozenset({"Cc", "Cf", "Zs", "Zl", "Zp"})
VARIATIONS = range(0xFE00, 0xFE10)
#: a bubble folds a long text up behind these words
FOLDED = re.compile(r"(?:…|\.\.\.)(?:readmore)?$|readmore$", re.IGNORECASE)
FOLDED_LEAST = 100

#: what the page puts between the digits of a number, and behind our own: "+1 555-111-9999 (You)"
_BETWEEN, _BEHIND = r"[\d\s().\-\u2010-\u2015]{4,}", r"(?:\s*\([^()\d]+\))?"
#: a title that is a number: as a whole, or behind an announcement ("1 unread message+55 19 …")
TITLE = re.compile(rf"(?:\d[\d.,]* [^\d+]+(?=\+))?(\+?\d{_BETWEEN}\d){_BEHIND}")
#: a label that ends with a number ("Type a message to +55 11 …")
LABEL = re.compile(rf"[^+]*(\+\d{_BETWEEN}\d){_BEHIND}")


def plain(text: str) -> str:
    """Lower case, plain apostrophes, single spaces, no invisible marks: how the texts in selectors.toml are written."""
    text = "".join(" " if unicodedata.category(c) in {"Zs", "Cc"} else c for c in text.lower().replace("\u2019", "'"))
    return " ".join("".join(c for c in text if unicodedata.category(c) != "Cf").split())


def essence(text: str) -> str:
    """What is left of a text however it is drawn: no white space, invisible marks, formatting or list marks."""
    text = unicodedata.normalize("NFC", BULLET.sub("", text)).translate(MARKS)
    return "".join(c for c in text if unicodedata.category(c) not in UNSEEN and ord(c) not in VARIATIONS)


def same_text(sent: str, seen: str, *, holes: int = 0) -> bool:
    """Tell whether the page shows this text; `holes` counts the pictures in it that say nothing of themselves.

    A text of nothing but emoji that the page does not name equals any such text: there, only the message's id decides.
    """
    asked, shown = essence(sent), essence(seen)
    if asked == shown:
        return True
    if holes or not EMOJI.search(shown):
        asked, shown = EMOJI.sub("", asked), EMOJI.sub("", shown)
    if asked == shown:
        return True
    start = FOLDED.sub("", shown)
    return start != shown and len(start) >= FOLDED_LEAST and asked.startswith(start)


def title_number(title: str) -> str:
    """Return the digits of a title that is a phone number; empty of a name, even of one that has a number in it."""
    return _number(TITLE, title)


def label_number(label: str) -> str:
    """Return the digits of the phone number that a label ends with; empty where it ends with a name."""
    return _number(LABEL, label)


def _number(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.fullmatch("".join(c for c in text if unicodedata.category(c) != "Cf").strip())
    if found is None:
        return ""
    digits = re.sub(r"\D", "", found[1])
    # The page writes a plus. Whether such a number can be is not asked: in doubt it is one, and nobody's name.
    return digits if found[1].startswith("+") or any(map(_is_possible, forms(digits))) else ""


@lru_cache(maxsize=1000)
def _is_possible(digits: str) -> bool:
    try:
        reason = phonenumbers.is_possible_number_with_reason(phonenumbers.parse(f"+{digits}"))
    except phonenumbers.NumberParseException:
        return False
    return bool(reason == phonenumbers.ValidationResult.IS_POSSIBLE)
