"""A connection that ends with age, so that a name which leads elsewhere by now is looked up anew."""

import ssl
import time
from typing import Any

import httpcore2


class Stream(httpcore2.AsyncNetworkStream):
    """A connection that is good until a moment of the monotonic clock."""

    def __init__(self, stream: httpcore2.AsyncNetworkStream, until: float) -> None:
        self._stream, self._until = stream, until

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109  # httpcore2's interface
        """Read what is there."""
        return await self._stream.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109  # as above
        """Write it all."""
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
        return Stream(await self._stream.start_tls(ssl_context, server_hostname, timeout), self._until)

    def get_extra_info(self, info: str) -> Any:
        """Return what is asked; an old one says that it is readable."""
        # An idle connection that can be read is one that the server has closed, so the pool lets go of it.
        if info == "is_readable" and time.monotonic() > self._until:
            return True
        return self._stream.get_extra_info(info)
