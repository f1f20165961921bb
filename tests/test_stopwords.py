import itertools
import tomllib
import unicodedata
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stopwords import StopWords, is_listed
from stopwords.folding import folded
from stopwords.lists import LISTS, WISHES, Kind, Language, file_of, languages, names, signatures, spelled_out
from stopwords.matching import MAX_LENGTH, MAX_REASON, Rule, cut, is_made_by

TABLE: dict[str, dict[str, list[str]]] = tomllib.loads((Path(__file__).parent / "stopwords.toml").read_text("utf-8"))
AROUND = st.text(st.sampled_from("!?.,;:…\"'«»()*_~-/ \n\t🙏🛑✋🏽❤\ufe0f\u200f\u202a"), max_size=6)


@cache
def written(name: str) -> dict[str, list[str]]:
    """Return the lists of a language, spelled out."""
    return {
        key: [" ".join(phrase.split()) for phrase in spelled_out(file_of(name), key)] for key in (*LISTS, "signatures")
    }


#: the lists of stop words
ASKING = ("wishes", "alone", "own", "bare")
EACH = sorted({word for name in (*names(), "any") for key in ASKING for word in written(name)[key]})
#: every word that stands in any phrase
KNOWN = {word for language in languages().values() for phrase in language.kinds for word in phrase.split()}

stop_word = StopWords().found_in


def of_table(kind: str) -> list[tuple[str, str]]:
    return [(language, text) for language, some in TABLE.items() for text in some[kind]]


