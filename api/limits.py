"""Rate limits per key and per address, counted in this process, and the address of a client behind proxies."""

import math
import time
from ipaddress import IPv4Address, IPv6Address, ip_address

from limits import RateLimitItem, RateLimitItemPerHour, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from starlette.requests import Request

from errors import TooManyRequests

#: Whoever has one IPv6 address has the whole /64 (RFC 6177), so that counting single addresses would bound nobody.
IPV6_PREFIX = 64
QR_TOKENS_PER_HOUR = 5  # of one address
PERIODS = {RateLimitItemPerMinute: "a minute", RateLimitItemPerHour: "an hour"}


class Rates:
    """At most `per_minute` requests of each key and each address in any minute; 0 switches it off."""

    def __init__(self, per_minute: int, proxies: int) -> None:
        self._item = RateLimitItemPerMinute(per_minute) if per_minute else None
        self._qr_tokens = RateLimitItemPerHour(QR_TOKENS_PER_HOUR)
        self._proxies = proxies
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    def count_address(self, request: Request) -> None:
        """Count a request of its address; raises TooManyRequests."""
        self._count(self._item, "requests", "address", client_address(request, self._proxies))

    def count_key(self, key_id: str) -> None:
        """Count a request of a key; raises TooManyRequests."""
        self._count(self._item, "requests", "key", key_id)

    def count_qr_token(self, request: Request) -> None:
        """Count a token for the page /qr of its address; raises TooManyRequests."""
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
    """Return the client's address (IPv6: its /64) as the last of `proxies` trusted proxies saw it.

    Each proxy appends its peer to X-Forwarded-For, so the entries count from the right; what stands further left is
    the client's own invention.
    """
    peer = request.client.host if request.client else ""
    hops = [hop.strip() for line in request.headers.getlist("x-forwarded-for") for hop in line.split(",")]
    seen = hops[-min(proxies, len(hops))] if proxies and hops else peer
    address = _address(seen) or _address(peer)
    if isinstance(address, IPv6Address):
        return str(IPv6Address(int(address) >> 128 - IPV6_PREFIX << 128 - IPV6_PREFIX))
    return str(address or "local")


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
