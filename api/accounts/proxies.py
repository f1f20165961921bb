"""The proxies of an account: checked, sealed with their credentials, and shown without them."""

import json
import re
from typing import Annotated, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from api.http.models import Model, Shown
from api.http.patterns import PORT_NUMBER
from crypto import Sealer

SCHEMES = {"http", "socks5"}
LONGEST_URL = 2048  # characters
PORT = "must have a port from 1 to 65535 after its host, as in http://user:password@host:3128"
HOST = re.compile(r"[A-Za-z0-9._-]{1,253}|[0-9A-Fa-f:.]{2,45}")
#: Scheme; user and password, or neither; host; port. Printable ASCII, without the characters that would end a part.
PATTERN = (
    r'^(?:http|socks5)://(?:[!"$-.0-9;->@-Z\\^-~]+:[!"$-.0->@-Z\\^-~]+@)?'
    rf"(?:[A-Za-z0-9._-]{{1,253}}|\[[0-9A-Fa-f:.]{{2,45}}\]):{PORT_NUMBER}/?$"
)


def _split(text: str) -> SplitResult:
    """Return the parts of a URL. No error repeats them, since a mistyped URL may have the password in any of them."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError(PORT) from None
    if not re.fullmatch(r"[\x21-\x7e]+", text) or parts.scheme not in SCHEMES:
        raise ValueError("must be like http://user:password@host:3128 or socks5://user:password@host:1080")
    if not HOST.fullmatch(host):
        raise ValueError("must have the host's name or address before the port, as in http://user:password@host:3128")
    if not port:
        raise ValueError(PORT)
    if bool(parts.username) != bool(parts.password):
        raise ValueError("must have both user and password, or neither; a character such as @ in them as %40")
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError("must end with the port; a character such as / or # in user or password as %2F or %23")
    return parts


def _url(text: str) -> str:
    _split(text)
    return text


def _open(text: str) -> str:
    """Return a proxy's URL without user and password."""
    parts = _split(text)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _object(value: object) -> object:
    # pydantic's own message would repeat a URL that was given in place of the object.
    if value is not None and not isinstance(value, dict):
        raise ValueError('must be null or an object such as {"url": "http://user:password@host:3128"}')
    return value


ProxyUrl = Annotated[
    str,
    Field(max_length=LONGEST_URL),
    AfterValidator(_url),
    WithJsonSchema({"type": "string", "pattern": PATTERN, "maxLength": LONGEST_URL}),
]


class ProxySettings(Model):
    """The proxy that an account's browser connects through, and a spare one."""

    url: ProxyUrl = Field(
        description="`http://user:password@host:3128` or `socks5://…`. User and password are sealed and not "
        "shown again. A worker connects to it at a public address, or one that `PROXY_ALLOW_CIDRS` allows.",
    )
    spare: ProxyUrl | None = Field(default=None, description="Used while the first does not reach WhatsApp.")

    def sealed(self, sealer: Sealer, account: str) -> bytes:
        """Return them as accounts.proxy holds them."""
        return sealer.seal(json.dumps({"url": self.url, "spare": self.spare}).encode(), account.encode())


class ProxyAddresses(Shown):
    """The addresses of an account's proxies, without user and password."""

    url: str = Field(description="The proxy's URL without user and password.")
    spare: str | None = Field(description="The spare proxy's URL without user and password.")

    @classmethod
    def of(cls, proxies: ProxySettings) -> Self:
        """Return the addresses of `proxies`."""
        return cls(url=_open(proxies.url), spare=proxies.spare and _open(proxies.spare))


MaybeProxies = Annotated[ProxySettings | None, BeforeValidator(_object)]
