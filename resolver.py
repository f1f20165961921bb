"""Names to addresses by the system's own resolver, with a bound on time and threads.

getaddrinfo cannot be stopped: while a name server is silent it holds its thread for half a minute. In asyncio's own few
threads it would hold up everything else that needs them, and a process that is to end.
"""

import asyncio
import socket
from asyncio import Semaphore, Task
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from ipaddress import ip_address
from threading import Thread

from addresses import Address, literal
from errors import LookupFailed, NameUnknown

THREADS = 48
#: For names that had no answer in time when they were last looked up, so that they keep threads from no others.
SLOW_THREADS = 16
MOST_SLOW = 10_000  # names that are remembered as such
#: The answers that say that there is nothing; the others say that there is no answer.
NOTHING = {getattr(socket, name, None) for name in ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY")}


def ask(host: str) -> list[Address]:
    """Return a name's addresses in the order in which they are to be tried (RFC 6724); may take half a minute."""
    try:
        answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except UnicodeError:  # a label that is empty or longer than 63 characters
        raise NameUnknown from None
    except OSError as error:  # gaierror, or what kept the system from asking
        if isinstance(error, socket.gaierror) and error.errno in NOTHING:
            raise NameUnknown from None
        raise LookupFailed(f"{host}: {error.strerror}") from None
    return list(dict.fromkeys(ip_address(answer[4][0]) for answer in answers))


class Resolver:
    """Looks names up: each once at a time, whoever asks, and nothing is remembered."""

    def __init__(self, ask: Callable[[str], Sequence[Address]] = ask) -> None:
        self._ask = ask
        self._threads, self._slow_threads = Semaphore(THREADS), Semaphore(SLOW_THREADS)
        self._slow: set[str] = set()
        self._asking: dict[str, Task[Sequence[Address]]] = {}

    async def lookup(self, host: str, patience: float) -> Sequence[Address]:
        """Return all addresses of a host, at least one. Raise NameUnknown, or LookupFailed after `patience` seconds."""
        if (address := literal(host)) is not None:
            return [address]
        asking = self._asking.get(host) or self._begin(host)
        try:
            async with asyncio.timeout(patience):
                # Others may wait for the same answer.
                found = await asyncio.shield(asking)
        except TimeoutError:
            if len(self._slow) < MOST_SLOW:
                self._slow.add(host)
            raise LookupFailed(f"{host}: no answer within {patience:g} s") from None
        if not found:
            raise NameUnknown
        return found

    def _begin(self, host: str) -> Task[Sequence[Address]]:
        asking = asyncio.create_task(self._answer(host), name=f"lookup of {host}")
        self._asking[host] = asking
        asking.add_done_callback(lambda task: self._end(host, task))
        return asking

    def _end(self, host: str, asking: Task[Sequence[Address]]) -> None:
        del self._asking[host]
        if not asking.cancelled():
            asking.exception()  # is nobody's when all who asked have given up

    async def _answer(self, host: str) -> Sequence[Address]:
        async with self._slow_threads if host in self._slow else self._threads:
            answer: Future[Sequence[Address]] = Future()
            answer.set_running_or_notify_cancel()
            Thread(target=self._run, args=(host, answer), name=f"lookup of {host}", daemon=True).start()
            found = await asyncio.wrap_future(answer)
        self._slow.discard(host)
        return found

    def _run(self, host: str, answer: "Future[Sequence[Address]]") -> None:
        try:
            answer.set_result(self._ask(host))
        except Exception as error:  # noqa: BLE001  # is raised where the answer is waited for
            answer.set_exception(error)
