"""Receivers that misbehave, at real sockets: what the attempts say of each, and that none costs more than it may."""

import asyncio
import gzip
import socket
import struct
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from fixtures_api import rows
from fixtures_deliveries import SECRET, add_endpoint, drain_once, make_due, send_one, working
from fixtures_lanes import value
from fixtures_sockets import serving
from fixtures_tls import Authority, authority

from crypto import verify
from sql.database import Database
from tasks.delivery import request
from tasks.delivery.lane import DeliveryWork
from tasks.delivery.request import RESPONSE_KEPT

__all__ = ["authority"]

#: seconds that an answer may take, and that one takes which comes in drops
DEADLINE, DRIBBLE = 1.0, 20.0
OK = b"HTTP/1.1 204 No Content\r\n\r\n"
UNPACKED = 256 * 1024 * 1024
BOMB = gzip.compress(bytes(UNPACKED // 32), 9) * 32  # gzip files may follow each other
ENDLESS, CHUNK = 64 * 1024 * 1024, 65_536

Script = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Receiver:
    """Plays one script for each request, and keeps how many bytes it got rid of."""

    scripts: list[Script]
    port: int = 0
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()[1:-1]
            headers = {name.lower(): text for name, _, text in (line.partition(": ") for line in head)}
            self.requests.append((headers, await reader.readexactly(int(headers["content-length"]))))
            await self.scripts[min(len(self.requests), len(self.scripts)) - 1](writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


def says(*parts: bytes, pause: float = 0.0) -> Script:
    """A script that writes these, with so many seconds between, and then closes."""

    async def play(writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause)

    return play


def answers(status: str, *headers: str, body: bytes = b"") -> Script:
    head = "\r\n".join([f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers])
    return says(f"{head}\r\n\r\n".encode() + body)


async def reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST, as a firewall does, or a server that died."""
    found = writer.get_extra_info("socket")
    found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def silence(_: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


@dataclass
class Endless:
    """Answers as much as is read, and knows how much it got rid of."""

    sent: int = 0
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 500 Oops\r\n\r\n")
        try:
            while self.sent < ENDLESS:
                writer.write(b"x" * CHUNK)
                await writer.drain()
                self.sent += CHUNK
        finally:
            self.over.set()


@asynccontextmanager
async def playing(*scripts: Script) -> AsyncIterator[Receiver]:
    receiver = Receiver(list(scripts))
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.port = server.sockets[0].getsockname()[1]
    # Connections that hang are left to themselves: waiting for them is what is tested.
    try:
        yield receiver
    finally:
        server.close()


@pytest.fixture
async def work(database: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[DeliveryWork]:
    monkeypatch.setattr(request, "DEADLINE", DEADLINE)
    async with working(database) as work:
        yield work


HEADERS = b"".join(b"x-%d: %s\r\n" % (number, b"v" * 50) for number in range(10_000))
ACROSS = "location: http://169.254.169.254/latest/meta-data/"
DRIP = [bytes([one]) for one in OK]
CUT = "no HTTP answer: Server disconnected without sending a response."
HALF = "no HTTP answer: peer closed connection without sending complete message body (received 4 bytes, expected 100)"


@dataclass
class Case:
    """What a receiver does, and what its attempt says."""

    script: Script
    status: int | None
    error: str
    response: str | None = None
    hangs: bool = False


async def interim(writer: asyncio.StreamWriter) -> None:
    """Say for ever that the answer is still to come: httpcore2 skips that, however often it comes."""
    while True:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)
        await writer.drain()


CASES = {
    "an error": Case(answers("500 Oops", body=b"no"), 500, "HTTP 500", "no"),
    "silence": Case(silence, None, "timeout", hangs=True),
    "reset": Case(reset, None, "the connection was cut"),
    "nothing": Case(says(), None, CUT),
    "redirect inwards": Case(answers("302 Found", ACROSS), 302, "HTTP 302", ""),
    "slow headers": Case(says(*DRIP, pause=DRIBBLE / len(DRIP)), None, "timeout", hangs=True),
    "slow body": Case(
        says(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n", *[b"x"] * 100, pause=DRIBBLE / 100),
        None,
        "timeout",
        hangs=True,
    ),
    "gzip bomb": Case(answers("500 Oops", "content-encoding: gzip", body=BOMB), 500, "HTTP 500"),
    "endless body": Case(Endless(), 500, "HTTP 500", "x" * RESPONSE_KEPT),
    "10,000 headers": Case(
        says(b"HTTP/1.1 204 No Content\r\n" + HEADERS + b"\r\n"), None, "no HTTP answer: Receive buffer too long"
    ),
    "interim answers": Case(interim, None, "no HTTP answer: it is longer than 131,072 bytes"),
    "another protocol": Case(says(b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n"), None, "no HTTP answer"),
    "half an answer": Case(says(b"HTTP/1.1 500 Oops\r\ncontent-length: 100\r\n\r\nhalf"), None, HALF),
    "no HTTP": Case(says(b"220 smtp.example ESMTP\r\n"), None, CUT),
    "gone": Case(answers("410 Gone"), 410, "HTTP 410", ""),
}


@pytest.mark.parametrize("name", CASES)
async def test_the_attempt_says_what_happened(
    database: Database, work: DeliveryWork, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    if not case.hangs:
        monkeypatch.setattr(request, "DEADLINE", 30.0)
    async with playing(case.script) as receiver:
        await add_endpoint(database, f"http://127.0.0.1:{receiver.port}/hook")
        await send_one(database)
        await drain_once(database, work)
    (said,) = await rows(database, "select status, error, counts, ended_at is not null from attempts")
    assert said == (case.status, case.error, True, True)
    ((response, milliseconds),) = await rows(database, "select response, duration_ms from attempts")
    if case.hangs:
        assert DEADLINE <= milliseconds / 1000 < DRIBBLE / 2, "by the clock, whatever dribbles in"
    assert case.response in {None, response}
    assert len(response or "") <= RESPONSE_KEPT
    assert len(receiver.requests) == 1, "nothing is followed, and nothing tried again at once"
    queue = await value(database, "select queue from lanes where id = 'whe_1'")
    assert queue == "endpoint-slow" if case.hangs else queue
    state = await value(database, "select state || ' ' || (due_at > now() + interval '3 seconds') from deliveries")
    assert state == ("failed false" if case.status == 410 else "pending true")


async def test_no_more_of_an_answer_is_read_than_is_kept(database: Database, work: DeliveryWork) -> None:
    endless = Endless()
    async with playing(endless) as receiver:
        await add_endpoint(database, f"http://127.0.0.1:{receiver.port}/hook")
        await send_one(database)
        await drain_once(database, work)
        async with asyncio.timeout(30):
            await endless.over.wait()
    # The rest stands in the buffers of the system's sockets.
    assert endless.sent < ENDLESS / 4


async def test_what_is_kept_of_headers_is_bounded(database: Database, work: DeliveryWork) -> None:
    headers = [f"{'n' * 20_000}: {'v' * 20_000}", *(f"x-{number}: v" for number in range(100))]
    async with playing(answers("204 No Content", *headers)) as receiver:
        await add_endpoint(database, f"http://127.0.0.1:{receiver.port}/hook")
        await send_one(database)
        await drain_once(database, work)
    ((kept,),) = await rows(database, "select headers from attempts")
    assert len(kept) == 50
    assert kept["n" * 100] == "v" * 500


async def test_a_bomb_is_kept_as_it_came(database: Database, work: DeliveryWork) -> None:
    async with playing(answers("500 Oops", "content-encoding: gzip", body=BOMB)) as receiver:
        await add_endpoint(database, f"http://127.0.0.1:{receiver.port}/hook")
        await send_one(database)
        tracemalloc.start()
        await drain_once(database, work)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert str(await value(database, "select response from attempts")).startswith("\x1f\ufffd"), "not unpacked"
    assert peak < UNPACKED / 32


async def test_a_certificate_of_nobody_is_refused(database: Database, work: DeliveryWork, authority: Authority) -> None:
    async with serving(tls=authority.server("localhost")) as server:
        await add_endpoint(database, f"https://localhost:{server.port}/hook")
        await send_one(database)
        await drain_once(database, work)
    error = str(await value(database, "select error from attempts"))
    assert error.startswith("no connection: [SSL: CERTIFICATE_VERIFY_FAILED]"), error
    assert server.requests == []


async def test_three_errors_and_then_a_success_keep_to_the_policy(database: Database, work: DeliveryWork) -> None:
    """Waits of 2, 4 and 8 seconds, ±20 %; one id and one body; a timestamp and a signature for each."""
    oops = answers("500 Oops")
    async with playing(oops, oops, oops, says(OK)) as receiver:
        await add_endpoint(
            database, f"http://127.0.0.1:{receiver.port}/hook", '{"attempts": 4, "baseSeconds": 2, "factor": 2}'
        )
        await send_one(database)
        waits = []
        for _ in range(3):
            await drain_once(database, work)
            (wait,) = await rows(
                database,
                "select extract(epoch from due_at - attempts.ended_at)::float8 from deliveries join attempts"
                " on attempts.delivery_id = deliveries.id and number = deliveries.attempts",
            )
            waits.append(wait[0])
            # The next attempt is due: a moment later by the clock of the signature, which counts seconds.
            await make_due(database)
            now = int(time.time())
            while int(time.time()) == now:
                await asyncio.sleep(0.02)
        await drain_once(database, work)
    for wait, wanted in zip(waits, (2, 4, 8), strict=True):
        assert 0.8 * wanted - 0.1 <= wait <= 1.2 * wanted + 0.1
    assert await rows(database, "select number, status from attempts order by number") == [
        (1, 500), (2, 500), (3, 500), (4, 204),
    ]  # fmt: skip
    assert await value(database, "select state from deliveries") == "delivered"
    assert len({(headers["webhook-id"], body) for headers, body in receiver.requests}) == 1
    assert len({headers["webhook-timestamp"] for headers, _ in receiver.requests}) == 4
    assert len({headers["webhook-signature"] for headers, _ in receiver.requests}) == 4
    for headers, body in receiver.requests:
        stamp = headers["webhook-timestamp"]
        verify([SECRET], headers["webhook-id"], stamp, headers["webhook-signature"], body, now=float(stamp))


async def test_too_many_requests_close_the_gate_for_as_long_as_it_says(database: Database, work: DeliveryWork) -> None:
    async with playing(answers("429 Slow Down", "retry-after: 120")) as receiver:
        await add_endpoint(database, f"http://127.0.0.1:{receiver.port}/hook")
        await send_one(database)
        await drain_once(database, work)
        await make_due(database)
        await drain_once(database, work)
    assert len(receiver.requests) == 1, "what is due waits too"
    left = "select extract(epoch from open_at - now())::integer between 100 and 120 from lanes where id = 'whe_1'"
    assert await value(database, left) is True
