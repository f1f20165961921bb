"""Whether a message asks for no more messages."""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from stopwords.folding import folded
from stopwords.lists import lists

#: a message that is longer is not looked at; a stop word, thanks and a signature have room
LONGEST = 160  # characters


class StopWords:
    """The stop words of an org: those of all languages and its own, without those that it ignores."""

    def __init__(self, add: Iterable[str] = (), ignore: Iterable[str] = ()) -> None:
        known, added, ignored = lists(), frozenset(map(folded, add)), frozenset(map(folded, ignore))
        self._wishes = (known.wishes | added) - ignored
        self._courtesy = known.courtesy | ignored
        self._clear = self._wishes - known.alone
        self._beside_clear = self._courtesy | known.more | known.alone
        self._longest = max(known.longest, *(len(word.split()) for word in added), 0)

    def found_in(self, text: str) -> str | None:
        """Return the words by which a message asks for no more messages, as they were written; None when it does not.

        The whole message must be made of stop words, at least one, and of courtesy.
        """
        words = " ".join(text.split())
        return words if len(words) <= LONGEST and self._asks(folded(words).split()) else None

    def _asks(self, words: list[str]) -> bool:
        # Courtesy goes with every stop word; what is to stop, and how soon, only with those that stay clear beside it.
        return made_of(words, self._wishes, self._courtesy, self._longest) or made_of(
            words, self._clear, self._beside_clear, self._longest
        )


def is_courtesy(text: str) -> bool:
    """Tell whether a text says nothing but what may stand around stop words."""
    known = lists()
    polite = known.courtesy | known.more
    return made_of(folded(text).split(), polite, polite, known.longest)


def made_of(words: list[str], needed: AbstractSet[str], others: AbstractSet[str], longest: int) -> bool:
    """Tell whether words can be cut into phrases that are all known, and one at least of which is needed.

    No phrase has more than `longest` words.
    """
    # Places where a cut can be made, all before them being known phrases: none of them needed, or one at least.
    without, asked = {0}, set[int]()
    for begin in range(len(words)):
        if begin not in without | asked:
            continue
        for end in range(begin + 1, min(begin + longest, len(words)) + 1):
            phrase = " ".join(words[begin:end])
            if phrase in needed or (phrase in others and begin in asked):
                asked.add(end)
            if phrase in others and begin in without:
                without.add(end)
    return len(words) in asked
