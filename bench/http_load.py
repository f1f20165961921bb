"""Load: requests over connections that are kept, each with one request under way, as fast as the answers come.

The client is as small as it can be, since it takes its time from the machine that is measured.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import quantiles
from typing import cast


@dataclass
class Answers:
    """What came back, and how long it took."""

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
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
    """Send requests for so many seconds; `request` makes each, head and body."""
    answers, loop, began = Answers(), asyncio.get_running_loop(), time.perf_counter()
    ended = [loop.create_future() for _ in range(connections)]
    for each in ended:
        await loop.create_connection(
            lambda each=each: _Connection(answers, request, began + seconds, each),  # type: ignore[misc]
            "127.0.0.1",
            port,
        )
    await asyncio.gather(*ended)
    answers.took = time.perf_counter() - began
    return answers


def post(path: str, body: bytes, **headers: str) -> bytes:
    """Return a POST of JSON."""
    named = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return (
        f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{named}"
        f"content-length: {len(body)}\r\n\r\n"
    ).encode() + body


class _Connection(asyncio.Protocol):
    def __init__(
        self, answers: Answers, request: Callable[[], bytes], until: float, ended: "asyncio.Future[None]"
    ) -> None:
        self._answers, self._request, self._until, self._ended = answers, request, until, ended
        self._rest = b""
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._next()

    def _next(self) -> None:
        self._sent = time.perf_counter()
        if self._sent >= self._until:
            self._transport.close()
            return
        self._transport.write(self._request())

    def data_received(self, data: bytes) -> None:
        self._rest += data
        head, found, rest = self._rest.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(rest) < length:
            return
        self._rest = b""
        self._answers.statuses[int(head[9:12])] += 1
        self._answers.seconds.append(time.perf_counter() - self._sent)
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        if self._ended.done():
            return
        if error or time.perf_counter() < self._until:
            self._ended.set_exception(error or ConnectionError("The server closed a connection that was in use."))
        else:
            self._ended.set_result(None)
