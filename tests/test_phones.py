"""Which numbers are one subscriber: the table, and the same in SQL."""

import random
import re

import phonenumbers
import pytest

import phones
from phones import MAX_DIGITS, TWINS, Twins, dialled, forms, same_number, subscriber
from sql.database import Database

#: the form that is dialled today, the other one
PAIRS = [
    ("5511987654321", "551187654321"),
    ("525512345678", "5215512345678"),
    ("5491112345678", "541112345678"),
    ("2250707010203", "22507010203"),
    ("2250544010203", "22544010203"),
    ("2250101010203", "22501010203"),
    ("2290161234567", "22961234567"),
]
#: two people each
STRANGERS = [
    ("551132782153", "5511932782153"),  # a landline of São Paulo, and a mobile
    ("5511912345678", "551112345678"),  # a mobile that was never without its 9
    ("2250701010203", "22501010203"),  # Orange's, and Moov's from before
    ("2252722401020", "22522401020"),  # landlines are told apart by blocks
    ("15551234567", "15551234568"),
    ("447911123456", "47911123456"),
    ("5511987654321", "5521987654321"),
]


@pytest.mark.parametrize(("dialled", "other"), PAIRS)
def test_two_forms_are_one_subscriber(dialled: str, other: str) -> None:
    assert same_number(dialled, other)
    assert subscriber(other) == subscriber(dialled) == dialled
    assert forms(dialled) == (dialled, other)
    assert forms(other) == (other, dialled)


@pytest.mark.parametrize(("one", "other"), STRANGERS)
def test_two_people_are_two(one: str, other: str) -> None:
    assert not same_number(one, other)
    assert other not in forms(one)
    assert one not in forms(other)


@pytest.mark.parametrize("twins", TWINS)
def test_each_row_of_the_table_has_an_example(twins: Twins) -> None:
    longer = re.compile(twins.code + twins.area + twins.digits + twins.rest)
    assert any(longer.fullmatch(number) for pair in PAIRS for number in pair)


def numbers(count: int) -> list[str]:
    """Numbers of the table's countries and of their neighbours, of lengths that exist and of some that do not."""
    dice = random.Random(55)  # noqa: S311  # no secret
    begins = [
        code + digits for twins in TWINS for code in (twins.code, "1") for digits in ("", twins.digits, "11", "119")
    ]
    return [
        dice.choice(begins) + "".join(dice.choices("0123456789", k=dice.choice([7, 8, 9, 10, 11])))
        for _ in range(count)
    ]


async def test_sql_says_the_same_of_a_hundred_thousand_numbers(database: Database) -> None:
    asked = numbers(100_000)
    async with database.transaction() as tx:
        cursor = await tx.connection.execute(
            "select number, phone_forms(number) from unnest(%s::text[]) with ordinality as it (number, n) order by n",
            [asked],
        )
        told = await cursor.fetchall()
    assert [(number, tuple(found)) for number, found in told] == [(number, forms(number)) for number in asked]
    assert sum(len(found) == 2 for _, found in told) > 5_000
    assert sum(len(found) == 1 for _, found in told) > 5_000


def test_every_form_leads_to_one_subscriber_and_no_stranger() -> None:
    owners: dict[str, str] = {}
    for number in numbers(5_000):
        for form in forms(number):
            assert subscriber(form) == subscriber(number)
            assert set(forms(form)) == set(forms(number))
            assert owners.setdefault(form, subscriber(number)) == subscriber(number)


# --- the fast way --------------------------------------------------------------------------------------------------


def any_numbers(count: int) -> list[str]:
    """Numbers of all countries and of none, with any number of digits."""
    dice = random.Random(17)  # noqa: S311  # no secret
    codes = ["", *map(str, phonenumbers.COUNTRY_CODE_TO_REGION_CODE)]
    return [
        dice.choice(codes) + "".join(dice.choices("0123456789", k=dice.choice([3, 5, 6, 7, 8, 9, 10, 10, 11, 13])))
        for _ in range(count)
    ]


def answer(number: str) -> str:
    try:
        return dialled(number)
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("count", [10_000, pytest.param(1_000_000, marks=pytest.mark.long)])
def test_the_fast_way_says_what_phonenumbers_says(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = any_numbers(count)
    fast = [answer(number) for number in asked]
    taken = sum(map(phones._is_plain, asked))
    monkeypatch.setattr(phones, "_is_plain", lambda _: False)
    assert fast == [answer(number) for number in asked]
    assert count / 10 < taken < count * 9 / 10


def test_all_countries_have_a_fast_way() -> None:
    lacking = {
        code
        for code in phonenumbers.COUNTRY_CODE_TO_REGION_CODE
        if not any(
            phones._is_plain(f"{code}{digit * length}")
            for digit in "2345678"
            for length in range(4, MAX_DIGITS + 1 - len(str(code)))
        )
    }
    # What is removed from numbers of Argentina may be nothing, so that none is plain.
    assert lacking == {54}
