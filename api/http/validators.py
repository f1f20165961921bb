"""Types of request fields: how each is checked and normalised. Each validator raises ValueError with a sentence."""

import json
import re
import unicodedata
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, WithJsonSchema

from api.http.models import shown
from api.http.patterns import READABLE
from phones import MAX_DIGITS, MIN_DIGITS, dialled
from texts import even_breaks

LONGEST_MESSAGE = 65_536  # UTF-16 units, which is how WhatsApp's page counts
LARGEST_METADATA = 4096  # bytes, minified
DEEPEST_METADATA = 5  # levels of nested objects and lists, the outermost included
LONGEST_PHONE = 40  # characters, separators included


#: What people call something: not blank.
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"\S")]


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


#: Takes a number without a fraction for an integer, as JSON Schema does (validation, 6.1.1). It comes last in
#: `Annotated`: before the bounds, it would keep them out of the schema.
WHOLE = BeforeValidator(_whole)


# --- phone -------------------------------------------------------------------------------------------------------

PHONE = re.compile(r"\(?\+?[0-9][0-9 ().\-/]*", re.ASCII)
#: Unicode category of a character in a pasted number → what it is replaced by
PASTED = {"Zs": " ", "Pd": "-", "Cf": ""}
#: full-width forms of ASCII, as East Asian keyboards type them
FULL_WIDTH = {wide: wide - 0xFF01 + 0x21 for wide in range(0xFF01, 0xFF5F)}


def _unpasted(text: str) -> str:
    """Return the digits of a number as it was typed or pasted: with direction marks or in full-width digits too."""
    if len(text) <= LONGEST_PHONE and text.isascii() and text.isdecimal():
        return text  # as programs write it
    wanted = f"must be a phone number with its country code, such as 15551234567, not {shown(text)}"
    if len(text) > LONGEST_PHONE:
        raise ValueError(wanted)
    plain = "".join(PASTED.get(unicodedata.category(each), each) for each in text.translate(FULL_WIDTH)).strip()
    if PHONE.fullmatch(plain):
        return re.sub(r"[^0-9]", "", plain)
    strange = [f"U+{ord(each):04X}" for each in plain if not PHONE.fullmatch(f"1{each}") and each != "+"]
    raise ValueError(f"{wanted}: {strange[0]} is not allowed in it" if strange else wanted)


def _phone(text: str) -> str:
    """Return E.164 digits without the plus sign, in the form by which WhatsApp's page finds the number."""
    return dialled(_unpasted(text))


AS_PHONE = {
    "type": "string",
    "format": "phone-number",
    "minLength": MIN_DIGITS,
    "maxLength": LONGEST_PHONE,
    "examples": ["15551234567"],
}
Phone = Annotated[str, AfterValidator(_phone), WithJsonSchema(AS_PHONE)]


def _number(text: str) -> str:
    """Return the digits of a number to search for: WhatsApp still shows old forms that cannot be dialled any more."""
    digits = _unpasted(text)
    if not MIN_DIGITS <= len(digits) <= MAX_DIGITS:
        raise ValueError(f"must be a phone number with its country code, such as 15551234567, not {shown(text)}")
    return digits


Number = Annotated[str, AfterValidator(_number), WithJsonSchema(AS_PHONE)]


# --- message -----------------------------------------------------------------------------------------------------


def _message(text: str) -> str:
    text = even_breaks(text)
    units = len(text.encode("utf-16-le")) // 2
    if units > LONGEST_MESSAGE:
        raise ValueError(f"may have {LONGEST_MESSAGE:,} UTF-16 units and has {units:,}")
    if all(character.isspace() or unicodedata.category(character) in {"Cc", "Cf"} for character in text):
        raise ValueError(f"must have something to read in it, not {shown(text)}")
    return text


def as_message(longest: int) -> WithJsonSchema:
    """Return the schema of a text to be sent."""
    return WithJsonSchema({"type": "string", "pattern": READABLE, "minLength": 1, "maxLength": longest})


Message = Annotated[str, AfterValidator(_message), as_message(LONGEST_MESSAGE)]


# --- idempotency key ---------------------------------------------------------------------------------------------

KEY = re.compile(r"(?!job_)[A-Za-z0-9._:~-]{1,255}")


def _key(text: str) -> str:
    if not KEY.fullmatch(text):
        raise ValueError(f"must be 1 to 255 of A-Za-z0-9._:~- and not begin with job_, not {shown(text)}")
    return text


Key = Annotated[str, AfterValidator(_key), WithJsonSchema({"type": "string", "pattern": f"^{KEY.pattern}$"})]


# --- times -------------------------------------------------------------------------------------------------------


def moment(value: object) -> datetime:
    """Return a time that is given with its zone, in UTC; raise ValueError for any other value."""
    at = _parsed(value) if isinstance(value, str) else None
    if at is None:
        raise ValueError(f"must be an ISO 8601 time with its zone, such as 2026-12-01T09:00:00Z, not {shown(value)}")
    return at


def _parsed(text: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(text)
        return at.astimezone(UTC) if at.tzinfo else None
    except (ValueError, OverflowError):
        return None


def _as_moment(*examples: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "format": "date-time"} | ({"examples": [*examples]} if examples else {}))


Moment = Annotated[datetime, BeforeValidator(moment), _as_moment()]
#: Beginning and end of a period, with examples in the past.
Since = Annotated[Moment, _as_moment("2026-11-01T00:00:00Z")]
Until = Annotated[Moment, _as_moment("2026-11-02T00:00:00Z")]


# --- metadata ----------------------------------------------------------------------------------------------------


def _metadata(value: object) -> object:
    if isinstance(value, dict):
        if _deeper(value, DEEPEST_METADATA):
            raise ValueError(f"may be {DEEPEST_METADATA} levels deep and is deeper")
        size = len(minified(value).encode())
        if size > LARGEST_METADATA:
            raise ValueError(f"may have {LARGEST_METADATA:,} bytes minified and has {size:,}")
    return value


def _deeper(value: object, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return inner is not None and (levels == 0 or any(_deeper(item, levels - 1) for item in inner))


def minified(value: object) -> str:
    """Return JSON without white space."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


Metadata = Annotated[
    dict[str, JsonValue], BeforeValidator(_metadata), WithJsonSchema({"type": "object", "additionalProperties": True})
]
