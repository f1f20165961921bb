"""Whether a message asks for no more messages."""

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from stopwords.folding import folded
from stopwords.lists import WISHES, Kind, Language, languages, longest_signature, polite, signatures

#: a longer message is never an opt-out; 800 times STOP is shorter
MAX_LENGTH = 4_096  # characters
MAX_REASON = 200  # characters of the message that are kept as the reason of an opt-out

Phrases = dict[int, dict[int, Kind]]


@dataclass(frozen=True)
class Rule:
    """The phrases that a message may consist of: at least one that is needed, and others before and behind it."""

    needed: AbstractSet[Kind]
    before: AbstractSet[Kind]
    behind: AbstractSet[Kind]


POLITE = frozenset({Kind.COURTESY, Kind.COMMON})
RULES = (
    Rule({Kind.WISH}, POLITE | {Kind.MORE, Kind.ALONE, Kind.OWN}, frozenset(Kind) - {Kind.BARE}),
    Rule({Kind.ALONE}, POLITE, POLITE | {Kind.ALONE}),
    Rule({Kind.OWN}, {Kind.COURTESY}, {Kind.COURTESY}),
    Rule({Kind.BARE}, frozenset(), frozenset()),
)
NOTHING_BUT_POLITE = Rule(frozenset(Kind) - WISHES, frozenset(), frozenset(Kind) - WISHES)


class StopWords:
    """The stop words of an org: those of all languages and its own, without those that it ignores."""

    def __init__(self, add: Iterable[str] = (), ignore: Iterable[str] = ()) -> None:
        added, ignored = (
            {folded(word, tones=tones) for word in some for tones in (False, True)} for some in (add, ignore)
        )
        # A word that is ignored is no wish, but may stand beside one: "Cancel, stop!"
        self._own = Language(dict.fromkeys(added, Kind.WISH) | dict.fromkeys(ignored, Kind.COURTESY))

    def found_in(self, text: str) -> str | None:
        """Return the words by which a message asks for no more messages, as they were written; None when it does not.

        The whole message must consist of stop words, at least one, and of courtesy.
        """
        # A zero-width space may be within a word, or between two.
        if len(text) > MAX_LENGTH or not any(map(self._asks, {text, text.replace("\u200b", " ")})):
            return None
        said = " ".join(text.split())
        return said if len(said) <= MAX_REASON else f"{said[: MAX_REASON - 1]}…"

    def _asks(self, text: str) -> bool:
        plain, toned = (_unsigned(folded(text, tones=tones).split()) for tones in (False, True))
        return any(self._asks_in(language, toned if language.tones else plain) for language in languages().values())

    def _asks_in(self, language: Language, words: list[str]) -> bool:
        phrases = cut(words, language, self._own)
        return any(is_made_by(rule, phrases, len(words)) for rule in RULES)


def is_listed(word: str) -> bool:
    """Tell whether it is a stop word of some language, and not a shorter stop word with an addition."""
    kinds = (language.kinds.get(folded(word, tones=language.tones)) for language in languages().values())
    return any(kind in WISHES for kind in kinds) and StopWords(ignore=[word]).found_in(word) is None


def is_courtesy(text: str) -> bool:
    """Tell whether a text has only phrases that may stand around stop words."""
    words = folded(text).split()
    return is_made_by(NOTHING_BUT_POLITE, cut(words, polite()), len(words))


def cut(words: list[str], *languages: Language) -> Phrases:
    """Return the known phrases that follow each other from the first word on: beginning → end → kind.

    If two languages have the same phrase, the kind in the last one counts.
    """
    phrases: Phrases = {}
    places = {0}
    for begin in range(len(words)):
        if begin in places:
            phrases[begin] = {end: kind for language in languages for end, kind in _beginning(words, begin, language)}
            places.update(phrases[begin])
    return phrases


def _beginning(words: list[str], begin: int, language: Language) -> Iterator[tuple[int, Kind]]:
    for length in language.lengths.get(words[begin], ()):
        end = begin + length
        kind = language.kinds.get(" ".join(words[begin:end]))
        if kind and end <= len(words):
            yield end, kind


def is_made_by(rule: Rule, phrases: Phrases, length: int) -> bool:
    """Tell whether a message of this many words can be cut into phrases as a rule requires."""
    # Places up to which the message can be cut into allowed phrases: `without` a needed one, or with one (`asked`).
    without, asked = {0}, set[int]()
    for begin, following in phrases.items():
        for end, kind in following.items():
            if (begin in without and kind in rule.needed) or (begin in asked and kind in rule.behind):
                asked.add(end)
            if begin in without and kind in rule.before:
                without.add(end)
    return length in asked


def _unsigned(words: list[str]) -> list[str]:
    """Return the words without a signature at their end."""
    ends = (begin for begin in range(max(len(words) - longest_signature(), 0), len(words)))
    return next((words[:begin] for begin in ends if " ".join(words[begin:]) in signatures()), words)
