"""How deliveries connect: resolve the host once, check all its addresses, and connect to one of those (no SSRF).

The address is used below HTTP and TLS, which keep the name for Host, SNI and the certificate. If it were written into
the URL instead, a keep-alive connection of one host could serve another.
"""

import errno
import logging
import os
import socket
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress

import httpcore2

from addresses import Address, Addresses, is_public, plain
from errors import AddressRefused, LookupFailed, NameUnknown, NetworkAway
from resolver import Resolver
from tasks.delivery.capped_stream import CappedStream

log = logging.getLogger(__name__)

LOOKUP = 8.0  # seconds; where the first of two name servers is dead, every answer takes more than five
CONNECT = 5.0  # seconds for all addresses of a host together
MOST_TRIED = 6  # addresses tried of one host

DNS_PROBE_TIMEOUT = 5.0  # seconds
#: A host that Postrider needs anyway: if DNS has no answer for it either, DNS is at fault and not the receiver.
DNS_PROBE_HOST = "web.whatsapp.com"

#: Errors of a process or machine without resources for another connection, and errors of a missing route.
NO_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
NO_ROUTE = {errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTUNREACH}
#: The root name server a, by IPv4 and IPv6: a machine without a route to either has no route to the internet.
ROOT_SERVERS = ((socket.AF_INET, "198.41.0.4"), (socket.AF_INET6, "2001:503:ba3e::2:30"))


class Dialer(httpcore2.AsyncNetworkBackend):
    """Opens the connections of deliveries."""

    def __init__(self, addresses: Addresses, resolver: Resolver, probe_host: str = DNS_PROBE_HOST) -> None:
        self._addresses, self._resolver, self._probe_host = addresses, resolver, probe_host
        self._backend = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore2's interface
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to one of the host's addresses, if all of them are open to deliveries.

        Raise AddressRefused, NameUnknown, LookupFailed, NetworkAway, or httpcore2's ConnectError and ConnectTimeout.
        """
        found = [plain(address) for address in await self._lookup(host)]
        if reason := self._addresses.refusal(found, port):
            log.info(
                "deliveries may not go to %s: %s", host, reason,
                extra={"event": "receiver.refused", "host": host, "reason": reason},
            )  # fmt: skip
            raise AddressRefused
        deadline = time.monotonic() + (CONNECT if timeout is None else timeout)
        failures: list[Exception] = []
        for place, address in enumerate(tried := found[:MOST_TRIED]):
            share = max(0.0, deadline - time.monotonic()) / (len(tried) - place)
            try:
                stream = await self._backend.connect_tcp(str(address), port, share, local_address, socket_options)
                return CappedStream(stream)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failures.append(error)
        raise self._failure(host, found, failures) from failures[-1]

    async def _lookup(self, host: str) -> Sequence[Address]:
        try:
            return await self._resolver.lookup(host, LOOKUP)
        except LookupFailed as error:
            log.info("DNS: %s", error, extra={"event": "receiver.no_dns", "host": host, "reason": str(error)})
            if not await self._dns_answers():
                raise NetworkAway from error
            raise LookupFailed from error

    async def _dns_answers(self) -> bool:
        try:
            await self._resolver.lookup(self._probe_host, DNS_PROBE_TIMEOUT, urgent=True)
        except NameUnknown:
            return True
        except LookupFailed:
            return False
        return True

    def _failure(self, host: str, found: Sequence[Address], failures: Sequence[Exception]) -> Exception:
        """Return the error to raise when no address could be connected to; its class says whose fault that is."""
        last, errnos = failures[-1], [_errno(failure) for failure in failures]
        timed_out = isinstance(last, httpcore2.ConnectTimeout)
        reason = os.strerror(errnos[-1]) if errnos[-1] else "no answer in time" if timed_out else str(last)
        if NO_RESOURCES.intersection(errnos) or (NO_ROUTE.intersection(errnos) and not _has_route()):
            log.warning("no connection to anywhere: %s", reason, extra={"event": "network.away", "reason": reason})
            return NetworkAway()
        if not all(is_public(address) for address in found):
            log.info(
                "%s cannot be reached: %s", host, reason,
                extra={"event": "receiver.unreachable", "host": host, "reason": reason},
            )  # fmt: skip
            return AddressRefused(slow=timed_out)
        return (httpcore2.ConnectTimeout if timed_out else httpcore2.ConnectError)(reason)


def _errno(error: BaseException | None) -> int | None:
    """Return the errno of the OSError that anyio and httpcore2 have wrapped in errors of their own."""
    while error is not None:
        if isinstance(error, OSError) and error.errno:
            return error.errno
        error = error.__cause__
    return None


def _has_route() -> bool:
    """Tell whether this machine has a route to the internet: connecting a UDP socket looks it up and sends nothing."""
    for family, address in ROOT_SERVERS:
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 53))
            return True
    return False
