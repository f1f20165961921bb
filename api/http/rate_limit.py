"""Rate limits per key, org and address, counted in this process, and the address of a client behind proxies."""

import math
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

from starlette.requests import Request

from errors import TooManyRequests

#: A client with one IPv6 address usually has the whole /64 (RFC 6177), so a limit per address would not limit it.
IPV6_PREFIX = 64
QR_TOKENS_PER_HOUR = 5  # per address
MOST_BUCKETS = 100_000  # of one kind, some 20 MB


@dataclass
class Buckets:
    """Token buckets: each holds `size` tokens, and a token more comes every `seconds` / `size`.

    When there are too many, those that were used least recently are dropped, and are full when they come again.
    """

    size: int
    seconds: float
    most: int = MOST_BUCKETS
    #: name → tokens, and when it had them, by the monotonic clock; the most recently used last
    _left: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)

    def wait(self, name: str) -> float:
        """Return the seconds until a bucket has a token; 0 when it has one."""
        return max(0.0, 1 - self._tokens(name, time.monotonic())) * self.seconds / self.size

    def take(self, name: str) -> float:
        """Take a token out of a bucket; return 0, or the seconds until it has one."""
        now = time.monotonic()
        tokens = self._tokens(name, now)
        if tokens < 1:
            return (1 - tokens) * self.seconds / self.size
        self._left[name] = tokens - 1, now
        self._left.move_to_end(name)
        if len(self._left) > self.most:
            self._left.popitem(last=False)
        return 0.0

    def _tokens(self, name: str, now: float) -> float:
        tokens, since = self._left.get(name, (float(self.size), now))
        return min(self.size, tokens + (now - since) * self.size / self.seconds)


class RateLimit:
    """Limits each key and each address to `per_minute` requests at once, and as many a minute; each org to `per_org`.

    0 switches a limit off.
    """

    def __init__(self, per_minute: int, per_org: int, proxies: int) -> None:
        self._per_minute, self._per_org = per_minute, per_org
        self._addresses, self._keys = Buckets(per_minute, 60.0), Buckets(per_minute, 60.0)
        self._orgs = Buckets(per_org, 60.0)
        self._qr_tokens = Buckets(QR_TOKENS_PER_HOUR, 3600.0)
        self._proxies = proxies

    def address_of(self, request: Request) -> str:
        """Return the client's address, as it is counted."""
        return client_address(request, self._proxies)

    def check_address(self, address: str) -> None:
        """Raise TooManyRequests if a request of a client's address would be too many; count nothing."""
        if self._per_minute:
            _refuse(self._addresses.wait(address), self._per_minute, "this address")

    def count_address(self, address: str) -> None:
        """Count a request for a client's address; raises TooManyRequests."""
        if self._per_minute:
            _refuse(self._addresses.take(address), self._per_minute, "this address")

    def count_client(self, request: Request) -> None:
        """Count a request for its client's address; raises TooManyRequests."""
        self.count_address(self.address_of(request))

    def count_key(self, key_id: str) -> None:
        """Count a request of a key; raises TooManyRequests."""
        if self._per_minute:
            _refuse(self._keys.take(key_id), self._per_minute, "this key")

    def count_org(self, org: str) -> None:
        """Count a request of any key of an org; raises TooManyRequests."""
        if self._per_org:
            _refuse(self._orgs.take(org), self._per_org, "all keys of this org together")

    def count_qr_token(self, request: Request) -> None:
        """Count a token for the page /qr that this client's address makes; raises TooManyRequests."""
        if wait := self._qr_tokens.take(self.address_of(request)):
            detail = f"More than {QR_TOKENS_PER_HOUR} tokens an hour of this address."
            raise TooManyRequests(detail, retry_after=max(1, math.ceil(wait)))


def _refuse(wait: float, most: int, whose: str) -> None:
    if wait:
        detail = f"More than {most} requests a minute of {whose}."
        raise TooManyRequests(detail, retry_after=max(1, math.ceil(wait)))


def client_address(request: Request, proxies: int) -> str:
    """Return the key to count a client by: its address (IPv6: its /64), as the outermost trusted proxy saw it.

    Each proxy appends its peer to X-Forwarded-For, so the last `proxies` entries are trusted, empty ones included;
    the client may have forged any further left. Clients whose entry is not an address are counted together, under the
    nearest proxy that has one, and apart from that proxy's own requests.
    """
    lines = request.headers.getlist("x-forwarded-for") if proxies else []
    hops = [hop for line in lines for hop in line.split(",")][-proxies:]
    client = request.scope.get("client")
    peer = client[0] if client else ""
    seen, *nearer = (*hops, peer)
    if (counted := _counted(seen)) is not None:
        return counted
    by = next((address for address in map(_address, nearer) if address is not None), None)
    return f"unknown, by {by}" if by is not None else "local"


@lru_cache(maxsize=10_000)  # clients come again
def _counted(entry: str) -> str | None:
    address = _address(entry)
    if not isinstance(address, IPv6Address):
        return None if address is None else str(address)
    # All hosts on a link share the prefix fe80::/64 (RFC 4291, 2.5.6), so each address counts by itself.
    ignored = 0 if address.is_link_local else 128 - IPV6_PREFIX
    return str(IPv6Address(int(address) >> ignored << ignored))


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Return the address of an entry, which some gateways quote, put in brackets or write with a port."""
    bare = text.strip(' \t".')
    host = bare[1:].partition("]")[0] if bare.startswith("[") else bare
    for candidate in (host, host.rpartition(":")[0]):
        with suppress(ValueError):
            address = ip_address(candidate)
            return getattr(address, "ipv4_mapped", None) or address
    return None
