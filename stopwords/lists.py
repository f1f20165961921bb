"""The lists of stopwords.toml and courtesy.toml, as they are written and folded."""

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from typing import Any

from stopwords.folding import folded


@dataclass(frozen=True)
class Lists:
    """The words of all languages, folded."""

    wishes: frozenset[str]
    #: goes with every wish
    courtesy: frozenset[str]
    #: what is to stop and how soon: goes with every wish but those in `alone`
    more: frozenset[str]
    alone: frozenset[str]

    @cached_property
    def longest(self) -> int:
        """How many words the longest of them has."""
        return max(len(phrase.split()) for phrase in self.wishes | self.courtesy | self.more)


@cache
def languages() -> dict[str, tuple[str, ...]]:
    """Return the stop words as they are written in stopwords.toml, by language."""
    return {language: tuple(words) for language, words in _read("stopwords.toml").items()}


@cache
def lists() -> Lists:
    """Return all lists, read once."""
    courtesy = _read("courtesy.toml")
    devices = courtesy.pop("devices")
    signatures = _of_all(courtesy.values(), "signatures")
    return Lists(
        wishes=_folded(word for words in languages().values() for word in words),
        courtesy=_folded(_of_all(courtesy.values(), "courtesy"))
        | _folded(signature.replace("*", device) for signature in signatures for device in devices),
        more=_folded(_of_all(courtesy.values(), "more")),
        alone=_folded(_of_all(courtesy.values(), "alone")),
    )


def is_listed(word: str) -> bool:
    """Tell whether it is a stop word of some language, and not one with courtesy around it."""
    return folded(word) in lists().wishes


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads(files("stopwords").joinpath(name).read_text("utf-8"))


def _of_all(languages: Iterable[dict[str, list[str]]], name: str) -> list[str]:
    return [word for language in languages for word in language.get(name, ())]


def _folded(words: Iterable[str]) -> frozenset[str]:
    return frozenset(map(folded, words))
