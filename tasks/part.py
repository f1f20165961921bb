"""A part of a worker: what it does for one duty. A worker is put together of as many as it has duties."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple

from tasks.lanes import Work
from tasks.queue import Consumer


class Turn(NamedTuple):
    """What a part does again and again."""

    name: str
    every: float  # seconds
    run_once: Callable[[], Awaitable[object]]


@dataclass
class Part:
    """One that leases nothing, needs nothing to be ready for, and leaves nothing behind. Others override what differs.

    Its methods are here in the order in which a worker calls them.
    """

    #: its name in WORKER_DUTIES
    duty: str
    #: what is done with the rows of each kind of lane
    works: Mapping[str, Work]
    consumers: Sequence[Consumer]
    turns: Sequence[Turn]

    @property
    def capacity(self) -> int:
        """How many accounts it has seats for."""
        return 0

    @property
    def home(self) -> str | None:
        """The identity of its directory of profiles."""
        return None

    def opened(self) -> AbstractAsyncContextManager[object]:
        """Hold what it works with open within the block."""
        return nullcontext()

    async def prepare(self) -> None:
        """Put in order what an earlier worker left, before any wake-up is taken."""

    async def begin(self) -> None:
        """Do what wants to be done once wake-ups are taken."""

    async def check(self) -> None:
        """Raise PostriderError when it cannot work at present."""

    # --- leases: they are renewed with the worker's sign of life ------------------------------------------------------

    def open_accounts(self) -> list[str]:
        """Return the accounts whose sessions are open."""
        return []

    def leased(self) -> set[str]:
        """Return the accounts that it has leased."""
        return set()

    async def renewed(self, accounts: Sequence[str], held: set[str], before: float) -> None:
        """Learn which leases Postgres has renewed, at `before` or later, of those that it `held` then."""

    def unanswered(self) -> None:
        """Learn that Postgres was away: leases may be about to end."""

    def dead(self) -> None:
        """Learn that the worker was declared dead: others have its accounts."""

    # --- the end ------------------------------------------------------------------------------------------------------

    async def leave_idle(self) -> None:
        """Give back what no drain needs, while drains go on."""

    async def leave(self) -> None:
        """Give everything back, after the last drain."""
