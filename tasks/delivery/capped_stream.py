"""A connection that reads no more than an answer may have: a receiver could send interim answers for ever."""

import ssl
from typing import Any

import httpcore2

MOST = 131_072  # bytes that are read after each request: more than the headers and the body that are read of one answer


class CappedStream(httpcore2.AsyncNetworkStream):
    """A connection whose reads are counted from each write on."""

    def __init__(self, stream: httpcore2.AsyncNetworkStream) -> None:
        self._stream, self._left = stream, MOST

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109  # httpcore2's interface
        """Read what is there. Raise RemoteProtocolError when it is too much."""
        data = await self._stream.read(max_bytes, timeout)
        self._left -= len(data)
        if self._left < 0:
            raise httpcore2.RemoteProtocolError(f"it is longer than {MOST:,} bytes")
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109  # as above
        """Write it all; what is read from now on is another answer."""
        self._left = MOST
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        """Close it."""
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  # as above
    ) -> httpcore2.AsyncNetworkStream:
        """Go on with TLS, by the name of the URL."""
        return CappedStream(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        """Return what is asked."""
        return self._stream.get_extra_info(info)
