"""Proxies: read, tried out, and used by real browsers for everything that they do."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from fixtures_api import settings
from fixtures_browser import DOMS, PATIENCE, SELECTORS, Pages, new_account, new_phone, pages, send, until
from fixtures_proxy import CREDENTIALS, NEAR, PASSWORD, USER, TestProxy, proxy_server
from playwright.async_api import BrowserContext

import errors
from addresses import LOOPBACK, Address, Addresses
from bench.ports import held_ports
from browser.engine import profile
from browser.engine.engine import Engine, Look, look_for
from browser.engine.flags import TELEMETRY
from browser.engine.proxy import Find, Proxy, Refused, choose
from browser.engine.relay import Relay
from browser.page.screens import Screen
from browser.page.whatsapp import WhatsApp
from resolver import Resolver
from tasks.web.proxy_addresses import CLOSED, ProxyAddresses
from tasks.web.sessions import seats_of
from wiring.worker import make_worker

__all__ = ["pages"]

NEWEST = DOMS[-1]


@pytest.fixture(params=["http", "socks5"])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[TestProxy]:
    async with proxy_server(request.param) as one:
        yield one


@pytest.fixture
async def target() -> AsyncIterator[str]:
    """Something to connect to."""
    listener = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/"
    listener.close()


# --- reading


def test_a_proxy_never_shows_its_credentials() -> None:
    proxy = Proxy(f"socks5://{CREDENTIALS}@Proxy.Example:1080", NEAR)
    assert str(proxy) == "socks5://Proxy.Example:1080"
    assert repr(proxy) == "Proxy(socks5://Proxy.Example:1080)"
    assert proxy.address == ("proxy.example", 1080)
    assert proxy.credentials == (USER, PASSWORD)
    assert Proxy("http://[::1]:3128", NEAR).address == ("::1", 3128)
    assert Proxy("http://proxy.example:3128", NEAR).credentials is None


@pytest.mark.parametrize(
    "url",
    [
        "",
        "proxy.example:3128",
        "ftp://u:secret@h:1",
        "http://u:secret@h",
        "http://u:secret@h:99999",
        "http://u:sec[ret@h:1",
    ],
)
def test_what_is_no_proxy_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match="must be like http") as caught:
        Proxy(url, NEAR)
    assert "secret" not in str(caught.value)


# --- trying out


async def test_the_first_that_leads_there_is_chosen(server: TestProxy, target: str) -> None:
    assert await choose([], target, NEAR) is None
    dead = f"http://u:secret@127.0.0.1:{held_ports(1)[0]}"
    proxy = await choose([dead, server.url, "http://never.asked.invalid:1"], target, NEAR)
    assert proxy == Proxy(server.url, NEAR)
    assert server.asked == [target.removeprefix("http://").rstrip("/")]


async def test_none_that_leads_there_is_named_without_credentials(server: TestProxy, target: str) -> None:
    wrong = server.url.replace("us%20er", "secret-user")
    without = f"{server.scheme}://127.0.0.1:{server.port}"
    with pytest.raises(errors.ProxyDown) as caught:
        await choose([wrong, without, "http://secret:secret@127.0.0.1:1", "gopher://secret@h:1"], target, NEAR)
    said = str(caught.value)
    assert said.count(f"127.0.0.1:{server.port}") == 2
    assert "http://127.0.0.1:1 failed" in said
    assert "must be like" in said
    assert not any(each in said for each in ("secret", PASSWORD, "word%2F1"))
    assert isinstance(caught.value, errors.Offline)
    assert server.strangers == 2
    assert server.asked == []


async def test_a_proxy_that_does_not_reach_the_target_is_refused(server: TestProxy) -> None:
    with pytest.raises(errors.ProxyDown, match=rf"leads to 127\.0\.0\.1:{(port := held_ports(1)[0])}"):
        await choose([server.url], f"http://127.0.0.1:{port}/", NEAR)
    with pytest.raises(errors.ProxyDown, match=r"leads to web\.whatsapp\.com:443"):
        await choose([server.url], "https://web.whatsapp.com", NEAR)
    assert server.asked == [f"127.0.0.1:{port}", "web.whatsapp.com:443"]


async def test_a_proxy_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    monkeypatch.setattr("browser.engine.proxy.CONNECT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for scheme in ("http", "socks5"):
            with pytest.raises(errors.ProxyDown, match="did not answer"):
                await choose([f"{scheme}://127.0.0.1:{silent.getsockname()[1]}"], target, NEAR)


@pytest.mark.parametrize(
    "answer", [b"", b"\x00", b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 200", b"\x05\x77", b"\x05\xff"]
)
@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_what_is_no_proxy_at_all_is_refused(scheme: str, answer: bytes) -> None:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()
        writer.close()

    listener = await asyncio.start_server(talk, "127.0.0.1", 0)
    with pytest.raises(Refused):
        await Proxy(f"{scheme}://127.0.0.1:{listener.sockets[0].getsockname()[1]}", NEAR).connect("example.org", 443)
    listener.close()


async def test_credentials_that_socks_cannot_carry_are_refused(target: str) -> None:
    async with proxy_server("socks5") as server:
        with pytest.raises(errors.ProxyDown, match="outside ASCII"):
            await choose([f"socks5://%C3%A9:pass@127.0.0.1:{server.port}"], target, NEAR)


# --- where it may be


class Names:
    """A resolver's system, which knows some names and notes who was asked for."""

    def __init__(self, **known: list[str]) -> None:
        self.known, self.asked = known, list[str]()

    def __call__(self, host: str) -> list[Address]:
        self.asked.append(host)
        return [ip_address(text) for text in self.known.get(host, [])]

    def judged_by(self, addresses: Addresses) -> Find:
        return ProxyAddresses(addresses, Resolver(self)).find


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1", "0x7f.1", "2130706433", "[::ffff:127.0.0.1]", "10.0.0.1", "169.254.169.254", "both"]
)
async def test_nothing_is_sent_to_a_proxy_at_an_inner_address(server: TestProxy, target: str, host: str) -> None:
    names = Names(both=["8.8.8.8", "127.0.0.1"])
    with pytest.raises(errors.ProxyDown) as caught:
        await choose([f"{server.scheme}://{host}:{server.port}"], target, names.judged_by(Addresses()))
    assert f"{server.scheme}://{host}:{server.port} {CLOSED}" in str(caught.value)
    assert server.writers == []


