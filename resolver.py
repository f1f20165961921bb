"""Names to addresses by the system's own resolver, with a bound on time and threads.

getaddrinfo cannot be stopped: while a name server is silent it holds its thread for half a minute. In asyncio's own few
threads it would hold up everything else that needs them, and a process that is to end.
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

#: For names that had an answer soon when they were last looked up, for all others, and for the one that tells whether
#: DNS is there at all. Whoever has names whose servers are silent keeps nothing from those that are well.
THREADS, OTHER_THREADS, URGENT_THREADS = 48, 48, 4
SOON = 1.0  # seconds
MOST_KNOWN = 10_000  # names that are remembered to have had an answer soon
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


@dataclass
class Lookup:
    """A name that is being looked up, for however many."""

    task: Task[Sequence[Address]]
    waiting: int = 0
    #: it has its thread
    begun: bool = False


class Resolver:
    """Looks names up: each once at a time, whoever asks, and no answer is remembered."""

    def __init__(self, ask: Callable[[str], Sequence[Address]] = ask) -> None:
        self._ask = ask
        self._threads, self._other_threads = Semaphore(THREADS), Semaphore(OTHER_THREADS)
        self._urgent_threads = Semaphore(URGENT_THREADS)
        #: names that had an answer soon, the one of longest ago first
        self._known: dict[str, None] = {}
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
            self._known.pop(host, None)
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
        threads = self._urgent_threads if urgent else self._threads if host in self._known else self._other_threads
        task = asyncio.create_task(self._answer(host, threads), name=f"lookup of {host}")
        self._lookups[host] = Lookup(task)
        task.add_done_callback(lambda task: self._end(host, task))
        return self._lookups[host]

    def _end(self, host: str, task: Task[Sequence[Address]]) -> None:
        if (lookup := self._lookups.get(host)) and lookup.task is task:
            del self._lookups[host]
        if not task.cancelled():
            task.exception()  # is nobody's when all who asked have given up

    async def _answer(self, host: str, threads: Semaphore) -> Sequence[Address]:
        async with threads:
            self._lookups[host].begun = True
            began = time.monotonic()
            answer: Future[Sequence[Address]] = Future()
            answer.set_running_or_notify_cancel()
            Thread(target=self._run, args=(host, answer), name=f"lookup of {host}", daemon=True).start()
            found = await asyncio.wrap_future(answer)
        self._known.pop(host, None)
        if time.monotonic() - began < SOON:
            self._known[host] = None
            if len(self._known) > MOST_KNOWN:
                del self._known[next(iter(self._known))]
        return found

    def _run(self, host: str, answer: "Future[Sequence[Address]]") -> None:
        try:
            answer.set_result(self._ask(host))
        except Exception as error:  # noqa: BLE001  # is raised where the answer is waited for
            answer.set_exception(error)
