"""Where an account's proxy may be: its addresses are looked up and judged before each connection (no SSRF)."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from addresses import Addresses, plain
from browser.engine.proxy import Refused
from errors import LookupFailed, NameUnknown
from resolver import Resolver

log = logging.getLogger(__name__)

LOOKUP = 8.0  # seconds; where the first of two name servers is dead, every answer takes more than five
MOST_TRIED = 6  # addresses tried of one host
#: One text for all reasons: with others, a proxy could be set again and again to explore a private network.
CLOSED = (
    "may not be connected to: a proxy must have a public address, at port 80, 443 or an ordinary one from 1024 on, or "
    "an address that PROXY_ALLOW_CIDRS allows"
)


@dataclass(frozen=True)
class ProxyAddresses:
    """Finds the addresses of proxies."""

    addresses: Addresses
    resolver: Resolver

    async def find(self, host: str, port: int) -> Sequence[str]:
        """Return the addresses to connect to, if all addresses of the host are open to proxies. Raise Refused."""
        try:
            found = [plain(address) for address in await self.resolver.lookup(host, LOOKUP)]
        except NameUnknown:
            raise Refused("has a name without an address") from None
        except LookupFailed:
            raise Refused("has a name that DNS gives no answer for") from None
        if reason := self.addresses.refusal(found, port):
            log.info(
                "no proxy may be at %s: %s", host, reason,
                extra={"event": "proxy.refused", "host": host, "reason": reason},
            )  # fmt: skip
            raise Refused(CLOSED)
        return [str(address) for address in found[:MOST_TRIED]]
