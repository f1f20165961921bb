"""A local SOCKS5 relay without credentials, on loopback, through which a browser reaches its account's proxy.

Chromium supports no credentials for SOCKS5 (playwright #10567). For HTTP proxies Playwright supplies them by
intercepting every request, which disables the browser's cache; and WebSockets never get them. So each browser has a
relay, which connects to the proxy as the test before it did. A worker that is stopped relays nothing.
"""

import asyncio
import ipaddress
import struct
from asyncio import StreamReader, StreamWriter
from contextlib import suppress

from browser.engine.proxy import CHUNK, Proxy, Refused

HOST = "127.0.0.1"
#: RFC 1928: version, the method "no authentication", the command "connect", and kinds of address
VERSION, NO_AUTHENTICATION, CONNECT = 5, 0, 1
IPV4, NAME, IPV6 = 1, 3, 4
SUCCEEDED, UNREACHABLE, NOT_SUPPORTED = 0, 4, 7
GREETING_SECONDS = 10.0


class Relay:
    """Relays one browser's connections through one proxy, until it is closed."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def start(self) -> str:
        """Listen on a free port; return the URL for the browser."""
        self._server = await asyncio.start_server(self._accept, HOST, 0)
        return f"socks5://{HOST}:{self._server.sockets[0].getsockname()[1]}"

    def close(self) -> None:
        """Stop listening, and close all connections."""
        if self._server is not None:
            self._server.close()
        for task in self._open:
            task.cancel()

    def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.create_task(self._relay(reader, writer))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _relay(self, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            # Either side may disconnect at any time: then the other is closed, and there is no error to report.
            with suppress(OSError, EOFError, TimeoutError):
                async with asyncio.timeout(GREETING_SECONDS):
                    target = await _ask(reader, writer)
                if target is not None:
                    await self._connect(*target, reader, writer)
        finally:
            writer.close()

    async def _connect(self, host: str, port: int, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            there, back = await self._proxy.connect(host, port)
        except Refused:
            await _answer(writer, UNREACHABLE)
            return
        try:
            await _answer(writer, SUCCEEDED)
            async with asyncio.TaskGroup() as group:
                group.create_task(_copy(reader, back))
                group.create_task(_copy(there, writer))
        finally:
            back.close()


async def _ask(reader: StreamReader, writer: StreamWriter) -> tuple[str, int] | None:
    """Do the handshake of RFC 1928; return host and port, None for a request that is not supported."""
    version, count = await reader.readexactly(2)
    if version != VERSION:
        return None
    await reader.readexactly(count)
    writer.write(bytes([VERSION, NO_AUTHENTICATION]))
    _, command, _, kind = await reader.readexactly(4)
    if kind == NAME:
        host = (await reader.readexactly((await reader.readexactly(1))[0])).decode("ascii", "replace")
    else:
        host = str(ipaddress.ip_address(await reader.readexactly(16 if kind == IPV6 else 4)))
    (port,) = struct.unpack("!H", await reader.readexactly(2))
    if command != CONNECT:
        await _answer(writer, NOT_SUPPORTED)
        return None
    return host, port


async def _answer(writer: StreamWriter, reply: int) -> None:
    writer.write(bytes([VERSION, reply, 0, IPV4, *bytes(6)]))
    await writer.drain()


async def _copy(source: StreamReader, target: StreamWriter) -> None:
    """Copy until the source ends, then half-close the target: the other direction may go on."""
    with suppress(OSError):
        while chunk := await source.read(CHUNK):
            target.write(chunk)
            await target.drain()
        target.write_eof()
        return
    target.close()
