# ruff: noqa: RUF001 - the scripts of the world are what this is about
import unicodedata
from typing import Literal

import pytest
from fixtures_browser import SELECTORS

from browser.page.chat_owner import is_group, numbers_of
from browser.page.chats import same_title
from browser.page.compose import CLUSTER, pieces, safely_typed
from browser.page.text_matching import essence, label_number, plain, same_box, same_text, surely_same, title_number


@pytest.mark.parametrize(
    ("sent", "seen", "holes"),
    [
        ("Hello", "Hello", 0),
        ("two\nlines  and\tspaces", "two lines and spaces", 0),
        ("a\u00a0b", "a b", 0),
        ("\u202bשלום\u202c", "שלום\u200f", 0),
        ("\u2067مرحبا\u2069 1", "مرحبا 1", 0),
        ("heart ❤\ufe0f", "heart ❤", 0),
        ("party 🎉 on", "party  on", 1),  # a picture without a name
        ("party 🎉 on", "party  on", 0),  # drawn as a background
        ("👩\u200d👩\u200d👧", "👩\u200d👩\u200d👧", 0),
        ("🎉🎉", "", 2),  # nothing to compare
        ("1\ufe0f\u20e3 first", "first", 1),
        ("*bold* _it_ ~no~ ```code```", "bold it no code", 0),
        ("- one\n- two\n> said\n1. first", "one\ntwo\nsaid\nfirst", 0),
        ("é", "e\u0301", 0),
        ("x" * 3000, "x" * 700 + "… Read more", 0),
        ("*1. Your order* is ready", "1. Your order is ready", 0),
        ("*2. Pagamento*\nPix", "2. Pagamento\nPix", 0),
        ("- 24. Dezember: zu\n- 25. Dezember: zu", "- 24. Dezember: zu\n- 25. Dezember: zu", 0),
        ("1. 24. Mai", "24. Mai", 0),
        ("10. 5. 2026", "1. 5. 2026", 0),
        ("3. 2. 1. Go!", "2. 1. Go!", 0),
        ("1. Item\n   - sub\n2. Item", "Item\nsub\nItem", 0),
        ("Pedido 42\r\n-\r\nTotal: 10", "Pedido 42\n-\nTotal: 10", 0),
        ("  outer  ", "outer", 0),
        ("📋 *Menu*" + "\u200e" * 850 + "\n1) Pizza", "📋 Menu" + "\u200e" * 759 + "… Read more", 0),
        # the same, its emoji drawn as a background that nobody can read
        ("📋 *Menu*" + "\u200e" * 850 + "\n1) Pizza", " Menu" + "\u200e" * 759 + "… Read more", 0),
        ("📋 " + "_" * 400 + "\n" + "*" * 400, " " + "_" * 400 + "\n" + "*" * 367 + "… Read more", 0),
        ("📋📦 *Menu*" + "\u200e" * 850, "📦 Menu" + "\u200e" * 759 + "… Read more", 1),
        ("Pedido 42" + " " * 900 + "obrigado", "Pedido 42" + " " * 759 + "… Read more", 0),
        ("_" * 400 + "\n" + "*" * 400 + "\nTotal 10", "_" * 400 + "\n" + "*" * 367 + "… Read more", 0),
        ("a" * 700 + "\n10. x" + "b" * 100, "a" * 700 + "\n10.… Read more", 0),
        ("a" * 700 + "\n- 1. x" + "b" * 100, "a" * 700 + "\n-… Read more", 0),
    ],
)
def test_a_text_is_recognised_however_it_is_drawn(sent: str, seen: str, holes: int) -> None:
    assert same_text(sent, seen, holes=holes)


@pytest.mark.parametrize(
    ("sent", "seen", "holes"),
    [
        ("Hello", "Hello!", 0),
        ("Your code is 1234", "Your code is 1235", 0),
        ("party 🎉", "party 🎂", 0),
        ("party 🎉", "parting", 1),
        ("abc" * 30, "abc… Read more", 0),  # too short a beginning to be a proof
        ("a b", "ab c", 0),
    ],
)
def test_another_text_is_not(sent: str, seen: str, holes: int) -> None:
    assert not same_text(sent, seen, holes=holes)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize(
    "words",
    [
        "안녕하세요 고객님 주문하신 상품이 발송되었습니다. ",
        "Xin chào quý khách, đơn hàng đã được giao thành công. ",
        "がぎぐげご ",
        "नमस्ते जी ",
    ],
)
def test_a_fold_inside_a_character_is_no_difference(words: str, form: Literal["NFC", "NFD"]) -> None:
    text = unicodedata.normalize(form, words * 60)
    for end in range(200, 260):
        assert same_text(text, text[:end] + "… Read more")
        assert not same_text(text, text[: end - 8] + "X" + text[end - 8 : end] + "… Read more")


