"""Which addresses are open: every special range at its edges, and IPv4 in every dress that IPv6 has for it."""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from addresses import LOOPBACK, Address, Addresses, is_ordinary, is_public, literal, network, plain

#: First and last of what IANA's registry of special-purpose IPv4 addresses has, of multicast, and of a cloud's own.
CLOSED_V4 = [
    ("0.0.0.0", "0.255.255.255"),
    ("10.0.0.0", "10.255.255.255"),
    ("100.64.0.0", "100.127.255.255"),
    ("127.0.0.0", "127.255.255.255"),
    ("168.63.129.16", "168.63.129.16"),
    ("169.254.0.0", "169.254.255.255"),
    ("172.16.0.0", "172.31.255.255"),
    ("192.0.0.0", "192.0.0.255"),
    ("192.0.2.0", "192.0.2.255"),
    ("192.88.99.0", "192.88.99.255"),
    ("192.168.0.0", "192.168.255.255"),
    ("198.18.0.0", "198.19.255.255"),
    ("198.51.100.0", "198.51.100.255"),
    ("203.0.113.0", "203.0.113.255"),
    ("224.0.0.0", "255.255.255.255"),
]
CLOSED_V6 = [
    ("::", "64:ff9a:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("64:ff9b::1:0:0", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("4000::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
]
RANGES = [(ip_address(first), ip_address(last)) for first, last in CLOSED_V4 + CLOSED_V6]
#: What people call private, and what clouds tell a machine's secrets at.
WELL_KNOWN = [
    "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.100.100.200", "192.0.0.192",
    "168.63.129.16", "0.0.0.0", "255.255.255.255", "224.0.0.1", "192.88.99.1",
    "::", "::1", "fe80::1", "fec0::1", "fc00::1", "fd00:ec2::254", "fdaa::3", "ff02::1", "ff0e::1", "100::1",
    "100:0:0:1::1", "5f00::1", "2001:2::1", "2001:10::1", "2001:20::1", "2001:30::1",
]  # fmt: skip
PUBLIC = [
    "1.1.1.1", "8.8.8.8", "93.184.215.14", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.0",
    "192.0.1.0", "192.31.196.1", "192.52.193.1", "192.175.48.1", "198.17.255.255", "198.20.0.0", "223.255.255.255",
    "2000::", "2001:200::1", "2001:503:ba3e::2:30", "2001:4860:4860::8888", "2003::", "2600::", "2606:4700::1111",
    "2620:4f:8000::1", "3ffe::1", "3fff:1000::", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8",
]  # fmt: skip


def closed(address: Address) -> bool:
    return any(
        first <= address <= last  # type: ignore[operator]  # of one version
        for first, last in RANGES
        if first.version == address.version
    )


def edges() -> Iterator[tuple[Address, bool]]:
    """The first and the last of every range, and their neighbours, each with whether it is public."""
    for first, last in RANGES:
        yield from ((first, False), (last, False))
        highest = 2**32 - 1 if first.version == 4 else 2**128 - 1
        for number in (int(first) - 1, int(last) + 1):
            if 0 <= number <= highest:
                neighbour = type(first)(number)
                # 64:ff9b::/96 is as public as the IPv4 within.
                within = neighbour in ip_network("64:ff9b::/96") and IPv4Address(number & 0xFFFF_FFFF)
                yield neighbour, not closed(within or neighbour)


@pytest.mark.parametrize(("address", "public"), list(edges()), ids=str)
def test_every_range_ends_where_the_registry_says(address: Address, public: bool) -> None:
    assert is_public(address) is public
    assert (Addresses().refusal([address], 443) is None) is public


def test_the_edges_have_both_kinds() -> None:
    kinds = [public for _, public in edges()]
    assert kinds.count(True) > 20
    assert kinds.count(False) > 40


@pytest.mark.parametrize("text", WELL_KNOWN)
def test_what_is_known_to_be_private_is_closed(text: str) -> None:
    assert Addresses().refusal([ip_address(text)], 443)


@pytest.mark.parametrize("text", PUBLIC)
def test_what_is_public_is_open(text: str) -> None:
    assert Addresses().refusal([ip_address(text)], 443) is None


@given(st.one_of(st.ip_addresses(), st.ip_addresses(v=4).map(lambda it: IPv6Address(f"64:ff9b::{it}"))))
def test_nothing_is_public_that_python_knows_to_be_private(address: Address) -> None:
    """Python's own list errs by passing too much; so ours is within it."""
    if is_public(address):
        assert plain(address).is_global
        assert not address.is_multicast


def dresses(text: str) -> dict[str, IPv6Address]:
    """An IPv4 address in every form that it has in IPv6."""
    v4 = int(IPv4Address(text))
    server, flags, port = 0x0801_0101, 0x8000, 0x1234
    return {
        "mapped": IPv6Address(0xFFFF << 32 | v4),
        "compatible": IPv6Address(v4),
        "translated (SIIT)": IPv6Address(0xFFFF << 48 | v4),
        "NAT64": IPv6Address((0x64_FF9B << 96) | v4),
        "NAT64, local": IPv6Address((0x64_FF9B_0001 << 80) | v4),
        "NAT64, local /48": IPv6Address((0x64_FF9B_0001 << 80) | (v4 >> 16 << 64) | ((v4 & 0xFFFF) << 40)),
        "6to4": IPv6Address((0x2002 << 112) | (v4 << 80) | 1),
        "Teredo": IPv6Address((0x2001 << 112) | (server << 64) | (flags << 48) | (port << 32) | (v4 ^ 0xFFFF_FFFF)),
        "Teredo's server": IPv6Address((0x2001 << 112) | (v4 << 64)),
        "ISATAP, public prefix": IPv6Address((0x2606_4700 << 96) | (0x0000_5EFE << 32) | v4),
        "ISATAP, unique": IPv6Address((0x2606_4700 << 96) | (0x0200_5EFE << 32) | v4),
        "ISATAP, group": IPv6Address((0x2606_4700 << 96) | (0x0100_5EFE << 32) | v4),
        "ISATAP, link-local": IPv6Address((0xFE80 << 112) | (0x5EFE << 32) | v4),
    }


@pytest.mark.parametrize("form", dresses("8.8.8.8"))
def test_ipv4_within_ipv6_is_judged_as_ipv4_or_closed(form: str) -> None:
    for text in ("127.0.0.1", "10.1.2.3", "169.254.169.254", "100.64.0.1", "0.0.0.0"):
        assert Addresses().refusal([dresses(text)[form]], 443), text
    assert is_public(dresses("8.8.8.8")[form]) == (form in {"mapped", "NAT64"})


@pytest.mark.parametrize("form", dresses("8.8.8.8"))
def test_an_allowed_network_opens_no_dress_of_its_addresses_but_the_mapped(form: str) -> None:
    assert (Addresses((network("10.0.0.0/8"),)).refusal([dresses("10.1.2.3")[form]], 443) is None) == (form == "mapped")


def test_an_interface_of_this_machine_is_closed_though_its_network_is_allowed() -> None:
    link_local = Addresses((network("fe80::/10"),))
    assert link_local.refusal([ip_address("fe80::1")], 443) is None
    assert "interface" in str(link_local.refusal([ip_address("fe80::1%eth0")], 443))


def test_one_closed_address_closes_the_host() -> None:
    good, bad = ip_address("8.8.8.8"), ip_address("10.0.0.1")
    for found in ([good, bad], [bad, good], [good, good, IPv6Address("::1")]):
        assert Addresses().refusal(found, 443)


def test_an_allowed_network_opens_itself_and_nothing_else() -> None:
    office = Addresses((network("10.1.0.0/16"), network("fd12:3456::/48")))
    for text in ("10.1.0.0", "10.1.255.255", "fd12:3456::", "fd12:3456:0:ffff:ffff:ffff:ffff:ffff", "8.8.8.8"):
        assert office.refusal([ip_address(text)], 443) is None, text
    for text in ("10.0.255.255", "10.2.0.0", "fd12:3455::1", "fd12:3457::1", "127.0.0.1", "::1", "169.254.169.254"):
        assert office.refusal([ip_address(text)], 443), text
    assert office.refusal([ip_address("10.1.0.1"), ip_address("10.2.0.1")], 443)


def test_loopback_is_what_it_is() -> None:
    assert [LOOPBACK.refusal([ip_address(text)], 9) for text in ("127.0.0.1", "127.255.255.255", "::1")] == [None] * 3
    assert LOOPBACK.refusal([ip_address("0.0.0.0")], 80), "Linux takes it for 127.0.0.1"
    assert LOOPBACK.refusal([ip_address("::")], 80)


@pytest.mark.parametrize("port", [80, 443, 1024, 3000, 5432, 8080, 8443, 65_535])
def test_an_ordinary_port_is_open(port: int) -> None:
    assert Addresses().refusal([ip_address("8.8.8.8")], port) is None
    assert Addresses().refusal([], port) is None


@pytest.mark.parametrize(
    "port",
    [
        0, 1, 7, 21, 22, 23, 25, 53, 79, 81, 110, 143, 389, 442, 444, 465, 587, 993, 1023, 1719, 1720, 1723, 2049, 3659,
        4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
    ],
)  # fmt: skip
def test_any_other_port_is_open_in_an_allowed_network_alone(port: int) -> None:
    assert not is_ordinary(port)
    assert Addresses().refusal([ip_address("8.8.8.8")], port)
    assert Addresses().refusal([], port), "a host that has no address yet"
    office = Addresses((network("10.1.0.0/16"),))
    assert office.refusal([ip_address("8.8.8.8")], port)
    assert office.refusal([ip_address("8.8.8.8"), ip_address("10.1.0.1")], port)
    assert bool(office.refusal([ip_address("10.1.0.1")], port)) == (port == 0)
    assert bool(office.refusal([], port)) == (port == 0), "it may get one there"


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1.", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("127.0.1", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("0x7f000001", "127.0.0.1"),
        ("0X7F.1", "127.0.0.1"),
        ("0x7f.0.0x0.1", "127.0.0.1"),
        ("0177.1", "127.0.0.1"),
        ("017700000001", "127.0.0.1"),
        ("0", "0.0.0.0"),
        ("[::1]", "::1"),
        ("::1", "::1"),
        ("[::ffff:7f00:1]", "::ffff:127.0.0.1"),
        ("[0:0:0:0:0:ffff:127.0.0.1]", "::ffff:127.0.0.1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("localhost", None),
        ("example.org", None),
        ("127.0.0.1.nip.io", None),
        ("4294967296", None),
        ("1.2.3.4.5", None),
        ("0x7g", None),
        ("1e3", None),
        ("", None),
    ],
)
def test_an_address_is_known_in_any_form(host: str, address: str | None) -> None:
    assert literal(host) == (address and ip_address(address))


@pytest.mark.parametrize("text", ["10.0.0.0/8", " 10.1.2.3 ", "fc00::/7", "::1", "192.0.2.0/31"])
def test_a_network_may_be_allowed(text: str) -> None:
    assert network(text) == ip_network(text.strip())


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("10.0.0.1/8", "networks such as 10.1.0.0/16"),
        ("10.0.0.0/33", "networks such as"),
        ("office", "networks such as"),
        ("", "networks such as"),
        ("0.0.0.0/0", "at most /8"),
        ("::/0", "at most /7"),
        ("2000::/3", "at most /7"),
        ("::ffff:10.0.0.0/104", "IPv4 as IPv4"),
    ],
)
def test_what_is_no_network_or_nearly_everything_may_not(text: str, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        network(text)
