"""Which addresses deliveries and proxies may reach: public ones at ordinary ports, and what the operator allows.

The ranges below follow IANA's registries of special-purpose addresses (RFC 6890). `is_global` of Python's own ipaddress
is no filter: that of 3.11.7 passes 192.88.99.1, 224.0.0.1, ::127.0.0.1, 64:ff9b::/96 and more.
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
#: IPv6 that is public, except for CLOSED_V6 within it.
OPEN_V6 = IPv6Network("2000::/3")
CLOSED_V6 = (
    IPv6Network("2001::/23"),  # protocol assignments: Teredo (2001::/32, IPv4 within), benchmarks, ORCHID
    IPv6Network("2001:db8::/32"),  # documentation
    IPv6Network("2002::/16"),  # 6to4: IPv4 within
    IPv6Network("3fff::/20"),  # documentation
)
#: IPv4 behind a translator (RFC 6052): how a machine without IPv4 reaches IPv4 hosts.
NAT64 = IPv6Network("64:ff9b::/96")
ISATAP = 0x0000_5EFE  # the 32 bits before an embedded IPv4 address, except for two of them (RFC 5214, 6.1)

WELL_KNOWN_PORTS = {80, 443}
UNPRIVILEGED = 1024
#: The ports from 1024 on that the Fetch standard blocks as a "bad port" (fetch.spec.whatwg.org/#port-blocking).
BAD_PORTS = {
    1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, *range(6665, 6670), 6679, 6697, 10080,
}  # fmt: skip

#: Shortest prefix that may be allowed, by IP version: that of its largest private network.
WIDEST = {4: 8, 6: 7}
#: Forms that inet_aton, and so getaddrinfo, accepts as an address: 127.1, 0x7f.1, 2130706433.
NUMBERS = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)(?:\.(?:0x[0-9a-f]*|[0-9]+)){0,3}", re.IGNORECASE)


@dataclass(frozen=True)
class Addresses:
    """The open addresses: public ones, and the networks `allowed`, those at any port but 0."""

    allowed: tuple[Network, ...] = ()
    #: the setting that allows them
    setting: str = "WEBHOOK_ALLOW_CIDRS"

    def refusal(self, found: Iterable[Address], port: int) -> str | None:
        """Return why a host with all these addresses is closed, for the operator; None when it is open.

        One closed address closes the host. A host that has no address at the moment is judged by its port alone.
        """
        if port == 0:
            return "0 is no port"
        found = [plain(address) for address in found]
        for address in found:
            if getattr(address, "scope_id", None):
                return f"{address} belongs to an interface of this machine"
            if not self.allows(address) and not is_public(address):
                return f"{address} is not public, and {self.setting} does not have it"
        beyond = [address for address in found if not self.allows(address)]
        if (beyond or not (found or self.allowed)) and not is_ordinary(port):
            return f"port {port} is neither 80 nor 443 nor an ordinary one from {UNPRIVILEGED} on"
        return None

    def allows(self, address: Address) -> bool:
        """Tell whether the operator has allowed an address."""
        return any(plain(address) in network for network in self.allowed)


LOOPBACK_NETWORKS = IPv4Network("127.0.0.0/8"), IPv6Network("::1/128")
LOOPBACK = Addresses(LOOPBACK_NETWORKS)


def plain(address: Address) -> Address:
    """Return the IPv4 address of an IPv4-mapped IPv6 one (::ffff:0:0/96): the system connects by IPv4."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) and not address.scope_id else None
    return mapped or address


def is_public(address: Address) -> bool:
    """Tell whether an address is public; of IPv6 that embeds IPv4, only NAT64 with public IPv4 is."""
    address = plain(address)
    if isinstance(address, IPv4Address):
        return not any(address in network for network in CLOSED_V4)
    if address in NAT64:
        return is_public(IPv4Address(int(address) & 0xFFFF_FFFF))
    isatap = (int(address) >> 32) & 0xFCFF_FFFF == ISATAP
    return address in OPEN_V6 and not isatap and not any(address in network for network in CLOSED_V6)


def is_ordinary(port: int) -> bool:
    """Tell whether a port may be a web server's, and not that of a protocol that HTTP requests could abuse."""
    return port in WELL_KNOWN_PORTS or (port >= UNPRIVILEGED and port not in BAD_PORTS)


def literal(host: str) -> Address | None:
    """Return the address that a URL's host is, in any form that the system accepts; None for a name."""
    host = host.removeprefix("[").removesuffix("]").removesuffix(".")
    with suppress(ValueError):
        return ip_address(host)
    if NUMBERS.fullmatch(host):
        with suppress(OSError):
            return IPv4Address(socket.inet_aton(host))
    return None


def network(text: str) -> Network:
    """Return a network that the operator allows. Raise ValueError, with the rule that it breaks."""
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
