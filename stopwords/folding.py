"""Folding: reduces a text so that different spellings of the same words become equal."""

import re
import unicodedata

#: scripts in which combining marks are vowels and more; in others they are accents and points that many people omit
WITH_VOWEL_MARKS = range(0x0900, 0x1AB0)  # those of South and South-East Asia
VOICED = range(0x3099, 0x309B)  # the marks that turn one kana into another
#: categories of the characters between words: control characters are C, punctuation P, symbols S (emoji are So, their
#: skin tones Sk), separators Z, marks such as keycaps M
BETWEEN = frozenset("CPSZM")
APOSTROPHES = dict.fromkeys(map(ord, "'`\u00b4\u02b9\u02bb\u02bc\u2018\u2019\u201b\u2032\u2035\uff07"))
#: The Turkish i without a dot and the Polish l with a stroke are letters of their own in Unicode, and missing on the
#: keyboards of other languages. Arabic letters that look alike at the end of a word are written for each other. The
#: Vietnamese d with a stroke stays: without it "đừng" (don't) would be "dừng" (stop).
LOOKALIKES = str.maketrans("\u0131\u0142\u0649\u06cc\u06a9\u0629", "il\u064a\u064a\u0643\u0647")
#: characters that only make a word look longer, and letters of Unicode that are invisible
FILLERS = dict.fromkeys([0x0640, 0x115F, 0x1160, 0x3164, 0xFFA0])  # tatweel, Hangul fillers
#: emoji that NFKC turns into letters or digits: keycaps, the signs for trade marks and information, Japanese ones, and
#: an M in a circle (the metro), unless another letter in a circle is beside it
EMOJI = re.compile(
    "[0-9#*]\ufe0f?\u20e3|[\u2122\u2139\u3297\u3299\U0001f201\U0001f202\U0001f21a\U0001f22f\U0001f232-\U0001f23a"
    "\U0001f250\U0001f251]|(?<![\u24b6-\u24e9])\u24c2(?![\u24b6-\u24e9])"
)
LIST_NUMBER = re.compile(r"^\s*[0-9]{1,3}[.)]\s", re.MULTILINE)  # the page draws a list's numbers as text
#: Han, kana and Hangul: words of these scripts may follow each other without a space, so each character is one word
UNSPACED = "\u3005-\u30ff\u31f0-\u31ff\u3400-\u9fff\uac00-\ud7af\U00020000-\U0003ffff"
WORD = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")
STRETCHED = re.compile(rf"([^\W\d_{UNSPACED}])\1{{2,}}")  # no listed word has a letter three times in a row


def folded(text: str, *, tones: bool = False) -> str:
    """Return the words with one space between them: case, accents, apostrophes and punctuation make no difference.

    With `tones`, accents do: in Vietnamese "hủy" (cancel) is another word than the name "Huy".
    """
    return spaced(letters(text, tones=tones))


def letters(text: str, *, tones: bool = False) -> str:
    """Return a text in small letters, with a space for each character between words."""
    text = unicodedata.normalize("NFKC", EMOJI.sub(" ", text).translate(APOSTROPHES)).casefold()
    text = unicodedata.normalize("NFC" if tones else "NFKD", LIST_NUMBER.sub("", text).translate(FILLERS))
    kept = "".join(" " if _is_between(c) else c for c in text if not _is_left_out(c))
    return STRETCHED.sub(r"\1", unicodedata.normalize("NFC", kept).translate(LOOKALIKES))


def spaced(text: str) -> str:
    """Return the words of a text in small letters, with one space between them."""
    return " ".join(WORD.findall(text))


def untoned(phrase: str) -> str:
    """Return a Vietnamese phrase as it is written on a keyboard with neither tones nor a d with a stroke."""
    return folded(phrase).replace("\u0111", "d")


def _is_left_out(character: str) -> bool:
    return unicodedata.category(character) in {"Mn", "Cf"} and not _is_letter(character)


def _is_between(character: str) -> bool:
    return unicodedata.category(character)[0] in BETWEEN and not _is_letter(character)


def _is_letter(mark: str) -> bool:
    """Tell whether a character is a mark that is as essential to a word as a letter."""
    return unicodedata.category(mark)[0] == "M" and (ord(mark) in WITH_VOWEL_MARKS or ord(mark) in VOICED)