def some(words: list[str]) -> list[str]:
    """Return enough of a long list: what stands beside a word hangs on its kind, not on the word."""
    return words[:: len(words) // 10 + 1]


def test_every_language_has_its_words_and_its_courtesy() -> None:
    assert {"en", "es", "pt", "fr", "de", "it", "nl", "hi", "ar", "he", "ru", "tr", "id", "pl"} <= set(names())
    for name in names():
        own = written(name)
        assert min(len(own[key]) for key in ("wishes", "courtesy", "more", "signatures")) > 0, name
        assert all(signature.count("*") == 1 for signature in own["signatures"])


@pytest.mark.parametrize("name", [*names(), "any"])
def test_every_pattern_is_spelled_out(name: str) -> None:
    for phrase in itertools.chain(*written(name).values()):
        assert folded(phrase.replace("*", "x"))
        assert not set("()[]{}|") & set(phrase), phrase


@pytest.mark.parametrize("name", names())
def test_no_phrase_is_two_things(name: str) -> None:
    kinds: dict[str, str] = {}
    for key in LISTS:
        for phrase in written(name)[key]:
            assert kinds.setdefault(folded(phrase, tones=languages()[name].tones), key) == key, phrase
    assert not kinds.keys() & {folded(phrase) for key in ASKING for phrase in written("any")[key]}


@given(st.sampled_from(EACH), AROUND, AROUND)
def test_what_stands_around_a_word_makes_no_difference(word: str, before: str, after: str) -> None:
    assert stop_word(before + word + after)


@pytest.mark.parametrize("name", names())
def test_how_a_word_is_written_makes_no_difference(name: str) -> None:
    for word in itertools.chain(*(some(written(name)[key]) for key in ASKING)):
        assert stop_word(word.upper()), word
        assert stop_word(word.title()), word
        assert stop_word(unicodedata.normalize("NFD", word)), word
        assert stop_word("  ".join(word.split())), word


@pytest.mark.parametrize("name", names())
def test_courtesy_stands_before_and_after_every_word_of_its_language(name: str) -> None:
    own = written(name)
    for key in ("wishes", "alone", "own"):
        for word, courtesy in itertools.product(some(own[key]), some(own["courtesy"])):
            assert stop_word(f"{word}, {courtesy}!"), (word, courtesy)
            assert stop_word(f"{courtesy} {word}"), (courtesy, word)


@pytest.mark.parametrize("name", names())
def test_what_is_to_stop_stands_beside_clear_words_alone(name: str) -> None:
    own = written(name)
    for more in some(own["more"]):
        for word in some(own["wishes"]):
            assert stop_word(f"{word} {more}"), (word, more)
            assert stop_word(f"{more} {word}"), (more, word)
        for word in own["alone"] + own["own"] + own["bare"]:
            if not listed(name, f"{word} {more}"):
                assert stop_word(f"{word} {more}") is None, (word, more)


@pytest.mark.parametrize("name", names())
def test_what_stands_behind_a_word_does_not_stand_before_it(name: str) -> None:
    own = written(name)
    for word, behind in itertools.product(some(own["wishes"]), some(own["behind"])):
        assert stop_word(f"{word} {behind}"), (word, behind)
    for behind in own["behind"]:
        if behind not in own["more"] and not listed(name, f"{behind} stop"):
            assert languages()[name].kinds[folded(behind, tones=languages()[name].tones)] is Kind.BEHIND
    assert stop_word("stop messages")
    assert stop_word("messages stop") is None


def listed(name: str, phrase: str) -> bool:
    language = languages()[name]
    return language.kinds.get(folded(phrase, tones=language.tones)) in WISHES


@pytest.mark.parametrize("name", names())
def test_an_everyday_word_of_another_language_goes_with_no_courtesy_but_its_own(name: str) -> None:
    for word in written(name)["own"]:
        # Spanish and Portuguese share words, and courtesy.
        home = [other for other in names() if word in written(other)["own"]]
        polite = {folded(one) for other in home for one in written(other)["courtesy"]}
        assert stop_word(word)
        assert stop_word(f"{word} {word}") is None
        for other in (*names(), "any"):
            for courtesy in written(other)["courtesy"]:
                if folded(courtesy) not in polite:
                    assert stop_word(f"{word}, {courtesy}") is None, (word, courtesy)


@pytest.mark.parametrize("name", names())
def test_a_word_that_courtesy_makes_another_one_stands_by_itself(name: str) -> None:
    own = written(name)
    for word, beside in itertools.product(own["bare"], own["courtesy"] + own["more"] + own["bare"]):
        assert stop_word(word)
        if not listed(name, f"{word} {beside}"):
            assert stop_word(f"{word} {beside}") is None, (word, beside)


@pytest.mark.parametrize("name", names())
def test_a_signature_stands_below(name: str) -> None:
    own = written(name)
    words = [word for key in ASKING for word in some(own[key])]
    for word, signature in itertools.product(words, own["signatures"]):
        assert stop_word(f"{word}\n\n{signature.replace('*', 'iPhone')}"), (word, signature)


def test_courtesy_alone_is_no_wish() -> None:
    for name in names():
        own = written(name)
        for one in some(own["courtesy"]) + some(own["more"]) + some(own["behind"]):
            assert stop_word(one) is None, one
            assert stop_word(f"{one} {own['courtesy'][0]}") is None, one
        for signature in own["signatures"]:
            assert stop_word(signature.replace("*", "iPad")) is None, signature


def messages_of(name: str) -> st.SearchStrategy[list[str]]:
    """Return wishes of one language and of all, with courtesy of both."""
    own, common = written(name), written("any")
    wishes = st.lists(st.sampled_from(own["wishes"] + common["wishes"]), min_size=1, max_size=2)
    courtesy = st.lists(st.sampled_from(own["courtesy"] + common["courtesy"]), max_size=2)
    return st.builds(list.__add__, wishes, courtesy).flatmap(st.permutations)


messages = st.sampled_from(names()).flatmap(messages_of)
every_courtesy = st.sampled_from([one for name in names() for one in written(name)["courtesy"] if name != "vi"])
mixed = st.lists(every_courtesy, min_size=1, max_size=3).flatmap(lambda some: st.permutations([*some, "STOP"]))
ordinary = st.sampled_from(
    [
        text
        for name, text in of_table("other")
        # Nor a signature, which may stand below a wish.
        if name != "any" and not set(folded(text).split()) <= KNOWN and folded(text) not in signatures()
    ]
)
random_letters = st.text("bcdfgkmqxz", min_size=2).filter(lambda word: folded(word) not in KNOWN)


@given(messages | mixed)
def test_words_and_courtesy_of_a_language_mix_with_those_of_all(parts: list[str]) -> None:
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
    assert TABLE.keys() == languages().keys()


def test_a_message_may_be_as_long_as_nobody_writes() -> None:
    assert stop_word("stop " * (MAX_LENGTH // 5))
    assert stop_word("stop " * (MAX_LENGTH // 5 + 1)) is None


def test_a_long_message_is_kept_in_part() -> None:
    said = stop_word("Please STOP! " * 40)
    assert said
    assert len(said) == MAX_REASON
    assert said.startswith("Please STOP! Please")
    assert said.endswith("…")


@pytest.mark.parametrize("text", ["ty", "stop", "please thanks hi", "don't send me any more"])
def test_no_word_is_looked_at_more_often_in_a_longer_message(text: str) -> None:
    words, english = folded(text).split(), languages()["en"]
    looks = [sum(map(len, cut(words * times, english).values())) / times for times in (10, 100, 1000)]
    assert looks == sorted(looks)
    assert looks[-1] < looks[0] * 1.5


def test_the_words_come_back_as_they_were_written() -> None:
    assert stop_word(" Please\nSTOP! ") == "Please STOP!"


# --- an org's own ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*names(), "any"])
def test_an_ignored_word_is_no_wish(name: str) -> None:
    for word in filter(is_listed, itertools.chain(*(some(written(name)[key]) for key in ASKING))):
        found = StopWords(ignore=[word.upper()]).found_in
        assert found(word) is None, word
        assert found(f"{word}, please") is None, word
        assert found(f"{word} {'unsubscribe' if word == 'stop' else 'stop'}"), word


def test_a_shorter_word_with_something_beside_it_is_not_listed() -> None:
    assert is_listed("Stop!")
    assert is_listed("hủy")
    assert not is_listed("huy")
    assert not is_listed("stop, please")
    assert not is_listed("stop texting me messages")


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


def test_an_added_word_that_is_listed_counts_as_any_other() -> None:
    assert stop_word("red now please") is None
    assert StopWords(add=["Red"]).found_in("red now please")


# --- cutting into phrases --------------------------------------------------------------------------------------------


def cuts(words: list[str]) -> Iterable[list[str]]:
    """Every way to cut words into phrases."""
    for places in itertools.product((False, True), repeat=len(words) - 1):
        marks = [0, *(place for place, cut in enumerate(places, 1) if cut), len(words)]
        yield [" ".join(words[begin:end]) for begin, end in itertools.pairwise(marks)]


some_kinds = st.frozensets(st.sampled_from(list(Kind)[:4]))
phrases = st.dictionaries(
    st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(" ".join), st.sampled_from(list(Kind)[:4]), max_size=6
)


def is_wanted(rule: Rule, kinds: list[Kind | None]) -> bool:
    """Whether a first phrase is needed, with what may stand before and behind on its sides."""
    return any(
        kind in rule.needed and set(kinds[:place]) <= rule.before and set(kinds[place + 1 :]) <= rule.behind
        for place, kind in enumerate(kinds)
    )


@given(
    st.lists(st.sampled_from("abc"), min_size=1, max_size=7),
    phrases,
    st.builds(Rule, some_kinds, some_kinds, some_kinds),
)
def test_a_message_is_cut_wherever_it_can_be(words: list[str], kinds: dict[str, Kind], rule: Rule) -> None:
    possible = any(is_wanted(rule, [kinds.get(phrase) for phrase in phrases]) for phrases in cuts(words))
    assert is_made_by(rule, cut(words, Language(kinds)), len(words)) == possible


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=5), phrases, phrases)
def test_the_last_language_says_of_which_kind_a_phrase_is(
    words: list[str], kinds: dict[str, Kind], own: dict[str, Kind]
) -> None:
    assert cut(words, Language(kinds), Language(own)) == cut(words, Language(kinds | own))
