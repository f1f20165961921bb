"""Comparing what was asked for with what the page shows: texts and phone numbers. Pure."""

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
#: a list or quote mark at the beginning of a line, or several: the page turns the first into a real list or quote, and
#: what it lays bare looks like one
LISTED = re.compile(r"^(?:[^\S\n]*+(?:[-*>•]|\d++\.)[^\S\n]++)++", re.MULTILINE)
LIST_MARK = re.compile(r"[^\S\n]*+(?:(?P<sign>[-*•])|(?P<quote>>)|\d++\.)[^\S\n]++")
#: marks of bold, italic, struck and typewriter text, which the page shows as what they mean
MARKS = str.maketrans("", "", "*_~`")
#: control and format characters (bidi marks, joiners): the page adds and drops them
UNSEEN = frozenset({"Cc", "Cf"})
#: space characters
SPACES = frozenset({"Zs", "Zl", "Zp"})
VARIATIONS = range(0xFE00, 0xFE10)
#: a bubble folds a long text up behind these words
FOLDED = re.compile(r"(?:(?:…|\.\.\.)\s*(?:read\s+more)?|read\s+more)\s*$", re.IGNORECASE)
FOLDED_LEAST = 100  # characters before them; a short text that ends in dots is not folded
#: a line of a text that was cut off within it, where all of it may be list marks
CUT_MARKS = re.compile(r"[\s\d.*_~`>•-]*")

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


@lru_cache(maxsize=100)
def essence(text: str) -> str:
    """What is left of a text however it is drawn: no white space, invisible marks, formatting or list marks."""
    return "".join(LISTED.sub("", _seen(text).strip().translate(MARKS)).split())


def _seen(text: str) -> str:
    """Take a text apart (NFD), so that a part of it has the same characters, and leave out what nobody sees."""
    return unicodedata.normalize("NFD", even_breaks(text)).translate(SHOWN)


class _Shown(dict[int, str]):
    """What is seen of each character, by its code; made when it is asked for."""

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
    """Tell whether the page shows this text; `holes` counts the pictures in it that say nothing of themselves.

    A text of nothing but emoji that the page does not name equals any such text: there, only the message's id decides.
    """
    # An emoji without a name is missing in what is read, be it drawn as a picture or as a background.
    ways = (essence, _wordy) if holes or not EMOJI.search(seen) else (essence,)
    if any(way(sent) == way(seen) for way in ways):
        return True
    start = FOLDED.sub("", even_breaks(seen))
    # What is padded with characters that nobody sees, or drawn of marks alone, has to be compared with these.
    return start != seen and any(_begins(way, sent, _whole(start)) for way in (*ways, _padded, _marked))


def surely_same(sent: str, seen: str, *, holes: int = 0) -> bool:
    """Tell whether the page shows this text where nothing but the text tells it from another message.

    Then the numbers of lists count, which a page may draw anew, and what shows no words at all equals nothing.
    """
    start = FOLDED.sub("", even_breaks(seen))
    asked, shown = _digits(sent), _digits(start)
    agree = asked == shown or (len(start) >= FOLDED_LEAST and start != seen and asked.startswith(shown))
    return agree and bool(essence(seen)) and same_text(sent, seen, holes=holes)


def _digits(text: str) -> str:
    return "".join(re.findall(r"\d", EMOJI.sub("", text)))


def _begins(way: Callable[[str], str], text: str, start: str) -> bool:
    """Tell whether a text begins so, looked at in one way, and whether that is long enough to tell it from others."""
    begun = way(start)
    return len(begun) >= FOLDED_LEAST and way(text).startswith(begun)


def _wordy(text: str) -> str:
    return essence(EMOJI.sub("", text))


def _padded(text: str) -> str:
    return LISTED.sub("", _marked(text)).translate(MARKS)


def _marked(text: str) -> str:
    return unicodedata.normalize("NFD", even_breaks(text)).lstrip()


def _whole(start: str) -> str:
    """Leave out the end of a text that was cut off: a character with its marks, and what may be part of a list mark."""
    start = unicodedata.normalize("NFD", start)
    while start and unicodedata.combining(start[-1]):
        start = start[:-1]
    lines, _, last = start[:-1].rpartition("\n")
    return lines if CUT_MARKS.fullmatch(last) else start[:-1]


def same_box(sent: str, held: str, *, holes: int = 0) -> bool:
    """Tell whether the compose box holds this text as it is to be sent: with its white space and its line breaks.

    White space around the whole is no difference, since the page cuts it off; nor is how it writes the marks of lists.
    """
    ways = (True, False) if holes or not EMOJI.search(held) else (True,)
    return any(_box_form(sent, emoji=emoji) == _box_form(held, emoji=emoji) for emoji in ways)


def _box_form(text: str, *, emoji: bool) -> list[str]:
    seen = _seen(text if emoji else EMOJI.sub("", text)).strip()
    return [_listed(line.rstrip()) for line in seen.split("\n")]


def _listed(line: str) -> str:
    """Write the list and quote marks of a line in one way, each as often as it is there."""
    marks = ""
    while mark := LIST_MARK.match(line):
        marks += "- " if mark["sign"] else "> " if mark["quote"] else "1. "
        line = line[mark.end() :]
    return marks + line


def title_number(title: str) -> str:
    """Return a title that is a phone number as ASCII digits; empty of a name, even of one that has a number in it."""
    return _number(TITLE, title)


def label_number(label: str) -> str:
    """Return the digits of the phone number that a label ends with; empty where it ends with a name."""
    return _number(LABEL, label)


def _number(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.fullmatch("".join(c for c in text if unicodedata.category(c) != "Cf").strip())
    if found is None:
        return ""
    digits = "".join(str(unicodedata.decimal(c)) for c in found[1] if c.isdecimal())
    # The page writes a plus. Whether such a number can be is not asked: in doubt it is one, and nobody's name.
    return digits if found[1].startswith("+") or any(map(_is_possible, forms(digits))) else ""


@lru_cache(maxsize=1000)
def _is_possible(digits: str) -> bool:
    try:
        reason = phonenumbers.is_possible_number_with_reason(phonenumbers.parse(f"+{digits}"))
    except phonenumbers.NumberParseException:
        return False
    return bool(reason == phonenumbers.ValidationResult.IS_POSSIBLE)
