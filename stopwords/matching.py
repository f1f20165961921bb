"""Whether a message asks for no more messages."""

import tomllib
import unicodedata
from functools import cache
from importlib.resources import files

#: combining marks that change what a letter is; those of other scripts are accents and vowel marks that many leave out
DEVANAGARI = range(0x0900, 0x0980)
#: categories of what may stand around the words: control and format characters, punctuation, symbols (emoji are So,
#: their skin tones Sk), separators, and marks such as variation selectors
AROUND = frozenset("CPSZM")
#: a message that is longer is no keyword, and is not looked at
LONGEST = 100  # characters


@cache
def languages() -> dict[str, tuple[str, ...]]:
    """Return the words as they are written in stopwords.toml, by language."""
    lists = tomllib.loads(files("stopwords").joinpath("stopwords.toml").read_text("utf-8"))
    return {language: tuple(words) for language, words in lists.items()}


@cache
def _wishes() -> frozenset[str]:
    return frozenset(_folded(word) for words in languages().values() for word in words)


def stop_word(text: str) -> str | None:
    """Return the words by which a message asks for no more messages, as they were written; None when it does not.

    The whole message must be such a wish. Case, accents and what stands around the words make no difference.
    """
    words = " ".join(text.split())
    return words if 0 < len(words) <= LONGEST and _folded(words) in _wishes() else None


def _folded(text: str) -> str:
    """Take away all in which people write the same words differently."""
    text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
    letters = "".join(c for c in text if unicodedata.category(c) not in {"Mn", "Cf"} or ord(c) in DEVANAGARI)
    # Turkish writes a dotless i, which people with another keyboard do not have.
    letters = letters.replace("\u0131", "i").replace("\u2019", "'")
    first = next((place for place, c in enumerate(letters) if not _is_around(c)), len(letters))
    last = next((place for place in range(len(letters), first, -1) if not _is_around(letters[place - 1])), first)
    return " ".join(letters[first:last].replace("-", " ").split())


def _is_around(character: str) -> bool:
    return unicodedata.category(character)[0] in AROUND and ord(character) not in DEVANAGARI
