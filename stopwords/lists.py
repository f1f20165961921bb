"""The lists of languages/*.toml, with their patterns expanded and folded."""

import re
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from functools import cache, cached_property, partial
from importlib.resources import files
from itertools import product
from typing import Any

from stopwords.folding import folded, letters, spaced, untoned


class Kind(Enum):
    """The role of a phrase in a language; any.toml explains each."""

    WISH = auto()
    ALONE = auto()
    OWN = auto()
    BARE = auto()
    COURTESY = auto()
    #: the courtesy of any.toml
    COMMON = auto()
    MORE = auto()
    BEHIND = auto()


WISHES = frozenset({Kind.WISH, Kind.ALONE, Kind.OWN, Kind.BARE})
#: the keys of a file that list phrases
LISTS = {
    "wishes": Kind.WISH,
    "alone": Kind.ALONE,
    "own": Kind.OWN,
    "bare": Kind.BARE,
    "courtesy": Kind.COURTESY,
    "more": Kind.MORE,
    "behind": Kind.BEHIND,
}


@dataclass(frozen=True)
class Language:
    """The folded phrases that a message in one language may have."""

    kinds: dict[str, Kind]
    #: whether accents make a difference
    tones: bool = False

    @cached_property
    def lengths(self) -> dict[str, frozenset[int]]:
        """First word → how many words the phrases have that begin with it."""
        lengths = defaultdict[str, set[int]](set)
        for first, *others in map(str.split, self.kinds):
            lengths[first].add(1 + len(others))
        return {first: frozenset(some) for first, some in lengths.items()}


@cache
def names() -> tuple[str, ...]:
    """Return the codes (ISO 639-1) of all languages."""
    files_ = (file.name for file in files("stopwords").joinpath("languages").iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in files_ if name != "any.toml"))


@cache
def languages() -> dict[str, Language]:
    """Return all languages, each with the phrases of any.toml; `any` has those alone, and every language's courtesy."""
    common = _kinds("any") | dict.fromkeys(_folded("any", Kind.COURTESY), Kind.COMMON)
    every = {phrase: Kind.COMMON for name in names() for phrase in _folded(name, Kind.COURTESY)}
    own = {name: Language(common | _kinds(name), file_of(name).get("tones", False)) for name in names()}
    return own | {"any": Language(every | common)}


@cache
def signatures() -> frozenset[str]:
    """Return the signatures that programs put under messages, folded with tones and without."""
    devices = file_of("any")["devices"]
    lines = [line for name in names() for line in spelled_out(file_of(name), "signatures")]
    signed = [line.replace("*", device) for line in lines for device in devices]
    return frozenset(folded(line, tones=tones) for line in signed for tones in (False, True))


@cache
def longest_signature() -> int:
    """Return how many words the longest signature has."""
    return max(len(line.split()) for line in signatures())


@cache
def polite() -> Language:
    """Return the phrases of all languages that are no wish by themselves."""
    kinds = {
        phrase: kind
        for language in languages().values()
        for phrase, kind in language.kinds.items()
        if kind not in WISHES
    }
    return Language(kinds)


def _kinds(name: str) -> dict[str, Kind]:
    return {phrase: kind for kind in LISTS.values() for phrase in _folded(name, kind)}


def _folded(name: str, kind: Kind) -> Iterator[str]:
    """Yield the phrases of one kind. In a language with tones, a single word needs them: without, it may be a name."""
    file = file_of(name)
    tones = file.get("tones", False)
    (key,) = (key for key, listed in LISTS.items() if listed is kind)
    for phrase in map(spaced, spelled_out(file, key, cache(partial(letters, tones=tones)))):
        yield phrase
        if tones and " " in phrase:
            yield untoned(phrase)


def spelled_out(file: dict[str, Any], key: str, as_: Callable[[str], str] = str) -> Iterator[str]:
    """Expand the patterns of a list into phrases; `as_` converts each piece of a pattern."""
    for pattern in file.get(key, ()):
        whole = re.sub(r"\{(\w+)\}", lambda name: f"({'|'.join(file['parts'][name[1]])})", pattern)
        pieces = re.split(r"[()]", whole.replace("[", "(").replace("]", "|)"))
        yield from map("".join, product(*([as_(option) for option in piece.split("|")] for piece in pieces)))


@cache
def file_of(name: str) -> dict[str, Any]:
    """Return the content of a language's file."""
    return tomllib.loads(files("stopwords").joinpath("languages", f"{name}.toml").read_text("utf-8"))
