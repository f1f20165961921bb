"""A stream with a limit on what is read per request: a receiver could send interim (1xx) answers for ever."""

import ssl
from typing import Any

import httpcore2

MAX_READ = 131_072  # bytes read after each request; more than the headers and the body that we read of one answer


class CappedStream(httpcore2.AsyncNetworkStream):
    """A stream that counts the bytes read since the last write and fails when they are too many."""

    def __init__(self, stream: httpcore2.AsyncNetworkStream) -> None:
        self._stream, self._left = stream, MAX_READ

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109  # httpcore2's interface
        """Read from the stream. Raise RemoteProtocolError over the limit."""
        data = await self._stream.read(max_bytes, timeout)
        self._left -= len(data)
        if self._left < 0:
            raise httpcore2.RemoteProtocolError(f"it is longer than {MAX_READ:,} bytes")
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109  # as above
        """Write all of it and reset the count: the next read belongs to another answer."""
        self._left = MAX_READ
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        """Close the stream."""
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  # as above
    ) -> httpcore2.AsyncNetworkStream:
        """Start TLS with the host name of the URL."""
        return CappedStream(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        """Return what the stream itself knows."""
        return self._stream.get_extra_info(info)
