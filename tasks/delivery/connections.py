"""The keep-alive connections of one drain to its receiver.

A pool shared by all receivers scans every idle connection for each request, which at a few hundred of them costs more
than the request (0.9 ms against 0.4 ms at 32). These belong to one drain and are closed at its end, so that each drain
resolves the host again.

"""

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache

import httpcore2
import httpx2

from errors import AddressRefused
from tasks.delivery.dialer import CONNECT, Dialer

log = logging.getLogger(__name__)

IDLE_WAIT = 0.1  # seconds that a request waits for a connection to become idle before it opens another
KEEPALIVE_SECONDS = 4.0  # seconds that a connection may be idle: servers close theirs after five, some after two


@dataclass
class Connections:
    """A pool that reuses the most recently used connection first; the caller must close it.

    It speaks HTTP/1.1, without proxies and Unix sockets.
    """

    dialer: Dialer
    tls: ssl.SSLContext
    #: seconds without a byte from the receiver
    timeout: float
    _idle: list[httpcore2.AsyncHTTPConnection] = field(default_factory=list)
    _used: int = 0
    _waiting: deque[asyncio.Future[None]] = field(default_factory=deque)

    @asynccontextmanager
    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> AsyncIterator[httpcore2.Response]:
        """Make a request; yield the answer, whose body must be read within the block.

        Raise AddressRefused for a URL that is not http or https, or that names a user; the dialer's errors; httpx2's
        InvalidURL; and httpcore2's errors.
        """
        target, host = _target(url)
        pairs = [(b"host", host), *((name.encode("ascii"), value.encode("ascii")) for name, value in headers.items())]
        timeouts = {"connect": CONNECT, "read": self.timeout, "write": self.timeout}
        request = httpcore2.Request("POST", target, headers=pairs, content=body, extensions={"timeout": timeouts})
        async with self._answer(request) as response:
            yield response

    async def room(self) -> None:
        """If all connections are in use, wait briefly for one: with a fast receiver, few can serve many requests."""
        if not self._used or self._idle:
            return
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self._waiting.append(turn)
        patience = loop.call_later(IDLE_WAIT, _release, turn)
        try:
            await turn
        finally:
            patience.cancel()

    @asynccontextmanager
    async def _answer(self, request: httpcore2.Request) -> AsyncIterator[httpcore2.Response]:
        connection, is_new = await self._take(request.url.origin)
        self._used += 1
        try:
            try:
                response = await connection.handle_async_request(request)
            except (httpcore2.NetworkError, httpcore2.RemoteProtocolError) as error:
                if is_new or not _was_closed(error):
                    raise
                # A race: the server closed the idle connection just before our request. That is no failure of it.
                await _close(connection)
                connection = self._new(request.url.origin)
                response = await connection.handle_async_request(request)
            try:
                yield response
            finally:
                await response.aclose()
        finally:
            self._used -= 1
            await self._keep(connection)

    async def close(self) -> None:
        """Close all idle connections."""
        while self._idle:
            await _close(self._idle.pop())

    async def _take(self, origin: httpcore2.Origin) -> tuple[httpcore2.AsyncHTTPConnection, bool]:
        """Return a connection, and whether it is new."""
        while self._idle:
            connection = self._idle.pop()
            if connection.can_handle_request(origin) and not connection.has_expired():
                return connection, False
            await _close(connection)
        return self._new(origin), True

    def _new(self, origin: httpcore2.Origin) -> httpcore2.AsyncHTTPConnection:
        return httpcore2.AsyncHTTPConnection(
            origin, self.tls, keepalive_expiry=KEEPALIVE_SECONDS, network_backend=self.dialer
        )

    async def _keep(self, connection: httpcore2.AsyncHTTPConnection) -> None:
        while self._waiting and not _release(self._waiting.popleft()):
            pass
        if connection.is_idle():
            self._idle.append(connection)
        else:
            await _close(connection)


def _release(turn: asyncio.Future[None]) -> bool:
    """Let a waiting request go on; return whether it was still waiting."""
    if turn.done():
        return False
    turn.set_result(None)
    return True


@lru_cache(maxsize=1000)
def _target(url: str) -> tuple[httpcore2.URL, bytes]:
    """Return a URL as it is requested and its Host header; registration parses it with the same library."""
    parts = httpx2.URL(url)
    if parts.scheme not in {"http", "https"} or parts.userinfo:
        reason = "it is not http or https, or it names a user"
        log.info(
            "deliveries may not go to %s: %s", parts.host, reason,
            extra={"event": "receiver.refused", "host": parts.host, "reason": reason},
        )  # fmt: skip
        raise AddressRefused
    target = httpcore2.URL(scheme=parts.raw_scheme, host=parts.raw_host, port=parts.port, target=parts.raw_path)
    return target, parts.netloc


def _was_closed(error: Exception) -> bool:
    """Tell whether a connection ended before anything was answered."""
    return isinstance(error, httpcore2.NetworkError) or "without sending" in str(error)


async def _close(connection: httpcore2.AsyncHTTPConnection) -> None:
    # The receiver may have closed it already.
    with suppress(httpcore2.NetworkError, OSError):
        await connection.aclose()
