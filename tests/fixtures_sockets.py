"""Servers at real sockets that count their connections, and names that lead to them."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from itertools import chain

import httpx2

from addresses import Address, Addresses
from errors import NameUnknown
from resolver import Resolver
from tasks.delivery.connections import Connections
from tasks.delivery.dialer import DNS_PROBE_HOST, Dialer

GOOD = ip_address("127.0.0.1")


@dataclass
class Server:
    """A server at a real socket that keeps every connection that was made to it, and every request."""

    port: int = 0
    connections: int = 0
    requests: list[str] = field(default_factory=list)
    names: list[str | None] = field(default_factory=list)
    answer: bytes = b"HTTP/1.1 204 No Content\r\n\r\n"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                size = next(int(line[15:]) for line in head.splitlines() if line.lower().startswith("content-length:"))
                await reader.readexactly(size)
                self.requests.append(head)
                writer.write(self.answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    @property
    def hosts(self) -> list[str]:
        lines = chain.from_iterable(request.splitlines() for request in self.requests)
        return [line[6:] for line in lines if line.lower().startswith("host: ")]


@asynccontextmanager
async def serving(host: Address = GOOD, port: int = 0, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    made = Server()
    server = await asyncio.start_server(made.serve, str(host), port, ssl=tls)
    made.port = server.sockets[0].getsockname()[1]
    async with server:
        yield made


def resolver(names: Mapping[str, Sequence[str]]) -> Resolver:
    """A resolver that has these names alone."""

    def ask(host: str) -> list[Address]:
        if host not in names:
            raise NameUnknown
        return [ip_address(text) for text in names[host]]

    return Resolver(ask)


@asynccontextmanager
async def connecting(
    addresses: Addresses,
    resolver: Resolver | None = None,
    probe_host: str = DNS_PROBE_HOST,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Connections]:
    dialer = Dialer(addresses, resolver or Resolver(), probe_host)
    connections = Connections(dialer, tls or httpx2.create_ssl_context(trust_env=False), 5.0)
    try:
        yield connections
    finally:
        await connections.close()


async def post(connections: Connections, url: str) -> int:
    async with connections.post(url, {"content-length": "2"}, b"{}") as response:
        await response.aread()
        return response.status


@contextmanager
def silent() -> Iterator[int]:
    """A port of 127.0.0.1 where every new connection hangs, since its listener takes no more."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        for one in waiting:
            one.settimeout(0)
            one.connect_ex(listener.getsockname())
        yield int(listener.getsockname()[1])
        for one in waiting:
            one.close()
