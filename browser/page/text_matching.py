"""Comparing texts and phone numbers with what the page shows. Pure."""

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache

import phonenumbers

from phones import forms
from texts import even_breaks

#: emoji and the symbols that WhatsApp draws like them, keycaps included (Unicode emoji-data 16, in whole blocks)
EMOJI = re.compile(
    "[0-9#*]\ufe0f?\u20e3|[\u00a9\u00ae\u203c\u2049\u2122\u2139\u2190-\u21ff\u2300-\u23ff\u24c2\u25a0-\u27bf"
    "\u2900-\u297f\u2b00-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001fbff]"
)
#: one or more list or quote marks at the beginning of a line: the page turns the first into a real list or quote, and
#: then the next one looks like a mark
LISTED = re.compile(r"^(?:[^\S\n]*+(?:[-*>•]|\d++\.)[^\S\n]++)++", re.MULTILINE)
LIST_MARK = re.compile(r"[^\S\n]*+(?:(?P<sign>[-*•])|(?P<quote>>)|\d++\.)[^\S\n]++")
#: marks of bold, italic, strikethrough and monospace text, which the page applies and does not show
MARKS = str.maketrans("", "", "*_~`")
#: control and format characters (bidi marks, joiners): the page adds and drops them
UNSEEN = frozenset({"Cc", "Cf"})
#: space characters
SPACES = frozenset({"Zs", "Zl", "Zp"})
VARIATIONS = range(0xFE00, 0xFE10)
#: a bubble folds a long text up behind these words
FOLDED = re.compile(r"(?:(?:…|\.\.\.)\s*(?:read\s+more)?|read\s+more)\s*$", re.IGNORECASE)
FOLDED_MIN = 100  # characters before those words; a short text that ends in dots is not folded
#: the last line of a text that was cut off, if it may consist of list marks only
CUT_MARKS = re.compile(r"[\s\d.*_~`>•-]*")

#: what the page puts between the digits of a number, and after our own number: "+1 555-111-9999 (You)"
_BETWEEN, _BEHIND = r"[\d\s().\-\u2010-\u2015]{4,}", r"(?:\s*\([^()\d]+\))?"
#: a title that is a number, alone or after an announcement ("1 unread message+55 19 …")
TITLE = re.compile(rf"(?:\d[\d.,]* [^\d+]+(?=\+))?(\+?\d{_BETWEEN}\d){_BEHIND}")
#: a label that ends with a number ("Type a message to +55 11 …")
LABEL = re.compile(rf"[^+]*(\+\d{_BETWEEN}\d){_BEHIND}")


def plain(text: str) -> str:
    """Normalise a text as in selectors.toml: lower case, plain apostrophes, single spaces, no invisible marks."""
    text = "".join(" " if unicodedata.category(c) in {"Zs", "Cc"} else c for c in text.lower().replace("\u2019", "'"))
    return " ".join("".join(c for c in text if unicodedata.category(c) != "Cf").split())


@lru_cache(maxsize=100)
def essence(text: str) -> str:
    """Reduce a text to what every rendering keeps: no white space, invisible marks, formatting or list marks."""
    return "".join(LISTED.sub("", _visible(text).strip().translate(MARKS)).split())


def _visible(text: str) -> str:
    """Decompose a text (NFD), so that a part of it has the same characters, and drop the invisible ones."""
    return unicodedata.normalize("NFD", even_breaks(text)).translate(SHOWN)


