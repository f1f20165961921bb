"""Resolves names by the system's resolver, with a timeout and a bound on threads.

getaddrinfo cannot be cancelled: while a name server is silent it holds its thread for half a minute. In asyncio's small
default pool that would block everything else that needs a thread, and the exit of the process.
"""

import asyncio
import socket
import time
from asyncio import Semaphore, Task
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from ipaddress import ip_address
from threading import Thread

from addresses import Address, literal
from errors import LookupFailed, NameUnknown

#: Three thread pools: hosts that resolved quickly last time, all others, and the DNS probe. Silent name servers can
#: exhaust only the second.
FAST_THREADS, OTHER_THREADS, URGENT_THREADS = 48, 48, 4
FAST_SECONDS = 1.0  # seconds
MAX_FAST_NAMES = 10_000  # names remembered as quick to resolve
#: The errors that mean that a name has no address; all others mean that DNS gave no answer.
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


@dataclass
class Lookup:
    """A lookup in progress, and how many callers wait for it."""

    task: Task[Sequence[Address]]
    waiting: int = 0
    #: it has its thread
    begun: bool = False


class Resolver:
    """Resolves names. Concurrent lookups of one name are made once; answers are not cached."""

    def __init__(self, ask: Callable[[str], Sequence[Address]] = ask) -> None:
        self._ask = ask
        self._fast_threads, self._other_threads = Semaphore(FAST_THREADS), Semaphore(OTHER_THREADS)
        self._urgent_threads = Semaphore(URGENT_THREADS)
        #: names that resolved quickly last time, oldest first
        self._fast: dict[str, None] = {}
        self._lookups: dict[str, Lookup] = {}

    async def lookup(self, host: str, patience: float, *, urgent: bool = False) -> Sequence[Address]:
        """Return all addresses of a host, at least one. Raise NameUnknown, or LookupFailed after `patience` seconds."""
        if (address := literal(host)) is not None:
            return [address]
        lookup = self._lookups.get(host) or self._begin(host, urgent=urgent)
        lookup.waiting += 1
        try:
            async with asyncio.timeout(patience):
                # Others may wait for the same answer.
                found = await asyncio.shield(lookup.task)
        except TimeoutError:
            self._fast.pop(host, None)
            raise LookupFailed(f"{host}: no answer within {patience:g} s") from None
        finally:
            lookup.waiting -= 1
            if not lookup.waiting and not lookup.begun:
                lookup.task.cancel()
                self._lookups.pop(host, None)
        if not found:
            raise NameUnknown
        return found

    def _begin(self, host: str, *, urgent: bool) -> Lookup:
        threads = self._urgent_threads if urgent else self._fast_threads if host in self._fast else self._other_threads
        task = asyncio.create_task(self._answer(host, threads), name=f"lookup of {host}")
        self._lookups[host] = Lookup(task)
        task.add_done_callback(lambda task: self._end(host, task))
        return self._lookups[host]

    def _end(self, host: str, task: Task[Sequence[Address]]) -> None:
        if (lookup := self._lookups.get(host)) and lookup.task is task:
            del self._lookups[host]
        if not task.cancelled():
            task.exception()  # retrieved here, since all callers may have given up

    async def _answer(self, host: str, threads: Semaphore) -> Sequence[Address]:
        async with threads:
            self._lookups[host].begun = True
            began = time.monotonic()
            answer: Future[Sequence[Address]] = Future()
            answer.set_running_or_notify_cancel()
            Thread(target=self._run, args=(host, answer), name=f"lookup of {host}", daemon=True).start()
            found = await asyncio.wrap_future(answer)
        self._fast.pop(host, None)
        if time.monotonic() - began < FAST_SECONDS:
            self._fast[host] = None
            if len(self._fast) > MAX_FAST_NAMES:
                del self._fast[next(iter(self._fast))]
        return found

    def _run(self, host: str, answer: "Future[Sequence[Address]]") -> None:
        try:
            answer.set_result(self._ask(host))
        except Exception as error:  # noqa: BLE001  # raised in `_answer`
            answer.set_exception(error)
