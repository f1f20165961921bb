"""Comparing what was asked for with what the page shows: texts and phone numbers. Pure."""

import re
import unicodedata

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

PHONE = re.compile(r"\+\d[\d\s().\-\u2010-\u2015]{4,}\d|\d[\d\s().\-\u2010-\u2015]{4,}\d")


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


def digits(text: str) -> str:
    """The digits of the first phone-shaped piece of a title or label; empty when it has none, as a name has not.

    The piece with a plus comes first: an unread announcement can stand before it ("1 unread message+55 19 …").
    """
    pieces = sorted(PHONE.findall("".join(c for c in text if unicodedata.category(c) != "Cf")), key=_plus_first)
    return re.sub(r"\D", "", pieces[0]) if pieces else ""


def _plus_first(piece: str) -> bool:
    return not piece.startswith("+")