async def test_a_proxy_is_looked_up_once_and_its_number_dialled(server: TestProxy, target: str) -> None:
    names = Names(proxy=["127.0.0.3", "127.0.0.1"])
    near = names.judged_by(LOOPBACK)
    url = server.url.replace("127.0.0.1", "proxy")
    assert await choose([url], target, near) == Proxy(url, near)
    assert names.asked == ["proxy"], "and the second address is tried when nobody listens at the first"
    for port in (0, 25):
        with pytest.raises(Refused):
            await names.judged_by(Addresses())("8.8.8.8", port)
    with pytest.raises(errors.ProxyDown, match="http://nowhere:3128 has a name without an address"):
        await choose(["http://nowhere:3128"], target, near)


@pytest.mark.parametrize(
    ("allowed", "open_", "closed"), [(None, "127.0.0.1", "10.1.0.7"), ("10.1.0.0/16", "10.1.0.7", "127.0.0.1")]
)
async def test_a_worker_judges_proxies_by_the_setting(
    tmp_path: Path, allowed: str | None, open_: str, closed: str
) -> None:
    worker = make_worker(settings(proxy_allow_cidrs=allowed, data_dir=tmp_path), "postgresql://nowhere", "home_1")
    find = seats_of(worker.parts).find_proxy
    assert await find(open_, 3128) == [open_]
    with pytest.raises(Refused):
        await find(closed, 3128)


# --- in a browser


async def test_everything_of_an_account_goes_through_its_proxy(pages: Pages, server: TestProxy) -> None:
    account, phone = new_account(), new_phone()
    directory = profile.directory_of(pages.root, account)
    profile.prepare(directory)
    proxy = await choose([server.url], pages.origin, NEAR)
    page = await WhatsApp.open(
        pages.engine,
        directory,
        look_for(account),
        f"{pages.origin}/sandbox/web/{account}/?dom={NEWEST}",
        selectors=SELECTORS,
        typing_delay_ms=(0, 1),
        patience=PATIENCE,
        proxy=proxy,
    )
    try:
        await pages.link(account, page)
        await send(page, phone, "through a proxy")
        assert await pages.received(phone) == ["through a proxy"]
        assert set(server.asked) == {pages.origin.removeprefix("http://")}
        assert server.strangers == 0
        assert server.received > 10_000
        server.stop()
        await page.wait_screen(Screen.OFFLINE, timeout=30)
    finally:
        await page.close()


async def fetches(context: BrowserContext, url: str) -> bool:
    ask = "url => fetch(url, {mode: 'no-cors'}).then(() => true, () => false)"
    return bool(await context.pages[0].evaluate(ask, url))


