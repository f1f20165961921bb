import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stopwords import languages, stop_word

EACH = sorted({word for words in languages().values() for word in words})
AROUND = st.text(st.sampled_from("!?.,;:…\"'«»()*_~-/ \n\t🙏🛑✋🏽❤\ufe0f\u200f\u202a"), max_size=6)


def test_every_language_has_its_words() -> None:
    assert {"en", "es", "pt", "fr", "de", "it", "nl", "hi", "ar", "he", "ru", "tr", "id", "pl"} <= set(languages())
    assert all(len(set(words)) == len(words) >= 5 for words in languages().values())


@given(st.sampled_from(EACH), AROUND, AROUND)
def test_what_stands_around_a_word_makes_no_difference(word: str, before: str, after: str) -> None:
    assert stop_word(before + word + after)


@pytest.mark.parametrize("word", EACH)
def test_how_a_word_is_written_makes_no_difference(word: str) -> None:
    assert stop_word(word.upper())
    assert stop_word(word.title())
    assert stop_word(unicodedata.normalize("NFD", word))
    assert stop_word("  ".join(word.split()))


@pytest.mark.parametrize(
    "text",
    [
        "STOP", "Stop.", "stop!!!", "🛑 STOP 🛑", "*STOP*", "\uff33\uff34\uff2f\uff30", "s\u200btop",
        "Don\u2019t message me", "opt-out", "ARRET", "Arrêt !", "¡Baja!", "Nao quero mais mensagens", "İPTAL", "IPTAL",
        "ÇIK", "cik", "הָסֵר", "أَوْقِفْ", "اوقف", "बंद करो!", "Стоп…",
    ],
)  # fmt: skip
def test_a_wish_is_one(text: str) -> None:
    assert stop_word(text)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "!", "🛑", "don't stop", "Don't stop!", "stop by tomorrow", "Where is the bus stop?", "stopping",
        "nonstop", "STOP?? why would I, go on please", "start", "yes", "no", "ok", "1", "parking",
        "the end of the month", "cancel the order, please", "I want to unsubscribe my neighbour", "stop " * 40,
        "s t o p", "st.op",
    ],
)  # fmt: skip
def test_anything_else_is_none(text: str) -> None:
    assert stop_word(text) is None


def test_the_words_come_back_as_they_were_written() -> None:
    assert stop_word(" Please\nSTOP! ") == "Please STOP!"
