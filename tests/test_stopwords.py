import itertools
import tomllib
import unicodedata
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stopwords import StopWords, languages
from stopwords.folding import folded
from stopwords.lists import lists
from stopwords.matching import made_of

EACH = sorted({word for words in languages().values() for word in words})
COURTESY: dict[str, dict[str, list[str]]] = tomllib.loads(
    files("stopwords").joinpath("courtesy.toml").read_text("utf-8")
)
DEVICES = COURTESY.pop("devices")
TABLE: dict[str, dict[str, list[str]]] = tomllib.loads((Path(__file__).parent / "stopwords.toml").read_text("utf-8"))
AROUND = st.text(st.sampled_from("!?.,;:…\"'«»()*_~-/ \n\t🙏🛑✋🏽❤\ufe0f\u200f\u202a"), max_size=6)
#: every word that stands in any phrase
KNOWN = {
    word for phrases in (lists().wishes, lists().courtesy, lists().more) for one in phrases for word in one.split()
}

stop_word = StopWords().found_in


def of_table(kind: str) -> list[tuple[str, str]]:
    return [(language, text) for language, some in TABLE.items() for text in some[kind]]


def beside(language: str, word: str) -> list[str]:
    """What may stand beside a stop word, of its own language."""
    own = COURTESY[language]
    return own["courtesy"] + (own["more"] if word not in own.get("alone", ()) else [])


def test_every_language_has_its_words() -> None:
    assert {"en", "es", "pt", "fr", "de", "it", "nl", "hi", "ar", "he", "ru", "tr", "id", "pl"} <= set(languages())
    assert all(len(set(words)) == len(words) >= 5 for words in languages().values())


def test_every_language_has_its_courtesy() -> None:
    assert COURTESY.keys() == languages().keys()
    for own in COURTESY.values():
        assert own.keys() - {"alone"} == {"courtesy", "more", "signatures"}
        assert all(len(set(words)) == len(words) for words in own.values())
        assert all(signature.count("*") == 1 for signature in own["signatures"])


def test_no_word_is_two_things() -> None:
    known = lists()
    assert known.alone <= known.wishes
    assert known.wishes & (known.courtesy | known.more) == set()
    # Else `more` of one language would stand beside words of another that say something else with it.
    assert known.courtesy & known.more == set()


@given(st.sampled_from(EACH), AROUND, AROUND)
def test_what_stands_around_a_word_makes_no_difference(word: str, before: str, after: str) -> None:
    assert stop_word(before + word + after)


@pytest.mark.parametrize("word", EACH)
def test_how_a_word_is_written_makes_no_difference(word: str) -> None:
    assert stop_word(word.upper())
    assert stop_word(word.title())
    assert stop_word(unicodedata.normalize("NFD", word))
    assert stop_word("  ".join(word.split()))


@pytest.mark.parametrize("language", languages())
def test_courtesy_stands_before_and_after_every_word_of_its_language(language: str) -> None:
    for word in languages()[language]:
        for courtesy in beside(language, word):
            assert stop_word(f"{word}, {courtesy}!"), (word, courtesy)
            assert stop_word(f"{courtesy} {word}"), (courtesy, word)


@pytest.mark.parametrize("language", languages())
def test_a_signature_stands_below(language: str) -> None:
    for word, signature in itertools.product(languages()[language], COURTESY[language]["signatures"]):
        assert stop_word(f"{word}\n\n{signature.replace('*', 'iPhone')}"), (word, signature)


def test_courtesy_alone_is_no_wish() -> None:
    for own in COURTESY.values():
        for one in own["courtesy"] + own["more"] + [text.replace("*", "iPad") for text in own["signatures"]]:
            assert stop_word(one) is None, one
            assert stop_word(f"{one} {own['courtesy'][0]}") is None, one


@pytest.mark.parametrize("language", languages())
def test_a_word_that_says_something_else_with_more_stands_alone(language: str) -> None:
    own = COURTESY[language]
    for word, more in itertools.product(own.get("alone", ()), own["more"]):
        if folded(f"{word} {more}") not in lists().wishes:
            assert stop_word(f"{word} {more}") is None, (word, more)


wishes = st.lists(st.sampled_from(EACH), min_size=1, max_size=2)
courtesies = st.lists(st.sampled_from([one for one in sorted(lists().courtesy) if len(one) < 20]), max_size=2)
messages = st.builds(list.__add__, wishes, courtesies).flatmap(st.permutations)
ordinary = st.sampled_from([text for _, text in of_table("other") if not set(folded(text).split()) <= KNOWN])
random_letters = st.text("bcdfgkmqxz", min_size=2).filter(lambda word: word not in KNOWN)


@given(messages)
def test_words_and_courtesy_of_all_languages_mix(parts: list[str]) -> None:
    assert stop_word(" ".join(parts))


@given(messages, ordinary | random_letters, st.data())
def test_anything_more_is_no_wish(parts: list[str], more: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(parts)))
    assert stop_word(" ".join([*parts[:place], more, *parts[place:]])) is None


@pytest.mark.parametrize(("language", "text"), of_table("heeded"))
def test_a_wish_is_one(language: str, text: str) -> None:
    assert stop_word(text), language


@pytest.mark.parametrize(("language", "text"), of_table("other"))
def test_anything_else_is_none(language: str, text: str) -> None:
    assert stop_word(text) is None, language


def test_every_language_is_in_the_table() -> None:
    assert TABLE.keys() - {"any"} == languages().keys()


def test_a_long_message_is_none() -> None:
    assert stop_word(" ".join(["stop"] * 32))
    assert stop_word(" ".join(["stop"] * 33)) is None


def test_the_words_come_back_as_they_were_written() -> None:
    assert stop_word(" Please\nSTOP! ") == "Please STOP!"


# --- an org's own ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", EACH)
def test_an_ignored_word_is_no_wish(word: str) -> None:
    found = StopWords(ignore=[word.upper()]).found_in
    assert found(word) is None
    assert found(f"{word}, please") is None
    assert found(f"{word} {'quit' if word == 'stop' else 'stop'}")


def test_an_added_word_is_one() -> None:
    found = StopWords(add=["Quiet!", "lass gut sein", "หยุด"]).found_in
    assert found("quiet, please")
    assert found("QUIET now")
    assert found("Bitte lass gut sein. Danke")
    assert found("หยุด!")
    assert found("stop")
    assert found("be quiet") is None
    assert found("หยด") is None, "a mark that is a vowel makes a difference"
    assert stop_word("quiet") is None


# --- cutting into phrases --------------------------------------------------------------------------------------------


def cuts(words: list[str]) -> Iterable[list[str]]:
    """Every way to cut words into phrases."""
    for places in itertools.product((False, True), repeat=len(words) - 1):
        marks = [0, *(place for place, cut in enumerate(places, 1) if cut), len(words)]
        yield [" ".join(words[begin:end]) for begin, end in itertools.pairwise(marks)]


phrases = st.frozensets(st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(" ".join), max_size=5)


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=7), phrases, phrases)
def test_a_message_is_cut_wherever_it_can_be(
    words: list[str], needed: AbstractSet[str], others: AbstractSet[str]
) -> None:
    possible = any(set(cut) <= needed | others and set(cut) & needed for cut in cuts(words))
    assert made_of(words, needed, others, 3) == possible
