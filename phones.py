"""Phone numbers with two forms that belong to one subscriber. Pure; `phone_forms` in SQL does the same.

Some countries have added digits to their numbers or removed some. WhatsApp keeps and shows the form with which an
account was registered; people dial the other one.
"""

import re
from contextlib import suppress
from functools import cache
from typing import NamedTuple

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumberFormat, ValidationResult

MIN_DIGITS, MAX_DIGITS = 7, 15  # of a phone number with its country code (ITU-T E.164; the shortest in use have 7)
FAULTS = {
    ValidationResult.INVALID_COUNTRY_CODE: "begins with no country code",
    ValidationResult.TOO_SHORT: "is too short",
    ValidationResult.TOO_LONG: "is too long",
    ValidationResult.IS_POSSIBLE_LOCAL_ONLY: "lacks its area code",
    ValidationResult.INVALID_LENGTH: "has a length that its country does not use",
}


class Twins(NamedTuple):
    """Numbers of one country that have two forms: the longer one has `digits` before its `rest`."""

    #: its country code
    code: str
    #: a pattern of what stands between the country code and the digits
    area: str
    digits: str
    #: a pattern of what stands behind them
    rest: str
    #: whether the digits were removed, not added
    gone: bool = False


#: Only forms that belong to one subscriber by the national numbering plan. Numbers are E.164 digits.
TWINS = (
    # Brazil added a 9 before mobile numbers, which began with 6 to 9; landlines begin with 2 to 5 and have none
    # (Anatel, Resolução 553 of 2010; in all areas since 2016-11-06).
    Twins("55", r"[1-9]{2}", "9", r"[6-9]\d{7}"),
    # Mexico removed the 1 that was dialled before mobile numbers from abroad (IFT, Plan Técnico Fundamental de
    # Numeración, since 2019-08-03).
    Twins("52", "", "1", r"\d{10}", gone=True),
    # Argentina's ten digits are one subscriber; from abroad a 9 is dialled before those of mobiles (Plan Fundamental de
    # Numeración Nacional, Resolución SC 46/97).
    Twins("54", "", "9", r"\d{10}"),
    # Ivory Coast added the operator's code before each number; a mobile's second digit tells which (ARTCI, since
    # 2021-01-31). Landlines, which began with 2 and 3, have codes by number blocks, and are left out.
    Twins("225", "", "01", r"[04-9][0-3]\d{6}"),
    Twins("225", "", "05", r"[04-9][4-6]\d{6}"),
    Twins("225", "", "07", r"[04-9][7-9]\d{6}"),
    # Benin added 01 before every number (ARCEP, since 2024-11-30).
    Twins("229", "", "01", r"\d{8}"),
)
_PATTERNS = [
    (
        twins,
        re.compile(f"({twins.code}{twins.area}){twins.digits}({twins.rest})", re.ASCII),
        re.compile(f"({twins.code}{twins.area})({twins.rest})", re.ASCII),
    )
    for twins in TWINS
]
_CODES = tuple(twins.code for twins in TWINS)


def forms(number: str) -> tuple[str, ...]:
    """Return the number as it was given, and its other form if there is one; digits only."""
    for twins, longer, shorter in _PATTERNS:
        if found := longer.fullmatch(number):
            return number, found[1] + found[2]
        if found := shorter.fullmatch(number):
            return number, found[1] + twins.digits + found[2]
    return (number,)


def subscriber(number: str) -> str:
    """Return the form that is dialled today: the same for both forms of one subscriber, and for no other number."""
    if not number.startswith(_CODES):
        return number
    for twins, longer, shorter in _PATTERNS:
        found = (longer if twins.gone else shorter).fullmatch(number)
        if found:
            return found[1] + ("" if twins.gone else twins.digits) + found[2]
    return number


def same_number(one: str, other: str) -> bool:
    """Tell whether two numbers are one subscriber's."""
    return subscriber(one) == subscriber(other)


def dialled(number: str) -> str:
    """Return the form of a number by which the page finds its account. Raise ValueError with what is wrong with it.

    Old forms are accepted, so that every sender can be answered: the page finds a Mexican account without its 1, and
    an account registered before its country added digits only by its old form.
    """
    try:
        return _possible(number)
    except ValueError:
        for form in forms(number)[1:]:
            with suppress(ValueError):
                return min(number, _possible(form), key=len)
        raise


def _possible(digits: str) -> str:
    """Return a number as E.164 digits. Raise ValueError with what is wrong with it."""
    if _is_plain(digits):
        return digits
    try:
        number = phonenumbers.parse(f"+{digits}")
        reason = phonenumbers.is_possible_number_with_reason(number)
    except NumberParseException:
        number, reason = None, ValidationResult.INVALID_COUNTRY_CODE
    fault = "is too short" if len(digits) < MIN_DIGITS else "is too long" if len(digits) > MAX_DIGITS else None
    if fault or number is None or reason != ValidationResult.IS_POSSIBLE:
        raise ValueError(f"must be a phone number with its country code: {digits} {fault or FAULTS[reason]}")
    return phonenumbers.format_number(number, PhoneNumberFormat.E164).removeprefix("+")


# --- the fast way --------------------------------------------------------------------------------------------------


class _Country(NamedTuple):
    """What phonenumbers knows of a country's numbers, without the country code."""

    lengths: frozenset[int]
    #: what is dialled before them within the country, and may be removed
    prefix: re.Pattern[str] | None


def _is_plain(digits: str) -> bool:
    """Tell whether a number is possible as it stands: most are, and phonenumbers takes ten times as long to say so."""
    if not MIN_DIGITS <= len(digits) <= MAX_DIGITS:
        return False
    code = next((digits[:length] for length in (1, 2, 3) if digits[:length] in _COUNTRY_CODES), None)
    if code is None:
        return False
    country, national = _country(int(code)), digits[len(code) :]
    return len(national) in country.lengths and not (country.prefix and country.prefix.match(national))


_COUNTRY_CODES = frozenset(map(str, phonenumbers.COUNTRY_CODE_TO_REGION_CODE))


@cache
def _country(code: int) -> _Country:
    region = phonenumbers.region_code_for_country_code(code)
    known = phonenumbers.PhoneMetadata.metadata_for_region_or_calling_code(code, region)
    if known is None or known.general_desc is None:
        return _Country(frozenset(), None)
    prefix = known.national_prefix_for_parsing
    return _Country(frozenset(known.general_desc.possible_length), re.compile(prefix) if prefix else None)
