"""Custom headers: those that an endpoint has on every request besides Postrider's own."""

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

from api.http.models import shown
from api.http.unsealing import missing, unseal
from crypto import CryptoError, Sealer, from_text, to_text
from errors import FieldError, Invalid

MOST_HEADERS = 20
LONGEST_VALUE = 4096  # characters; a signed token with claims has two thousand
LARGEST = 8192  # bytes of all names and values; common servers refuse more (nginx: large_client_header_buffers)

#: Postrider sets them, they belong to one connection (RFC 9110, 7.6.1), or they control caches.
DENIED = {
    "accept-encoding", "age", "cache-control", "clear-site-data", "connection", "date", "expect", "expires", "host",
    "http2-settings", "keep-alive", "pragma", "te", "trailer", "trailers", "transfer-encoding", "upgrade", "user-agent",
    "via", "warning",
    # Sessions of browsers.
    "cookie", "cookie2", "set-cookie",
    # They claim another sender, or change the meaning of a POST.
    "forwarded", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "true-client-ip", "x-original-url", "x-rewrite-url",
    "x-http-method", "x-http-method-override", "x-method-override",
    # Metadata services of clouds answer only requests that have them.
    "metadata", "metadata-flavor",
}  # fmt: skip
DENIED_PREFIXES = (
    "webhook-", "x-postrider-", "svix-", "x-svix-", "content-", "proxy-", "x-forwarded-", "cf-",
    "x-amz-", "x-amzn-", "x-aws-", "x-azure-", "x-fd-", "x-gfe", "x-goog-", "x-google",
)  # fmt: skip

TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
#: RFC 9110, 5.5, limited to ASCII: no control characters, no space at the beginning or end.
VALUE = re.compile("(?:[!-~](?:[ -~]*[!-~])?)?")


def _checked(headers: Mapping[str, str | None]) -> Mapping[str, str | None]:
    for name, value in headers.items():
        if not TOKEN.fullmatch(name):
            raise ValueError(f"must have names of 1 to 100 of A-Za-z0-9!#$%&'*+.^_`|~-, not {shown(name)}")
        # CGI, WSGI and PHP do not tell an underscore from a hyphen.
        plain = name.lower().replace("_", "-")
        if plain in DENIED or plain.startswith(DENIED_PREFIXES):
            raise ValueError(f"must not have the header {shown(name)}")
        if value is not None and (len(value) > LONGEST_VALUE or not VALUE.fullmatch(value)):
            raise ValueError(
                f"must have at most {LONGEST_VALUE:,} printable ASCII characters in {name}, "
                "and no space before or after them"
            )
    if len({name.lower() for name in headers}) < len(headers):
        raise ValueError("must have each header once, whatever its case")
    return headers


def _bounded(headers: Mapping[str, str]) -> Mapping[str, str]:
    if len(headers) > MOST_HEADERS:
        raise ValueError(f"may have {MOST_HEADERS} headers and has {len(headers)}")
    size = sum(len(name) + len(value) for name, value in headers.items())
    if size > LARGEST:
        raise ValueError(f"may have {LARGEST:,} bytes in all and has {size:,}")
    return headers


AS_HEADERS = {"type": "object", "propertyNames": {"pattern": f"^{TOKEN.pattern}$"}}
AS_VALUE = {"type": "string", "pattern": f"^{VALUE.pattern}$", "maxLength": LONGEST_VALUE}

Extras = Annotated[
    dict[str, str],
    AfterValidator(_checked),
    AfterValidator(_bounded),
    WithJsonSchema(AS_HEADERS | {"additionalProperties": AS_VALUE, "maxProperties": MOST_HEADERS}),
]
#: Null removes a header.
ExtraChanges = Annotated[
    dict[str, str | None],
    AfterValidator(_checked),
    WithJsonSchema(AS_HEADERS | {"additionalProperties": {"anyOf": [AS_VALUE, {"type": "null"}]}}),
]


def sealed(sealer: Sealer, endpoint: str, headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers as they are stored: with sealed values, which may be secrets."""
    return {
        name: to_text(sealer.seal(value.encode(), f"{endpoint}/{name}".encode())) for name, value in headers.items()
    }


def opened(sealer: Sealer, endpoint: str, kept: Mapping[str, str]) -> dict[str, str]:
    """Return headers as they were given; before 0.4.0 they were stored unsealed. Raise EncryptionKeyMissing."""
    return {name: _opened(sealer, f"{endpoint}/{name}", value) for name, value in kept.items()}


def _opened(sealer: Sealer, about: str, value: str) -> str:
    try:
        sealed = from_text(value)
    except CryptoError as error:
        raise missing(about, error) from error
    return value if sealed is None else unseal(sealer, sealed, about)


def merged(stored: Mapping[str, str], given: Mapping[str, str | None]) -> dict[str, str]:
    """Return the headers after a change, which names them in any case; the others stay. Raise Invalid."""
    named = {name.lower() for name in given}
    kept = {name: value for name, value in stored.items() if name.lower() not in named}
    found = kept | {name: value for name, value in given.items() if value is not None}
    try:
        _bounded(found)
    except ValueError as error:
        raise Invalid(f"headers {error}.", errors=[FieldError("headers", str(error))]) from None
    return found
