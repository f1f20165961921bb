"""How deliveries connect: a name is looked up once, all that it leads to is judged, and what was judged is dialled.

The number is dialled below HTTP and TLS, which keep the name for Host, SNI and the certificate. Written into the URL
instead, it would let one host's kept connection serve another.
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
MOST_TRIED = 6  # addresses of one host

WITNESS_PATIENCE = 5.0  # seconds
#: A name without which nothing here works: if DNS has no answer for it either, DNS is at fault and not the receiver.
WITNESS = "web.whatsapp.com"

#: This process or this machine has no room for another connection.
NO_ROOM = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
NO_WAY = {errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTUNREACH}
#: Root name servers, a and its other family: what has no way there has no way to anything.
FAR_AWAY = ((socket.AF_INET, "198.41.0.4"), (socket.AF_INET6, "2001:503:ba3e::2:30"))


class Dialer(httpcore2.AsyncNetworkBackend):
    """Opens the connections of deliveries."""

    def __init__(self, addresses: Addresses, resolver: Resolver, witness: str = WITNESS) -> None:
        self._addresses, self._resolver, self._witness = addresses, resolver, witness
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
        patience = time.monotonic() + (CONNECT if timeout is None else timeout)
        failures: list[Exception] = []
        for place, address in enumerate(tried := found[:MOST_TRIED]):
            share = max(0.0, patience - time.monotonic()) / (len(tried) - place)
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
            await self._resolver.lookup(self._witness, WITNESS_PATIENCE, urgent=True)
        except NameUnknown:
            return True
        except LookupFailed:
            return False
        return True

    def _failure(self, host: str, found: Sequence[Address], failures: Sequence[Exception]) -> Exception:
        """Return what is to be said when nothing could be connected to, and with it whose fault it is."""
        last, numbers = failures[-1], [_number(failure) for failure in failures]
        timed_out = isinstance(last, httpcore2.ConnectTimeout)
        reason = os.strerror(numbers[-1]) if numbers[-1] else "no answer in time" if timed_out else str(last)
        if NO_ROOM.intersection(numbers) or (NO_WAY.intersection(numbers) and not _has_way()):
            log.warning("no connection to anywhere: %s", reason, extra={"event": "network.away", "reason": reason})
            return NetworkAway()
        if not all(is_public(address) for address in found):
            log.info(
                "%s cannot be reached: %s", host, reason,
                extra={"event": "receiver.unreachable", "host": host, "reason": reason},
            )  # fmt: skip
            return AddressRefused(slow=timed_out)
        return (httpcore2.ConnectTimeout if timed_out else httpcore2.ConnectError)(reason)


def _number(error: BaseException | None) -> int | None:
    """Return what the system said; anyio and httpcore2 have put errors of their own around it."""
    while error is not None:
        if isinstance(error, OSError) and error.errno:
            return error.errno
        error = error.__cause__
    return None


def _has_way() -> bool:
    """Tell whether this machine has a way to anywhere: connecting a UDP socket asks the routes, and sends nothing."""
    for family, address in FAR_AWAY:
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 53))
            return True
    return False