@pytest.mark.parametrize(
    ("sent", "seen", "surely"),
    [
        ("1. a\n1. b", "1. a\n1. b", True),
        ("1. a\n1. b", "1. a\n2. b", False),  # as the page draws it, or another message
        ("1. a\n2. b", "a\nb", False),
        ("🎉", "", False),
        ("Pay 10 or 20", "Pay 10 or 20", True),
    ],
)
def test_a_text_alone_identifies_a_message_if_all_digits_agree(sent: str, seen: str, *, surely: bool) -> None:
    assert surely_same(sent, seen) is surely


@pytest.mark.parametrize(
    ("sent", "held"),
    [
        ("a\nb", "a\nb\n"),
        ("  a  b ", "a  b"),
        ("a\r\nb", "a\nb"),
        ("a\u00a0b", "a b"),
        ("* one\n2. two\n> said", "- one\n1. two\n> said"),
        ("\u200fשלום", "שלום"),
        ("e\u0301", "é"),
    ],
)
def test_the_box_holds_the_text(sent: str, held: str) -> None:
    assert same_box(sent, held)


@pytest.mark.parametrize(
    ("sent", "held"),
    [
        ("first\nsecond", "firstsecond"),
        ("first\nsecond", "first second"),
        ("first\n\nsecond", "first\nsecond"),
        ("a  b", "a b"),
        ("*bold*", "bold"),
        ("- one\n- two", "- one\n- - two"),
        ("- one", "one"),
        ("see :)", "see 🙂"),
    ],
)
def test_the_box_holds_something_else(sent: str, held: str) -> None:
    assert not same_box(sent, held)


@pytest.mark.parametrize(
    ("held", "unnamed"), [("Party 🎉 for you", False), ("Party  for you", True), ("Party 🎂 for you", True)]
)
def test_emoji_count_unless_the_box_does_not_name_them(held: str, *, unnamed: bool) -> None:
    assert same_box("Party 🎉 for you", held, unnamed=unnamed)
    assert same_box("Party 🎉 for you", held) is not unnamed
    assert not same_box("Party 🎉 for them", held, unnamed=True)


@pytest.mark.parametrize("text", [" " * 65_536, "-" + " " * 65_535, "\n" * 65_536, "- " * 32_768, "1" * 65_536])
def test_no_text_takes_long_to_compare(text: str) -> None:
    assert same_text(text, text)
    assert not same_text(text + "x", text + "y…")
    assert same_box(text, text)


def test_essence_keeps_joined_scripts_apart_from_marks() -> None:
    assert essence("می\u200cخواهم") == "میخواهم"


def test_plain_makes_apostrophes_and_spaces_ordinary() -> None:
    assert plain("What\u2019s\u00a0new\n on\u200e WhatsApp Web") == "what's new on whatsapp web"


@pytest.mark.parametrize(
    ("title", "number"),
    [
        ("\u202a+1 (555) 123-4567\u202c", "15551234567"),
        ("+1 555-111-9999 (You)", "15551119999"),
        ("1 unread message+55 19 99999-0000", "5519999990000"),
        ("1,227 unread messages+55 19 99999-0000", "5519999990000"),
        ("15551234567", "15551234567"),
        ("+٩٧١ ٥٠ ١٢٣ ٤٥٦٧", "971501234567"),
        ("+९१ ९८७६५ ४३२१०", "919876543210"),
        ("+225 07 01 02 03", "22507010203"),
        ("+999 123 456 789", "999123456789"),  # of no country that we know of: in doubt a number
        ("12 unread messages", ""),
        ("Ada Lovelace", ""),
        ("Maria 12345678", ""),
        ("Maria +55 11 98765-4321", ""),
        ("+55 11 98765-4321 Maria", ""),
        ("Flat 101-202", ""),
        ("101-202", ""),
        ("2024-2025", ""),
        ("12345678", ""),
        ("", ""),
    ],
)
def test_a_title_is_a_number_as_a_whole_or_none(title: str, number: str) -> None:
    assert title_number(title) == number