class _Shown(dict[int, str]):
    """Code point → what is visible of the character; computed at its first use."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        category = unicodedata.category(character)
        if category in SPACES or character == "\t":
            seen = " "
        else:
            unseen = character != "\n" and (category in UNSEEN or code in VARIATIONS)
            seen = "" if unseen else character
        self[code] = seen
        return seen


SHOWN = _Shown()


def same_text(sent: str, seen: str, *, holes: int = 0) -> bool:
    """Tell whether the page shows this text; `holes` counts the pictures in it without alternative text.

    Two texts of nothing but emoji that the page does not name are equal: for them, only the message's id decides.
    """
    if _same(sent, seen):
        return True
    # An emoji without a name is missing in the text that is read, whether it is drawn as a picture or as a background.
    unnamed = holes or not EMOJI.search(seen)
    return bool(unnamed) and _same(EMOJI.sub("", sent), EMOJI.sub("", seen))


def _same(sent: str, seen: str) -> bool:
    if essence(sent) == essence(seen):
        return True
    start = FOLDED.sub("", even_breaks(seen))
    # The others than `essence` are for a text that is padded with invisible characters, or consists of marks.
    return start != seen and any(
        _begins(way, sent, _without_cut(start)) for way in (essence, _with_invisible, _with_marks)
    )


def surely_same(sent: str, seen: str, *, holes: int = 0) -> bool:
    """Tell whether the page shows this text, strictly enough to identify a message by its text alone.

    All digits must agree, including the numbers of lists, which the page may renumber; and a text without any words
    equals nothing.
    """
    start = FOLDED.sub("", even_breaks(seen))
    asked, shown = _digits(sent), _digits(start)
    agree = asked == shown or (len(start) >= FOLDED_MIN and start != seen and asked.startswith(shown))
    return agree and bool(essence(seen)) and same_text(sent, seen, holes=holes)


def _digits(text: str) -> str:
    return "".join(re.findall(r"\d", EMOJI.sub("", text)))


def _begins(way: Callable[[str], str], text: str, start: str) -> bool:
    """Tell whether a text begins with `start`, compared in one way, and whether `start` is long enough to be unique."""
    begun = way(start)
    return len(begun) >= FOLDED_MIN and way(text).startswith(begun)


def _with_invisible(text: str) -> str:
    return LISTED.sub("", _with_marks(text)).translate(MARKS)


def _with_marks(text: str) -> str:
    return unicodedata.normalize("NFD", even_breaks(text)).lstrip()


def _without_cut(start: str) -> str:
    """Drop the end of a text that was cut off: its last character with its marks, or a line that may be a list mark."""
    start = unicodedata.normalize("NFD", start)
    while start and unicodedata.combining(start[-1]):
        start = start[:-1]
    lines, _, last = start[:-1].rpartition("\n")
    return lines if CUT_MARKS.fullmatch(last) else start[:-1]


def same_box(sent: str, held: str, *, unnamed: bool = False) -> bool:
    """Tell whether the compose box holds this text, including its white space and its line breaks.

    White space around the text does not count, since the page trims it; nor does the way in which list marks are
    written; nor do emoji in a box that does not name them, if `unnamed`.
    """
    ways = (True, False) if unnamed else (True,)
    return any(_box_form(sent, emoji=emoji) == _box_form(held, emoji=emoji) for emoji in ways)


def _box_form(text: str, *, emoji: bool) -> list[str]:
    seen = _visible(text if emoji else EMOJI.sub("", text)).strip()
    return [_listed(line.rstrip()) for line in seen.split("\n")]


def _listed(line: str) -> str:
    """Normalise the list and quote marks at the beginning of a line, and keep their number."""
    marks = ""
    while mark := LIST_MARK.match(line):
        marks += "- " if mark["sign"] else "> " if mark["quote"] else "1. "
        line = line[mark.end() :]
    return marks + line


def title_number(title: str) -> str:
    """Return the ASCII digits of a title that is a phone number; empty for a name, even one that contains a number."""
    return _number(TITLE, title)


def label_number(label: str) -> str:
    """Return the digits of the phone number that a label ends with; empty if it ends with a name."""
    return _number(LABEL, label)


def _number(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.fullmatch("".join(c for c in text if unicodedata.category(c) != "Cf").strip())
    if found is None:
        return ""
    digits = "".join(str(unicodedata.decimal(c)) for c in found[1] if c.isdecimal())
    # The page writes a plus. Whether such a number is possible is not checked: in doubt it is a number, not a name.
    return digits if found[1].startswith("+") or any(map(_is_possible, forms(digits))) else ""


@lru_cache(maxsize=1000)
def _is_possible(digits: str) -> bool:
    try:
        reason = phonenumbers.is_possible_number_with_reason(phonenumbers.parse(f"+{digits}"))
    except phonenumbers.NumberParseException:
        return False
    return bool(reason == phonenumbers.ValidationResult.IS_POSSIBLE)
