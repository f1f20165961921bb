"""What schemathesis cannot read from /openapi.json: values of our formats, and rules that only descriptions state."""

import itertools
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import IPv6Address
from typing import Any
from urllib.parse import urlsplit

import schemathesis
from hypothesis import strategies as st
from schemathesis.specs.openapi.schemas import OpenApiSchema

Json = dict[str, Any]
Case = schemathesis.Case[Any]

# --- formats -----------------------------------------------------------------------------------------------------


def _moments() -> list[str]:
    """Return times at which a message may be sent, in every valid notation."""
    ways = ["Z", "+00:00", "-00:00", "+05:45", ".5-11:00", ".123456+14:00", ".123456789Z"]
    days = [datetime.now(UTC) + timedelta(days=40 * number + 2) for number in range(len(ways))]
    # Each month has 28 days, also in another year.
    return [f"{day.replace(day=min(day.day, 28)):%Y-%m-%dT%H:%M:%S}{way}" for day, way in zip(days, ways, strict=True)]


#: Few values of each format: schemathesis tries every one for each length that a schema allows.
FORMATS = {
    "phone-number": [
        "15551234567",
        "+1 (555) 123-4567",
        "(+44) 7400/123456",
        "\u202a+49\u00a01512\u20113456789\u202c",
        "\uff0b\uff18\uff11\u3000\uff19\uff10-1234-5678",
        "+52 1 55 1234 5678",
        "55.11.98765.4321",
        "6834002",
    ],
    "iana-time-zone": ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+5", "EST"],
    "stop-word": ["X", "Genug!", "kein\u00a0Interesse", "no   more", "\u4e0d\u8981\u4e86", "enough of this " * 4],
    "listed-stop-word": ["STOP", "Stopp!", "cancel", "Unsubscribe", "baja", "arr\u00eat"],
    "date-time": _moments(),
}


def register_formats() -> None:
    """Have schemathesis draw values of our formats, and times at which a message may be sent."""
    for name, values in FORMATS.items():
        schemathesis.openapi.format(name, st.sampled_from(values))


# --- rules of the descriptions -----------------------------------------------------------------------------------

LARGEST_METADATA, DEEPEST_METADATA = 4096, 5
KEYS = itertools.count()


def respect_descriptions(schema: OpenApiSchema, account: str) -> None:
    """Make bodies that are valid by their schema also valid by its descriptions; `account` exists."""

    def filter_case(_: schemathesis.HookContext, case: Case) -> bool:
        body = _body(case)
        return not _is_valid(case) or (_has_small_metadata(body) and _has_addresses(body))

    def map_case(_: schemathesis.HookContext, case: Case) -> Case:
        if _is_valid(case) and (fitted := FITTED[case.operation.label](_body(case), account)):
            case.body, case.media_type = fitted, "application/json"
        return case

    # Hooks slow the drawing of cases down, so no other operation has one.
    hook: Any = schema.hook
    hook.apply_to(name=["POST /send/batch", "POST /accounts", "PATCH /accounts/{id}", *FITTED])(filter_case)
    hook.apply_to(name=[*FITTED])(map_case)


def _is_valid(case: Case) -> bool:
    """Tell whether a case is meant to be valid by its schema."""
    return case.meta is not None and case.meta.generation.mode.is_positive


def _body(case: Case) -> Json:
    return case.body if isinstance(case.body, dict) else {}  # it was left out


def _has_small_metadata(body: Json) -> bool:
    return all(_is_small(item.get("metadata")) for item in (body, *body.get("jobs", ())))


def _is_small(metadata: object) -> bool:
    text = json.dumps(metadata, ensure_ascii=False, separators=(",", ":"))
    return r"\u0000" not in text and len(text.encode()) <= LARGEST_METADATA and not _deeper(metadata, DEEPEST_METADATA)


def _deeper(value: object, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return inner is not None and (levels == 0 or any(_deeper(item, levels - 1) for item in inner))


def _has_addresses(body: Json) -> bool:
    """Tell whether brackets in a URL contain an IPv6 address."""
    return all(map(_has_address, (body.get("url"), *(body.get("proxy") or {}).values())))


def _has_address(url: str | None) -> bool:
    if url is None or "[" not in url:
        return True
    try:
        return bool(IPv6Address(urlsplit(url).hostname or ""))
    except ValueError:
        return False


def _send_request(body: Json, account: str) -> Json:
    """Name an account, since there are several, and use a new key; expire after sending, both in the future."""
    fitted = _for_account(body, account)
    if body.get("idempotencyKey"):
        fitted["idempotencyKey"] = f"{body['idempotencyKey'][:240]}~{next(KEYS)}"
    over = {name: None for name in ("sendAt", "expiresAt") if body.get(name) and _at(body[name]) < datetime.now(UTC)}
    return _in_order(fitted | over, "sendAt", "expiresAt")


def _for_account(body: Json, account: str) -> Json:
    return body | {"account": body.get("account") or account}


def _recovery(body: Json, _: str) -> Json:
    """Move the period into the past."""
    earlier = {name: f"{int(at[:4]) - 2}{at[4:]}" for name in ("since", "until") if (at := body.get(name))}
    return _in_order(body | earlier, "since", "until")


def _in_order(body: Json, first: str, last: str) -> Json:
    """Put two times in order; leave the later one out when they are equal."""
    if not (body.get(first) and body.get(last)):
        return body
    early, late = sorted([body[first], body[last]], key=_at)
    return body | {first: early, last: late if _at(late) > _at(early) else None}


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _endpoint(body: Json, _: str) -> Json:
    """Give each header name once, ignoring case."""
    headers = body.get("headers")
    return body | {"headers": {name.lower(): value for name, value in headers.items()}} if headers else body


FITTED: dict[str, Callable[[Json, str], Json]] = {
    "POST /send": _send_request,
    "POST /webhooks": _endpoint,
    "PATCH /webhooks/{id}": _endpoint,
    "POST /webhooks/{id}/recover": _recovery,
    "POST /admin/generate-qr-token": _for_account,
}
