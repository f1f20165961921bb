"""What deliveries connect to, shown at real sockets: nothing reaches a server that they may not reach."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from ipaddress import ip_address
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import httpcore2
import pytest
from fixtures_deliveries import add_endpoint, begin, make_due, send_one, working
from fixtures_lanes import value
from fixtures_sockets import GOOD, Server, connecting, post, resolver, serving, silent
from fixtures_tls import Authority, authority
from test_addresses import CLOSED_V4, CLOSED_V6, WELL_KNOWN, dresses

from addresses import LOOPBACK, Address, Addresses, network
from bench.ports import held_ports
from errors import AddressRefused, LookupFailed
from resolver import Resolver
from sql.database import Database
from tasks.delivery import connections as connecting_to
from tasks.delivery import dialer
from tasks.delivery.dialer import Dialer
from tasks.delivery.lane import DeliveryWork

__all__ = ["authority"]

GENERIC = "Deliveries may not go where this URL leads, or nothing answers there."
#: 127.0.0.1 stands for a receiver that is allowed, every other loopback address for what is inside.
ONE = Addresses((network("127.0.0.1/32"),))
INNER = ip_address("127.0.0.2")
#: Every address of this machine, and those of IPv6 that are not those of IPv4.
EVERYWHERE, EVERYWHERE_ELSE = ip_address(0), ip_address("::1")


# --- the delivery path -------------------------------------------------------------------------------------------

LITERALS = [
    "127.0.0.1", "127.0.0.1.", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.1", "0X7F.0.0.1", "017700000001",
    "[::1]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::127.0.0.1]",
    "0.0x0", "0", "[::]", "localhost", "LOCALHOST", "127。0。0。1", "127\uff0e0\uff0e0\uff0e1", "user@127.0.0.1",
    "example.org@127.0.0.1", ":secret@127.0.0.1",
]  # fmt: skip
#: These are no address to the client, and lead nowhere by any DNS that is in order.
NO_HOSTS = [
    "0177.0.0.1",
    "127.0.0.01",
    "①②⑦.0.0.1",
    "%31%32%37.0.0.1",
    "127.0.0.1%00.example.org",
    "[::1%25lo]",
    "[::1",
]


@pytest.fixture
async def inner() -> AsyncIterator[list[Server]]:
    """What listens on this machine, in both families and on every address of it."""
    async with serving(EVERYWHERE) as v4, serving(EVERYWHERE_ELSE, v4.port) as v6:
        yield [v4, v6]


async def deliver(database: Database, work: DeliveryWork, url: str) -> str:
    """Deliver what waits to this URL and return the error that is recorded."""
    async with database.transaction() as tx:
        await tx.connection.execute("update endpoints set url = %s", [url])
    await make_due(database)
    drain = await begin(database, "whe_1")
    await work.begin(drain)
    await work.one(drain)
    return str(await value(database, "select error from attempts order by number desc limit 1"))


async def test_no_form_of_an_inner_address_is_reached_and_all_look_the_same(
    database: Database, inner: list[Server]
) -> None:
    await add_endpoint(database, "", '{"attempts": 50, "baseSeconds": 1}')
    await send_one(database)
    async with working(database, Addresses()) as work:
        said = {host: await deliver(database, work, f"http://{host}:{inner[0].port}/hook") for host in LITERALS}
        odd = {host: await deliver(database, work, f"http://{host}:{inner[0].port}/hook") for host in NO_HOSTS}
    assert said == dict.fromkeys(LITERALS, GENERIC)
    assert "None" not in odd.values()
    assert [(server.connections, server.requests) for server in inner] == [(0, []), (0, [])]


async def test_the_same_forms_reach_it_where_it_is_allowed(database: Database, inner: list[Server]) -> None:
    """Or the test above would prove nothing."""
    await add_endpoint(database, "", '{"attempts": 50, "baseSeconds": 1}')
    await send_one(database)
    async with working(database) as work:
        for host in ("127.0.0.1", "127.1", "2130706433", "0x7f.1", "[::1]", "[::ffff:7f00:1]", "localhost"):
            async with database.transaction() as tx:
                await tx.connection.execute("update deliveries set state = 'pending', ended_at = null")
            said = await deliver(database, work, f"http://{host}:{inner[0].port}/hook")
            assert said == "None", host
    assert sum(len(server.requests) for server in inner) == 7


async def test_what_is_blocked_refused_or_silent_inside_looks_the_same_and_the_log_knows(
    database: Database, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connecting_to, "CONNECT", 0.3)
    caplog.set_level("INFO", "tasks.delivery.dialer")
    (nobody,) = held_ports(1)
    with silent() as full:
        await add_endpoint(database, "", '{"attempts": 50, "baseSeconds": 1}')
        await send_one(database)
        async with working(database, ONE) as work:
            urls = [f"http://127.0.0.2:{nobody}/", f"http://127.0.0.1:{nobody}/", f"http://127.0.0.1:{full}/"]
            assert [await deliver(database, work, url) for url in urls] == [GENERIC] * 3
    assert await value(database, "select queue from lanes where id = 'whe_1'") == "endpoint-slow", "the last one hung"
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
        "127.0.0.2 is not public, and WEBHOOK_ALLOW_CIDRS does not have it",
        "Connection refused",
        "no answer in time",
    ]


# --- names -------------------------------------------------------------------------------------------------------


class Watch:
    """Every connection that Python begins, refused or not, while it is watched; its hooks stay for ever."""

    def __init__(self) -> None:
        self.seen: list[Any] | None = None
        sys.addaudithook(self._see)

    def _see(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.connect" and self.seen is not None:
            self.seen.append(arguments[1])

    @contextmanager
    def watching(self) -> Iterator[list[Any]]:
        self.seen = []
        try:
            yield self.seen
        finally:
            self.seen = None


WATCH = Watch()


async def test_no_name_leads_into_a_special_range() -> None:
    """First and last of each, IPv4 within IPv6, and metadata: not even a connection is begun."""
    inside = ("127.0.0.1", "10.0.0.1", "169.254.169.254", "192.168.1.1")
    every = {*WELL_KNOWN, *chain.from_iterable(CLOSED_V4 + CLOSED_V6)}
    every |= {str(dressed) for text in inside for dressed in dresses(text).values()}
    names = {f"n{place}.test": [text] for place, text in enumerate(sorted(every))}
    async with serving() as server, connecting(Addresses(), resolver(names)) as connections:
        with WATCH.watching() as dialled:
            for name in names:
                for url in (f"http://{name}/", f"https://{name}/", f"http://{name}:{server.port}/"):
                    with pytest.raises(AddressRefused):
                        await post(connections, url)
        assert dialled == []
    assert len(names) > 100


@pytest.mark.parametrize("found", [("127.0.0.1", "127.0.0.2"), ("127.0.0.2", "127.0.0.1")])
async def test_a_name_with_one_closed_address_is_not_dialled_at_all(found: tuple[str, str]) -> None:
    async with serving() as good, serving(INNER, good.port) as inner:
        async with connecting(ONE, resolver({"mixed.test": found})) as connections:
            with pytest.raises(AddressRefused):
                await post(connections, f"http://mixed.test:{good.port}/")
        assert (good.connections, inner.connections) == (0, 0)


async def test_a_name_that_leads_elsewhere_at_the_second_look_is_dialled_where_the_first_led() -> None:
    """Rebinding: there is one look for each connection, and what it gave is dialled."""
    asked: list[str] = []
    answers = chain([[GOOD]], repeat([INNER]))

    def ask(host: str) -> list[Address]:
        asked.append(host)
        return next(answers)

    async with serving() as good, serving(INNER, good.port) as inner:
        resolver = Resolver(ask)
        url = f"http://rebind.test:{good.port}/"
        async with connecting(ONE, resolver) as connections:
            assert [await post(connections, url), await post(connections, url)] == [204, 204]
        assert (asked, good.connections) == (["rebind.test"], 1)
        async with connecting(ONE, resolver) as connections:
            found = await asyncio.gather(*(post(connections, url) for _ in range(3)), return_exceptions=True)
        assert [type(error) for error in found] == [AddressRefused] * 3
        assert (good.connections, inner.connections) == (1, 0)
        assert len(asked) > 1, "the next connections looked anew"


async def test_the_next_address_is_tried_when_one_refuses_or_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connecting_to, "CONNECT", 1)
    async with serving() as server:
        names = {"two.test": ["127.0.0.3", "127.0.0.1"]}
        async with connecting(LOOPBACK, resolver(names)) as connections:
            assert await post(connections, f"http://two.test:{server.port}/") == 204
    with silent() as full:
        async with (
            serving(INNER, full) as server,
            connecting(LOOPBACK, resolver({"two.test": ["127.0.0.1", "127.0.0.2"]})) as connections,
        ):
            assert await post(connections, f"http://two.test:{full}/") == 204


async def test_no_more_addresses_are_tried_than_one_host_may_have() -> None:
    names = {"many.test": [f"127.0.1.{number}" for number in range(1, 200)]}
    async with connecting(LOOPBACK, resolver(names)) as connections:
        with WATCH.watching() as dialled, pytest.raises(AddressRefused):
            await post(connections, "http://many.test:9/")
    assert [host for host, _ in dialled] == names["many.test"][: dialer.MOST_TRIED]


async def test_a_kept_connection_that_its_server_closed_is_no_failure_of_the_server() -> None:
    """It closes with the second request, without an answer, as one does whose time is over at that moment."""
    got = list[int]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for number in range(2):
            await reader.readuntil(b"\r\n\r\n{}")
            got.append(number)
            if number == 0:
                writer.write(Server.answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, connecting(ONE) as connections:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        assert [await post(connections, url) for _ in range(3)] == [204, 204, 204]
    assert got == [0, 1, 0, 1, 0]


# --- other ways out ----------------------------------------------------------------------------------------------


async def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch, authority: Authority) -> None:
    names = {"hook.test": ["127.0.0.1"]}
    async with serving() as receiver, tls_serving(authority, "hook.test") as safe, serving() as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
            monkeypatch.setenv(name.lower(), f"http://127.0.0.1:{proxy.port}")
        async with connecting(ONE, resolver(names), tls=authority.client) as connections:
            assert await post(connections, f"http://hook.test:{receiver.port}/") == 204
            assert await post(connections, f"https://hook.test:{safe.port}/") == 204
        assert (receiver.connections, safe.connections, proxy.connections) == (1, 1, 0)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_inwards_is_a_failure_and_not_followed(database: Database, status: int) -> None:
    async with serving() as receiver, serving(INNER) as inner:
        where = f"http://127.0.0.2:{inner.port}/"
        head = f"HTTP/1.1 {status} Elsewhere\r\nlocation: {where}\r\ncontent-length: 0\r\n\r\n"
        receiver.answer = head.encode()
        await add_endpoint(database, "")
        await send_one(database)
        async with working(database) as work:
            said = await deliver(database, work, f"http://127.0.0.1:{receiver.port}/")
        assert (said, len(receiver.requests), inner.connections) == (f"HTTP {status}", 1, 0)


@pytest.mark.parametrize("user", ["user@", "user:secret@", ":secret@"])
async def test_a_user_in_the_url_is_not_sent_anywhere(user: str) -> None:
    async with serving() as receiver, connecting(ONE) as connections:
        with pytest.raises(AddressRefused):
            await post(connections, f"http://{user}127.0.0.1:{receiver.port}/")
        assert receiver.connections == 0


async def test_there_is_no_way_to_a_unix_socket(tmp_path: Path) -> None:
    with pytest.raises(NotImplementedError):
        await Dialer(LOOPBACK, Resolver()).connect_unix_socket(str(tmp_path / "socket"))
    async with connecting(LOOPBACK) as connections:
        for url in ("unix:///run/docker.sock", "http+unix://%2Frun%2Fdocker.sock/", "file:///etc/passwd", "ws://x/"):
            with pytest.raises(AddressRefused):
                await post(connections, url)


# --- TLS ---------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def tls_serving(authority: Authority, *names: str, port: int = 0) -> AsyncIterator[Server]:
    """A server with a certificate for these names, that keeps the names which clients ask for."""
    context = authority.server(*names)
    async with serving(port=port, tls=context) as server:
        context.sni_callback = lambda _, name, __: server.names.append(name)
        yield server


async def test_the_name_is_for_sni_host_and_certificate_although_a_number_is_dialled(authority: Authority) -> None:
    async with tls_serving(authority, "hook-a.test", "hook-b.test") as server:
        names = {"hook-a.test": ["127.0.0.1"], "hook-b.test": ["127.0.0.1"]}
        async with connecting(ONE, resolver(names), tls=authority.client) as connections:
            for name in ("hook-a.test", "hook-b.test", "hook-a.test", "hook-b.test"):
                assert await post(connections, f"https://{name}:{server.port}/") == 204
        assert server.hosts == [f"hook-{letter}.test:{server.port}" for letter in "abab"]
        assert server.names == ["hook-a.test", "hook-b.test"] * 2, "no connection serves another name"


async def test_a_certificate_of_another_name_is_refused_also_beside_a_kept_connection(authority: Authority) -> None:
    async with tls_serving(authority, "right.test") as server:
        names = {"right.test": ["127.0.0.1"], "wrong.test": ["127.0.0.1"]}
        async with connecting(ONE, resolver(names), tls=authority.client) as connections:
            assert await post(connections, f"https://right.test:{server.port}/") == 204
            with pytest.raises(httpcore2.ConnectError, match=r"CERTIFICATE_VERIFY_FAILED.*wrong\.test"):
                await post(connections, f"https://wrong.test:{server.port}/")
        assert server.hosts == [f"right.test:{server.port}"]


async def test_a_self_signed_certificate_is_refused_whatever_the_environment_says(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    async with tls_serving(authority, "hook.test") as server:
        async with connecting(ONE, resolver({"hook.test": ["127.0.0.1"]})) as connections:
            with pytest.raises(httpcore2.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                await post(connections, f"https://hook.test:{server.port}/")
        assert server.requests == []


async def test_our_own_fault_is_recorded_as_ours(database: Database) -> None:
    def away(host: str) -> list[Address]:
        raise LookupFailed(host)

    await add_endpoint(database, "")
    await send_one(database)
    async with working(database, resolver=Resolver(away)) as work:
        said = await deliver(database, work, "http://broken.test/")
        assert said == "Postrider itself had no network at this moment, or no DNS."
        rests = []
        for _ in range(6):
            left = "select ceil(extract(epoch from open_at - now()) / 5) * 5 from lanes where id = 'whe_1'"
            rests.append(int(await value(database, left)))
            async with database.transaction() as tx:
                await tx.connection.execute("update lanes set open_at = '-infinity' where id = 'whe_1'")
            await deliver(database, work, "http://broken.test/")
    assert rests == [5, 10, 20, 40, 60, 60], "an outage of hours leaves no heap of attempts"
    assert await value(database, "select attempts from deliveries") == 0
    assert await value(database, "select failures from endpoints") == 0
