"""Which addresses deliveries may reach: public ones at ordinary ports, and what the operator allows beside them.

What is public is written down here, after IANA's registries of special-purpose addresses (RFC 6890). `is_global` of
Python's own ipaddress is no filter: that of 3.11.7 passes 192.88.99.1, 224.0.0.1, ::127.0.0.1, 64:ff9b::/96 and more.
"""

import re
import socket
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

#: IPv4 that is not public; everything else is.
CLOSED_V4 = (
    IPv4Network("0.0.0.0/8"),  # this network: Linux connects 0.0.0.0 to itself
    IPv4Network("10.0.0.0/8"),  # private
    IPv4Network("100.64.0.0/10"),  # shared behind a provider's NAT; a cloud's metadata at 100.100.100.200
    IPv4Network("127.0.0.0/8"),  # loopback
    IPv4Network("168.63.129.16/32"),  # Azure's own services to a machine, in public space
    IPv4Network("169.254.0.0/16"),  # link-local; most clouds' metadata at 169.254.169.254
    IPv4Network("172.16.0.0/12"),  # private
    IPv4Network("192.0.0.0/24"),  # protocol assignments; a cloud's metadata at 192.0.0.192
    IPv4Network("192.0.2.0/24"),  # documentation
    IPv4Network("192.88.99.0/24"),  # relays to 6to4
    IPv4Network("192.168.0.0/16"),  # private
    IPv4Network("198.18.0.0/15"),  # benchmarks
    IPv4Network("198.51.100.0/24"),  # documentation
    IPv4Network("203.0.113.0/24"),  # documentation
    IPv4Network("224.0.0.0/4"),  # multicast
    IPv4Network("240.0.0.0/4"),  # reserved, and broadcast
)
#: IPv6 that is public, but for what is closed in it.
OPEN_V6 = IPv6Network("2000::/3")
CLOSED_V6 = (
    IPv6Network("2001::/23"),  # protocol assignments: Teredo (2001::/32, IPv4 within), benchmarks, ORCHID
    IPv6Network("2001:db8::/32"),  # documentation
    IPv6Network("2002::/16"),  # 6to4: IPv4 within
    IPv6Network("3fff::/20"),  # documentation
)
#: IPv4 behind a translator (RFC 6052), which is how a machine without IPv4 reaches any of it.
NAT64 = IPv6Network("64:ff9b::/96")
ISATAP = 0x0000_5EFE  # what follows the first 64 bits, but for two of its bits, and before IPv4 (RFC 5214, 6.1)

WELL_KNOWN_PORTS = {80, 443}
UNPRIVILEGED = 1024
#: From 1024 on, what the Fetch standard blocks as a "bad port" (fetch.spec.whatwg.org/#port-blocking).
BAD_PORTS = {
    1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, *range(6665, 6670), 6679, 6697, 10080,
}  # fmt: skip

#: How much of each family may be allowed at once: no more than the largest private network of it.
WIDEST = {4: 8, 6: 7}
#: What inet_aton takes for an address, and with it getaddrinfo: 127.1, 0x7f.1, 2130706433.
NUMBERS = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)(?:\.(?:0x[0-9a-f]*|[0-9]+)){0,3}", re.IGNORECASE)


@dataclass(frozen=True)
class Addresses:
    """What is open to deliveries: the public, and the operator's own networks, there with any port but 0."""

    allowed: tuple[Network, ...] = ()

    def refusal(self, found: Iterable[Address], port: int) -> str | None:
        """Return why a host with all these addresses is closed, for the operator; None when it is open.

        One that is closed closes it. A host without any, which has none at this moment, is judged by its port alone.
        """
        if port == 0:
            return "0 is no port"
        found = [plain(address) for address in found]
        for address in found:
            if getattr(address, "scope_id", None):
                return f"{address} belongs to an interface of this machine"
            if not self.allows(address) and not is_public(address):
                return f"{address} is not public, and WEBHOOK_ALLOW_CIDRS does not have it"
        beyond = [address for address in found if not self.allows(address)]
        if (beyond or not (found or self.allowed)) and not is_ordinary(port):
            return f"port {port} is neither 80 nor 443 nor an ordinary one from {UNPRIVILEGED} on"
        return None

    def allows(self, address: Address) -> bool:
        """Tell whether the operator has allowed it."""
        return any(plain(address) in network for network in self.allowed)


LOOPBACK = Addresses((IPv4Network("127.0.0.0/8"), IPv6Network("::1/128")))


def plain(address: Address) -> Address:
    """Return the IPv4 address for an IPv6 one that is mapped to it (::ffff:0:0/96): it is IPv4 that is dialled."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) and not address.scope_id else None
    return mapped or address


def is_public(address: Address) -> bool:
    """Tell whether anybody on the internet could reach it: IPv4, or IPv6 that has no other IPv4 within."""
    address = plain(address)
    if isinstance(address, IPv4Address):
        return not any(address in network for network in CLOSED_V4)
    if address in NAT64:
        return is_public(IPv4Address(int(address) & 0xFFFF_FFFF))
    isatap = (int(address) >> 32) & 0xFCFF_FFFF == ISATAP
    return address in OPEN_V6 and not isatap and not any(address in network for network in CLOSED_V6)


def is_ordinary(port: int) -> bool:
    """Tell whether a web server may be expected there, and nothing that would mistake a request for its own."""
    return port in WELL_KNOWN_PORTS or (port >= UNPRIVILEGED and port not in BAD_PORTS)


def literal(host: str) -> Address | None:
    """Return the address that a URL's host is, in any form that the system knows; None for a name."""
    host = host.removeprefix("[").removesuffix("]").removesuffix(".")
    with suppress(ValueError):
        return ip_address(host)
    if NUMBERS.fullmatch(host):
        with suppress(OSError):
            return IPv4Address(socket.inet_aton(host))
    return None


def network(text: str) -> Network:
    """Return a network that the operator allows. Raise ValueError that says what it must be like."""
    try:
        found = ip_network(text.strip())
    except ValueError as error:
        raise ValueError(
            f"must be networks such as 10.1.0.0/16 and fd12:3456::/48, with commas between: {error}"
        ) from None
    if found.prefixlen < WIDEST[found.version]:
        raise ValueError(
            f"must be networks of at most /{WIDEST[found.version]}, or everything would be open, not {found}"
        )
    if plain(found.network_address) != found.network_address:
        raise ValueError(f"must have IPv4 as IPv4, not as {found}")
    return found
