"""An account's proxies: parse their URLs, test them before use, and connect through them."""

import asyncio
import base64
from asyncio import StreamReader, StreamWriter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import SplitResult, unquote, urlsplit

import h11
from python_socks import ProxyError, ProxyType
from python_socks.async_.asyncio import Proxy as Socks

from errors import ProxyDown

SCHEMES = ("http", "socks5")
#: limit for connecting through a proxy, from the TCP handshake to the proxy's answer
CONNECT_SECONDS = 10.0
CHUNK = 64 * 1024

Streams = tuple[StreamReader, StreamWriter]
#: (host, port) of a proxy → the addresses to connect to, in this order; raises Refused where that may not be
Find = Callable[[str, int], Awaitable[Sequence[str]]]


class Refused(Exception):
    """The proxy gave no connection to the target; the text says why, without credentials."""


@dataclass(frozen=True, repr=False)
class Proxy:
    """One proxy: `http://user:password@host:port` or `socks5://…`, user and password percent-encoded or omitted."""

    url: str
    find: Find

    def __post_init__(self) -> None:
        """Raise ValueError for a malformed URL, without quoting it: a password may be anywhere in it."""
        try:
            whole = self._parts.scheme in SCHEMES and self._parts.hostname and self._parts.port
        except ValueError:
            whole = None
        if not whole:
            raise ValueError("A proxy must be like http://user:password@host:3128 or socks5://user:password@host:1080.")

    def __repr__(self) -> str:
        return f"Proxy({self})"

    def __str__(self) -> str:
        """Name the proxy without its credentials."""
        return f"{self._parts.scheme}://{self._parts.netloc.rpartition('@')[2]}"

    @cached_property
    def _parts(self) -> SplitResult:
        return urlsplit(self.url)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return self._parts.hostname or "", self._parts.port or 0

    @property
    def credentials(self) -> tuple[str, str] | None:
        """User and password, decoded."""
        if self._parts.username is None:
            return None
        return unquote(self._parts.username), unquote(self._parts.password or "")

    async def connect(self, host: str, port: int) -> Streams:
        """Open a connection to `host` through the proxy, which resolves the name. Raise Refused after 10 s at most."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                return await self._through(await self.find(*self.address), host, port)
        except TimeoutError:
            raise Refused(f"did not answer within {CONNECT_SECONDS:.0f} s") from None
        except UnicodeEncodeError:
            raise Refused("takes no user, password or host with letters outside ASCII") from None
        except (OSError, EOFError, ProxyError, ValueError, h11.ProtocolError) as error:
            raise Refused(f"failed: {error or type(error).__name__}") from error

    async def _through(self, addresses: Sequence[str], host: str, port: int) -> Streams:
        """Connect through the first of the proxy's addresses that works. The name itself is not looked up again."""
        connect = self._tunnel if self._parts.scheme == "http" else self._socks
        *others, last = addresses
        for address in others:
            with suppress(OSError):
                async with asyncio.timeout(CONNECT_SECONDS / len(addresses)):
                    return await connect(address, host, port)
        return await connect(last, host, port)

    async def _socks(self, address: str, host: str, port: int) -> Streams:
        user, password = self.credentials or (None, None)
        socks = Socks(ProxyType.SOCKS5, address, self.address[1], user, password, rdns=True)
        return await asyncio.open_connection(sock=await socks.connect(host, port, CONNECT_SECONDS))

    async def _tunnel(self, address: str, host: str, port: int) -> Streams:
        """Ask an HTTP proxy for a tunnel (RFC 9110, 9.3.6)."""
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        headers = [("Host", target)]
        if self.credentials is not None:
            headers.append(("Proxy-Authorization", _basic(*self.credentials)))
        reader, writer = await asyncio.open_connection(address, self.address[1])
        try:
            answer = await _ask(reader, writer, h11.Request(method="CONNECT", target=target, headers=headers))
            _check(answer)
        except BaseException:
            writer.close()
            raise
        return reader, writer


async def _ask(reader: StreamReader, writer: StreamWriter, request: h11.Request) -> h11.Response:
    connection = h11.Connection(h11.CLIENT)
    writer.write(connection.send(request) or b"")
    while not isinstance(event := connection.next_event(), h11.Response):
        if event is h11.NEED_DATA:
            # Byte by byte: anything after the head of the answer belongs to the tunnel.
            connection.receive_data(await reader.read(1))
    return event


def _check(answer: h11.Response) -> None:
    if not 200 <= answer.status_code < 300:  # noqa: PLR2004 - success, by the RFC
        raise Refused(f"answered {answer.status_code} {answer.reason.decode('latin-1')}".rstrip())


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


async def choose(urls: Sequence[str], target: str, find: Find) -> Proxy | None:
    """Return the first proxy that connects to `target`, an http or https URL; None if `urls` is empty.

    Each is tested by a real connection. Raise ProxyDown, which lists each proxy without its credentials and why it
    failed.
    """
    parts = urlsplit(target)
    host, port = parts.hostname or "", parts.port or {"http": 80, "https": 443}[parts.scheme]
    refused = []
    for url in urls:
        try:
            proxy = Proxy(url, find)
        except ValueError as error:
            refused.append(str(error))
            continue
        try:
            _, writer = await proxy.connect(host, port)
        except Refused as error:
            refused.append(f"{proxy} {error}")
        else:
            writer.close()
            return proxy
    if refused:
        raise ProxyDown(f"None of the account's proxies leads to {host}:{port}: {'; '.join(refused)}.")
    return None
