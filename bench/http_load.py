"""Load: requests over connections that are kept, as fast as the answers come or at a rate of their own.

The client is as small as it can be, since it takes its time from the machine that is measured.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import quantiles
from typing import cast

TICK = 0.002  # seconds between looks whether requests are due
PATIENCE = 30.0  # seconds that an answer may take


@dataclass
class Answers:
    """What came back, and how long it took."""

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    #: of `flood`: status, seconds and body of each; 0 where none came
    each: list[tuple[int, float, bytes]] = field(default_factory=list)
    #: of the whole
    took: float = 0.0

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return len(self.seconds) / self.took

    def percentile(self, percent: int) -> float:
        """Return that percentile of the latencies, in ms."""
        return quantiles(self.seconds, n=100)[percent - 1] * 1000


async def load(port: int, connections: int, seconds: float, request: Callable[[], bytes]) -> Answers:
    """Send requests for so many seconds, the next of a connection when it has its answer; `request` makes each."""
    answers, loop, began = Answers(), asyncio.get_running_loop(), time.perf_counter()
    ended = [loop.create_future() for _ in range(connections)]

    def answered(connection: _Connection, status: int, took: float, _: bytes) -> None:
        answers.statuses[status] += 1
        answers.seconds.append(took)
        go_on(connection)

    def go_on(connection: _Connection) -> None:
        if time.perf_counter() < began + seconds:
            connection.send(request())
        else:
            connection.close()

    for each in ended:
        go_on(await _connect(port, answered, each))
    await asyncio.gather(*ended)
    answers.took = time.perf_counter() - began
    return answers


async def flood(
    port: int, per_second: float, seconds: float, request: Callable[[], bytes], answers: Answers | None = None
) -> Answers:
    """Send requests at a rate, whether or not those before have their answers, on as many connections as that takes.

    What has come stands in `answers.each`, and may be taken from there meanwhile.
    """
    answers, began, sent, came = answers or Answers(), time.perf_counter(), 0, 0
    idle: deque[_Connection] = deque()

    def answered(connection: _Connection, status: int, took: float, body: bytes) -> None:
        nonlocal came
        came += 1
        answers.each.append((status, took, body))
        idle.append(connection)

    while (now := time.perf_counter() - began) < seconds:
        while sent < now * per_second:
            while idle and idle[0].closed:  # by the server, after some seconds without a request
                idle.popleft()
            connection = idle.popleft() if idle else await _connect(port, answered)
            connection.send(request())
            sent += 1
        await asyncio.sleep(TICK)
    answers.took = time.perf_counter() - began
    until = time.perf_counter() + PATIENCE
    while came < sent and time.perf_counter() < until:  # noqa: ASYNC110  # as it sends
        await asyncio.sleep(TICK)
    answers.each += [(0, PATIENCE, b"")] * (sent - came)
    for connection in idle:
        connection.close()
    return answers


def post(path: str, body: bytes, **headers: str) -> bytes:
    """Return a POST of JSON."""
    named = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return (
        f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{named}"
        f"content-length: {len(body)}\r\n\r\n"
    ).encode() + body


#: takes a connection, and status, seconds and body of its answer
Answered = Callable[["_Connection", int, float, bytes], None]


async def _connect(port: int, answered: Answered, ended: "asyncio.Future[None] | None" = None) -> "_Connection":
    loop = asyncio.get_running_loop()
    return (await loop.create_connection(lambda: _Connection(answered, ended), "127.0.0.1", port))[1]


class _Connection(asyncio.Protocol):
    """One connection, with at most one request under way. `ended` tells of its end, which is an error until `close`."""

    def __init__(self, answered: Answered, ended: "asyncio.Future[None] | None") -> None:
        self._answered, self._ended = answered, ended
        self._rest = b""
        self._sent: float | None = None
        self._closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    @property
    def closed(self) -> bool:
        return self._transport.is_closing()

    def send(self, request: bytes) -> None:
        self._sent = time.perf_counter()
        self._transport.write(request)

    def close(self) -> None:
        self._closing = True
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._rest += data
        head, found, rest = self._rest.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(rest) < length or self._sent is None:
            return
        self._rest = b""
        took, self._sent = time.perf_counter() - self._sent, None
        self._answered(self, int(head[9:12]), took, rest)

    def connection_lost(self, error: Exception | None) -> None:
        if self._ended is None or self._ended.done():
            return
        if error or not self._closing:
            self._ended.set_exception(error or ConnectionError("The server closed a connection that was in use."))
        else:
            self._ended.set_result(None)
