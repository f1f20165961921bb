"""URLs of webhooks: their form, and the addresses that they lead to."""

import logging
import re
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field, WithJsonSchema

from api.http.context import Context
from api.http.models import shown
from api.http.patterns import PORT_NUMBER
from errors import FieldError, Invalid, LookupFailed, NameUnknown

if TYPE_CHECKING:
    import httpx2

log = logging.getLogger(__name__)

LONGEST_URL = 2048  # characters
LOOKUP = 3.0  # seconds
PORTS = {"http": 80, "https": 443}
HIGHEST_PORT = 65_535
FAULT = "must be an http or https URL without user, password and fragment"
CLOSED = (
    "must lead to a public address, at port 80, 443 or an ordinary one from 1024 on, or into a network that "
    "WEBHOOK_ALLOW_CIDRS allows"
)
#: Scheme, host, port, and the rest in printable ASCII: no user, no fragment, and no encoded character in the host.
FORM = re.compile(r"https?://(?:\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]*)?(?:[/?][!\"$-~]*)?", re.IGNORECASE | re.ASCII)
#: The same for the schema, without an empty port or one that begins with 0.
PATTERN = (
    rf"^[Hh][Tt][Tt][Pp][Ss]?://(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::{PORT_NUMBER})?"
    r'(?:[/?][!"$-~]*)?$'
)


def well_formed(text: str) -> str:
    """Return a URL that can receive deliveries. Raise ValueError, which says what it must be like."""
    try:
        host, port = place(text) if FORM.fullmatch(text) else ("", 0)
    except ValueError:
        host, port = "", 0
    if not host or not 0 < port <= HIGHEST_PORT:
        raise ValueError(f"{FAULT}, not {shown(text)}")
    return text


def place(url: str) -> tuple[str, int]:
    """Return host and port, parsed by the HTTP client of deliveries: another parser might find another host.

    Raises ValueError.
    """
    parts = _parsed(url)
    return parts.raw_host.decode(), PORTS[parts.scheme] if parts.port is None else parts.port


def _parsed(url: str) -> "httpx2.URL":
    # Imported here, since most API processes are never given one: it takes 35 ms.
    import httpx2  # noqa: PLC0415

    try:
        return httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise ValueError(str(error)) from None


ReceiverUrl = Annotated[
    str,
    Field(
        max_length=LONGEST_URL,
        description="Where events are posted; https in production, and to public addresses unless "
        "`WEBHOOK_ALLOW_CIDRS` allows others.",
    ),
    AfterValidator(well_formed),
    WithJsonSchema({"type": "string", "pattern": PATTERN, "maxLength": LONGEST_URL}),
]


async def admit(context: Context, url: str) -> None:
    """Raise Invalid unless webhooks may be sent to the present addresses of this well-formed URL.

    A host without an address is accepted: each connection of a delivery checks again (tasks/delivery/dialer.py).
    """
    if context.production and _parsed(url).scheme != "https":
        raise _refused(f"must begin with https in production, not {shown(url)}")
    host, port = place(url)
    try:
        found = await context.resolver.lookup(host, LOOKUP)
    except (NameUnknown, LookupFailed):
        found = ()
    if reason := context.addresses.refusal(found, port):
        log.info(
            "webhooks may not go to %s: %s", host, reason,
            extra={"event": "receiver.refused", "host": host, "reason": reason},
        )  # fmt: skip
        # One text for all reasons, or it would tell what is inside a private network.
        raise _refused(f"{CLOSED}, not {shown(url)}")


def _refused(message: str) -> Invalid:
    return Invalid(f"url {message}.", errors=[FieldError("url", message)])
