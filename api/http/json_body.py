"""Read request bodies: limited in size, JSON, and without characters that Postgres or a browser cannot store."""

import json
import math
import re
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import ValidationError
from starlette.requests import ClientDisconnect, Request

from api.http.headers import header
from api.http.models import Model, shown
from api.http.problems import invalid
from errors import FieldError, Malformed, TooLarge, UnsupportedMediaType

M = TypeVar("M", bound=Model)

KIB = 1024
CAPACITY = 64 * KIB  # bytes of a body, unless its operation takes more
JSON_TYPE = re.compile(r'application/json(\s*;\s*charset="?utf-8"?)?', re.IGNORECASE)


def limit(request: Request, capacity: int) -> None:
    """Say how many bytes the body may have."""
    _state(request)["capacity"] = capacity


async def raw(request: Request) -> bytes:
    """Return the body, read once. Raise TooLarge as soon as it is too large, also when it comes in chunks."""
    state = _state(request)
    body: bytes | None = state.get("body")
    if body is None:
        body = state["body"] = await _read(request, state.get("capacity", CAPACITY))
    return body


def _state(request: Request) -> dict[str, Any]:
    state: dict[str, Any] = request.scope.setdefault("state", {})
    return state


async def _read(request: Request, capacity: int) -> bytes:
    announced = header(request.scope, b"content-length")
    if announced.isdecimal() and int(announced) > capacity:
        raise _too_large(capacity)
    body, more = bytearray(), True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        if len(body) > capacity:
            raise _too_large(capacity)
        more = message.get("more_body", False)
    return bytes(body)


def _too_large(capacity: int) -> TooLarge:
    return TooLarge(f"The body may have {capacity:,} bytes.")


async def read(request: Request, model: type[M]) -> M:
    """Return the body as `model`; it may be left out if all fields may be left out."""
    data = await raw(request)
    if not data and not model.is_required():
        return model()
    if not JSON_TYPE.fullmatch(header(request.scope, b"content-type").strip()):
        raise UnsupportedMediaType
    return check(model, parse(data))


def check(model: type[M], value: object) -> M:
    """Return a JSON value as `model`. Raise Invalid, which names each wrong field."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise invalid(error) from None


# --- JSON --------------------------------------------------------------------------------------------------------


def parse(data: bytes) -> object:
    """Parse JSON as RFC 8259 defines it, without extensions. Raise Malformed, which says what is wrong and where."""
    try:
        value = _DECODER.decode(data.decode())
    except UnicodeDecodeError as error:
        raise Malformed(f"The body is not UTF-8 at byte {error.start}.") from None
    except json.JSONDecodeError as error:
        wrong = "a byte order mark" if data.startswith(BOM_UTF8) else error.msg
        raise Malformed(f"The body is not JSON at line {error.lineno}, column {error.colno}: {wrong}.") from None
    except RecursionError:
        raise Malformed("The body is nested too deeply.") from None
    except _NotJsonError as error:
        raise Malformed(f"The body is not JSON: {error}.") from None
    except ValueError:
        raise Malformed("The body has a number of too many digits.") from None
    if b"\\u" in data:  # only escapes can be wrong: a bare NUL is no JSON, half of a pair no UTF-8
        for path, text in _texts(value):
            if (fault := _fault(text)) is not None:
                raise Malformed(f"{path or 'The body'} {fault}.", errors=[FieldError(path, fault)])
    return value


class _NotJsonError(ValueError):
    """Something that Python's json accepts and RFC 8259 does not."""


def _no_constant(name: str) -> object:
    raise _NotJsonError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _NotJsonError(f"{text[:40]} is too large a number")
    return value


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        [(twice, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise _NotJsonError(f"the field {shown(twice)} stands twice in one object")
    return found


#: Made once: json.loads would make one for each body.
_DECODER = json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_without_duplicates)


def _texts(value: object) -> Iterator[tuple[str, str]]:
    """Yield every string of a JSON value, field names included, with its path, such as `jobs.3.message`."""
    todo: list[tuple[str, object]] = [("", value)]
    while todo:
        path, item = todo.pop()
        if isinstance(item, str):
            yield path, item
        elif isinstance(item, dict):
            for name, inner in item.items():
                yield path, name
                todo.append((f"{path}.{name}".lstrip("."), inner))
        elif isinstance(item, list):
            todo.extend((f"{path}.{index}".lstrip("."), inner) for index, inner in enumerate(item))


def _fault(text: str) -> str | None:
    if "\x00" in text:
        return "contains a NUL character"
    try:
        text.encode()  # looks at 8 MiB in milliseconds
    except UnicodeEncodeError:
        return "contains half of a surrogate pair"
    return None
