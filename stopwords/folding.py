"""What is left of a text without all in which people write the same words differently."""

import re
import unicodedata

#: scripts in which combining marks are vowels and more; in others they are accents and points that many leave out
WITH_VOWEL_MARKS = range(0x0900, 0x1AB0)  # those of South and South-East Asia
#: categories of what stands between words: control characters are C, punctuation P, symbols S (emoji are So, their skin
#: tones Sk), separators Z, marks such as keycaps M
BETWEEN = frozenset("CPSZM")
APOSTROPHES = dict.fromkeys(map(ord, "'\u2018\u2019\u02bc`\u00b4"))
#: A Turkish i without its dot and a Polish l with a stroke are letters of their own to Unicode, and not on keyboards of
#: other languages. The Vietnamese d with a stroke stays: without it "đừng" (don't) would be "dừng" (stop).
LOOKALIKES = str.maketrans("\u0131\u0142", "il")
#: Han, kana and Hangul: words of these scripts follow each other without a space, so that each character stands alone
UNSPACED = "\u3005-\u30ff\u31f0-\u31ff\u3400-\u9fff\uac00-\ud7af\U00020000-\U0003ffff"
WORD = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")


def folded(text: str) -> str:
    """Return the words with one space between them: case, accents, apostrophes and punctuation make no difference."""
    text = unicodedata.normalize("NFKC", text.translate(APOSTROPHES)).casefold()
    letters = "".join(c for c in unicodedata.normalize("NFKD", text) if not _is_left_out(c)).translate(LOOKALIKES)
    spaced = "".join(" " if _is_between(c) else c for c in letters)
    return " ".join(WORD.findall(unicodedata.normalize("NFC", spaced)))


def _is_left_out(character: str) -> bool:
    return unicodedata.category(character) in {"Mn", "Cf"} and ord(character) not in WITH_VOWEL_MARKS


def _is_between(character: str) -> bool:
    kind = unicodedata.category(character)[0]
    return kind in BETWEEN and not (kind == "M" and ord(character) in WITH_VOWEL_MARKS)
