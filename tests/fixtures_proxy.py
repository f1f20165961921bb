"""Small real proxies, with credentials, that note what passes."""

import asyncio
import base64
import socket
import struct
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from addresses import LOOPBACK
from resolver import Resolver
from tasks.web.proxy_addresses import ProxyAddresses

#: Finds proxies on this machine, as a worker in development does.
NEAR = ProxyAddresses(LOOPBACK, Resolver()).find
USER, PASSWORD = "us er", "p@ss:word/1"
CREDENTIALS = "us%20er:p%40ss%3Aword%2F1"


@dataclass
class TestProxy:
    """A proxy on a loopback port."""

    __test__ = False  # for pytest: no class of tests

    scheme: str
    port: int = 0
    #: hosts and ports that were asked for, by who knew the password
    asked: list[str] = field(default_factory=list)
    #: connections without the right credentials
    strangers: int = 0
    #: bytes that came back
    received: int = 0
    #: names that only this proxy knows, and where they lead
    names: dict[str, str] = field(default_factory=dict)
    writers: list[StreamWriter] = field(default_factory=list)
    server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """Its address with the right credentials."""
        return f"{self.scheme}://{CREDENTIALS}@127.0.0.1:{self.port}"

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Handle one connection."""
        self.writers.append(writer)
        try:
            with suppress(OSError, EOFError):
                await (self._http if self.scheme == "http" else self._socks)(reader, writer)
        finally:
            writer.close()

    async def _http(self, reader: StreamReader, writer: StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, target, _ = head.split("\r\n")[0].split(" ")
        assert method == "CONNECT"
        wanted = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if f"Proxy-Authorization: Basic {wanted}".lower() not in head.lower():
            self.strangers += 1
            writer.write(
                b'HTTP/1.1 407 Who are you\r\nProxy-Authenticate: Basic realm="x"\r\ncontent-length: 0\r\n\r\n'
            )
            return
        host, _, port = target.rpartition(":")
        if (upstream := await self._connect(host, int(port))) is None:
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
            return
        # Some proxies send the answer's head in pieces.
        for piece in (b"HTTP/1.1 200 Connec", b"tion established\r\nVia: x\r", b"\n\r\n"):
            writer.write(piece)
            await writer.drain()
        await self._pass(reader, writer, *upstream)

    async def _socks(self, reader: StreamReader, writer: StreamWriter) -> None:
        _, count = await reader.readexactly(2)
        if 2 not in await reader.readexactly(count):
            self.strangers += 1
            writer.write(b"\x05\xff")
            return
        writer.write(b"\x05\x02")
        _, length = await reader.readexactly(2)
        user = await reader.readexactly(length)
        password = await reader.readexactly((await reader.readexactly(1))[0])
        right = (user.decode(), password.decode()) == (USER, PASSWORD)
        writer.write(b"\x01\x00" if right else b"\x01\x01")
        if not right:
            self.strangers += 1
            return
        *_, kind = await reader.readexactly(4)
        host = (
            (await reader.readexactly((await reader.readexactly(1))[0])).decode()
            if kind == 3
            else socket.inet_ntoa(await reader.readexactly(4))
        )
        (port,) = struct.unpack("!H", await reader.readexactly(2))
        if (upstream := await self._connect(host, port)) is None:
            writer.write(b"\x05\x05\x00\x01" + bytes(6))
            return
        writer.write(b"\x05\x00\x00\x01" + bytes(6))
        await self._pass(reader, writer, *upstream)

    async def _connect(self, host: str, port: int) -> tuple[StreamReader, StreamWriter] | None:
        self.asked.append(f"{host}:{port}")
        address = self.names.get(host, host)
        if not address.startswith("127."):
            return None
        try:
            return await asyncio.open_connection(address, port)
        except OSError:
            return None

    async def _pass(self, reader: StreamReader, writer: StreamWriter, there: StreamReader, back: StreamWriter) -> None:
        self.writers.append(back)
        await asyncio.gather(self._copy(reader, back), self._copy(there, writer, counted=True))

    async def _copy(self, source: StreamReader, target: StreamWriter, *, counted: bool = False) -> None:
        with suppress(OSError):
            while chunk := await source.read(65536):
                self.received += len(chunk) * counted
                target.write(chunk)
                await target.drain()
        target.close()

    def stop(self) -> None:
        """Take no more connections, and cut those that are open."""
        assert self.server is not None
        self.server.close()
        for writer in self.writers:
            writer.transport.abort()


@asynccontextmanager
async def proxy_server(scheme: str) -> AsyncIterator[TestProxy]:
    """Run a proxy for a while."""
    proxy = TestProxy(scheme)
    proxy.server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = proxy.server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        proxy.stop()