@pytest.mark.parametrize(
    ("label", "number"),
    [
        ("Type a message to +55 11 98765\u20114321", "5511987654321"),
        ("Type a message to +1 555-111-9999 (You)", "15551119999"),
        ("Digite uma mensagem para \u202a+55 11 98765-4321\u202c", "5511987654321"),
        ("Type a message to Maria 12345678", ""),
        ("Type a message to Juan 2024-2025", ""),
        ("Type a message", ""),
        ("", ""),
    ],
)
def test_a_label_ends_with_a_number_or_a_name(label: str, number: str) -> None:
    assert label_number(label) == number


def test_pieces_keep_clusters_whole_and_lose_nothing() -> None:
    text = "héllo 👩\u200d👩\u200d👧 🇩🇪 👍🏽\nשלום e\u0301\n" + "long " * 5000
    clusters = CLUSTER.findall(text)
    assert {"👩\u200d👩\u200d👧", "🇩🇪", "👍🏽", "e\u0301", "\n"} <= set(clusters)
    cut = list(pieces(clusters))
    assert "".join(cut) == text
    assert 1 < len(cut) < 10


@pytest.mark.parametrize(
    ("text", "typed"),
    [
        ("plain words, and numbers 1.5 - and dashes", 200),
        ("see https://example.org/:x?a=1;b", 200),
        ("10:30 at the gate; mail a@b.c", 200),
        ("ab\n- one", 3),
        ("1. one", 0),
        ("  > said", 0),
        ("I like it :) and", 10),
        ("I like it <3", 10),
        ("x :smile", 2),
        ("dear @ann", 5),
        ("👩\u200d👩\u200d👧 :)", 2),
    ],
)
def test_what_the_page_would_rewrite_is_not_typed(text: str, typed: int) -> None:
    assert safely_typed(text) == typed


@pytest.mark.parametrize(
    ("name", "title", "same"),
    [
        ("Ann", "Ann", True),
        ("Ann", "1 unread messageAnn", True),
        ("Ann", "1,227 unread messagesAnn", True),
        ("+1 555-123-4567", "2 unread messages+1 555-123-4567", True),
        ("Ann", "Joann", False),
        ("Ann", "Ann Marie", False),
        ("", "Ann", False),
    ],
)
def test_a_title_of_the_list_is_a_chats_as_a_whole(name: str, title: str, same: bool) -> None:
    assert same_title(name, title) == same


@pytest.mark.parametrize(
    ("title", "label", "numbers"),
    [
        ("+55 11 98765-4321", "Type a message to +55 11 98765-4321", ["5511987654321", "5511987654321"]),
        ("", "Type a message to +55 11 98765-4321", ["5511987654321"]),
        ("Ann", "Type a message to Ann", []),
        ("Paulo +55 21 99876-5432", "Type a message to Paulo +55 21 99876-5432", []),
        ("Ann", "Type a message to +55 11 98765-4321", ["5511987654321"]),  # the box is still another chat's
        ("Flat 4321", "Type a message to +55 11 98765-4321", ["5511987654321"]),
    ],
)
def test_an_open_chat_bears_numbers_but_not_those_in_a_name(title: str, label: str, numbers: list[str]) -> None:
    assert numbers_of({"title": title, "label": label, "ids": []}) == numbers


@pytest.mark.parametrize(
    ("title", "label", "ids", "group"),
    [
        ("Ann", "Type a message to Ann", [], False),
        ("Groupama", "Type a message to Groupama", [], False),
        ("Group 7", "Type a message to Group 7", [], False),
        ("Team", "Type a message to group Team", [], True),
        ("Group 7", "Type a message to group Group 7", [], True),
        ("+44 7700 900555", "Type a message to group \u202a+44 7700 900555\u202c", [], True),
        ("", "Type a message to group Team", [], True),
        ("Ann, Bob, You", "Type a message to group Team", [], True),  # the title is that of the line below
        ("7", "Type a message to group 7", [], True),
        ("Team", "Type a message", ["false_120363000000000010@g.us_3EB0"], True),
        ("Ann", "Type a message", ["false_15551234567@c.us_3EB0"], False),
    ],
)
def test_a_group_is_told_from_somebody_who_is_called_so(title: str, label: str, ids: list[str], *, group: bool) -> None:
    assert is_group({"title": title, "label": label, "ids": ids}, SELECTORS) == group
