"""Rate limits per key and per address, counted in this process, and the address of a client behind proxies."""

import math
import time
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address

from limits import RateLimitItem, RateLimitItemPerHour, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from starlette.requests import Request

from errors import TooManyRequests

#: A client with one IPv6 address usually has the whole /64 (RFC 6177), so a limit per address would not limit it.
IPV6_PREFIX = 64
QR_TOKENS_PER_HOUR = 5  # per address
PERIODS = {RateLimitItemPerMinute: "a minute", RateLimitItemPerHour: "an hour"}


class RateLimit:
    """Limits each key and each address to `per_minute` requests in any minute; 0 switches it off."""

    def __init__(self, per_minute: int, proxies: int) -> None:
        self._item = RateLimitItemPerMinute(per_minute) if per_minute else None
        self._qr_tokens = RateLimitItemPerHour(QR_TOKENS_PER_HOUR)
        self._proxies = proxies
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    def count_address(self, request: Request) -> None:
        """Count a request for its client's address; raises TooManyRequests."""
        self._count(self._item, "requests", "address", client_address(request, self._proxies))

    def count_key(self, key_id: str) -> None:
        """Count a request of a key; raises TooManyRequests."""
        self._count(self._item, "requests", "key", key_id)

    def count_qr_token(self, request: Request) -> None:
        """Count a token for the page /qr that this client's address makes; raises TooManyRequests."""
        self._count(self._qr_tokens, "tokens", "address", client_address(request, self._proxies))

    def _count(self, item: RateLimitItem | None, what: str, kind: str, who: str) -> None:
        if item is None or self._limiter.hit(item, what, kind, who):
            return
        wait = self._limiter.get_window_stats(item, what, kind, who).reset_time - time.time()
        raise TooManyRequests(
            f"More than {item.amount} {what} {PERIODS[type(item)]} of this {kind}.",
            retry_after=max(1, math.ceil(wait)),
        )


def client_address(request: Request, proxies: int) -> str:
    """Return the key to count a client by: its address (IPv6: its /64), as the outermost trusted proxy saw it.

    Each proxy appends its peer to X-Forwarded-For, so the last `proxies` entries are trusted, empty ones included;
    the client may have forged any further left. Clients whose entry is not an address are counted together, under the
    nearest proxy that has one, and apart from that proxy's own requests.
    """
    lines = request.headers.getlist("x-forwarded-for")
    hops = [hop for line in lines for hop in line.split(",")][-proxies:] if proxies else []
    peer = request.client.host if request.client else ""
    seen, *nearer = [_address(hop) for hop in (*hops, peer)]
    if seen is not None:
        return _counted(seen)
    by = next((address for address in nearer if address is not None), None)
    return f"unknown, by {by}" if by is not None else "local"


def _counted(address: IPv4Address | IPv6Address) -> str:
    if isinstance(address, IPv4Address):
        return str(address)
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