async def test_what_is_cut_off_stays_so_behind_a_proxy(server: TestProxy, target: str, tmp_path: Path) -> None:
    async with Engine() as engine:
        context = await engine.open(tmp_path / "profile", Look(800, 600), Proxy(server.url, NEAR))
        for host in (*TELEMETRY, "elsewhere.test"):
            server.names[host] = "127.0.0.1"
        port = target.rstrip("/").rpartition(":")[2]
        for scheme in ("http", "https"):
            for host in (*TELEMETRY, "elsewhere.test"):
                await fetches(context, f"{scheme}://{host}:{port}/")
        # The control: a host that is not cut off was asked for, and by name.
        assert set(server.asked) == {f"elsewhere.test:{port}"}


STUN_BINDING = 0x0001
GATHER = """port => new Promise(done => {
  const peer = new RTCPeerConnection({iceServers: [{urls: `stun:127.0.0.1:${port}`}]});
  peer.createDataChannel("x");
  peer.onicegatheringstatechange = () => peer.iceGatheringState === "complete" && done();
  peer.createOffer().then(offer => peer.setLocalDescription(offer));
})"""


class Stun(asyncio.DatagramProtocol):
    """Counts who asks for his address, and answers none."""

    def __init__(self) -> None:
        self.asked = 0

    async def heard(self) -> int:
        return self.asked

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        del addr
        self.asked += struct.unpack_from("!H", data)[0] == STUN_BINDING


async def test_webrtc_does_not_go_past_a_proxy(tmp_path: Path) -> None:
    transport, stun = await asyncio.get_running_loop().create_datagram_endpoint(Stun, ("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]
    try:
        async with proxy_server("socks5") as server, Engine() as engine:
            proxied = await engine.open(tmp_path / "proxied", Look(800, 600), Proxy(server.url, NEAR))
            await proxied.pages[0].evaluate(GATHER, port)
            assert stun.asked == 0
            # The control: without a proxy it asks, and goes on asking for long.
            direct = await engine.open(tmp_path / "direct", Look(800, 600))
            gathering = asyncio.create_task(direct.pages[0].evaluate(GATHER, port))
            await until(stun.heard)
            gathering.cancel()
    finally:
        transport.close()


async def test_the_relay_ends_with_its_browser(server: TestProxy, tmp_path: Path) -> None:
    async with Engine() as engine:
        context = await engine.open(tmp_path / "profile", Look(800, 600), Proxy(server.url, NEAR))
        (relay,) = engine._relays
        assert relay._server is not None
        port = relay._server.sockets[0].getsockname()[1]
        await context.close()

        async def closed() -> bool:
            return not engine._relays

        await until(closed)
        with pytest.raises(OSError, match="Connect"):
            await asyncio.open_connection("127.0.0.1", port)


async def test_a_proxy_that_goes_while_the_page_is_opened_is_offline(pages: Pages, server: TestProxy) -> None:
    server.stop()
    account = new_account()
    directory = profile.directory_of(pages.root, account)
    profile.prepare(directory)
    with pytest.raises(errors.Offline):
        await WhatsApp.open(
            pages.engine,
            directory,
            look_for(account),
            f"{pages.origin}/sandbox/web/{account}/",
            selectors=SELECTORS,
            typing_delay_ms=(0, 1),
            patience=PATIENCE,
            proxy=Proxy(server.url, NEAR),
        )


# --- the relay's own protocol


async def relayed(server: TestProxy, request: bytes) -> bytes:
    relay = Relay(Proxy(server.url, NEAR))
    port = int((await relay.start()).rpartition(":")[2])
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        writer.write_eof()
        answer = await asyncio.wait_for(reader.read(), 30)
        writer.close()
        return answer
    finally:
        relay.close()


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b""),
        (b"\x04\x01", b""),
        (b"\x05", b""),
        (b"\x05\x01\x00\x05\x02\x00\x01\x7f\x00\x00\x01\x00\x50", b"\x05\x00\x05\x07"),  # bind
        (b"\x05\x01\x00\x05\x01\x00\x03\x07nowhere\x00\x50", b"\x05\x00\x05\x04"),
        (b"\x05\x01\x00\x05\x01\x00\x04" + bytes(15) + b"\x01\x00\x50", b"\x05\x00\x05\x04"),  # ::1, which it refuses
    ],
)
async def test_the_relay_answers_what_it_does_not_do(server: TestProxy, request_: bytes, answer: bytes) -> None:
    assert (await relayed(server, request_))[:4] == answer
