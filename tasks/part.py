"""A part of a worker: everything it does for one duty. A worker has one part for each of its duties."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple

from tasks.lanes import Work
from tasks.queue import Consumer


class PeriodicTask(NamedTuple):
    """A call that a worker repeats at a fixed interval."""

    name: str
    every: float  # seconds
    run_once: Callable[[], Awaitable[object]]


@dataclass
class Part:
    """A part without leases, preparation or cleanup; subclasses override what differs.

    The methods are in the order in which a worker calls them.
    """

    #: its name in WORKER_DUTIES
    duty: str
    #: the `Work` for each kind of lane
    works: Mapping[str, Work]
    consumers: Sequence[Consumer]
    periodic_tasks: Sequence[PeriodicTask]

    @property
    def capacity(self) -> int:
        """The number of its seats."""
        return 0

    @property
    def home(self) -> str | None:
        """The identity of its directory of profiles."""
        return None

    def opened(self) -> AbstractAsyncContextManager[object]:
        """Keep its resources open within the block."""
        return nullcontext()

    async def prepare(self) -> None:
        """Clean up after an earlier worker, before any wake-up is taken."""

    async def begin(self) -> None:
        """Start work that needs running consumers."""

    async def check(self) -> None:
        """Raise PostriderError when it cannot work at present."""

    # --- leases: the worker's heartbeat renews them, and waits for nothing else --------------------------------------

    def open_accounts(self) -> list[str]:
        """Return the accounts whose sessions are open."""
        return []

    def leased(self) -> set[str]:
        """Return the accounts that it has leased."""
        return set()

    def leases_renewed(self, accounts: Sequence[str], held: set[str], before: float) -> None:
        """React to a heartbeat: of the leases `held` before it, Postgres renewed those of `accounts` after `before`."""

    def database_away(self) -> None:
        """React to a heartbeat that failed because Postgres is away: leases may be about to end."""

    def declared_dead(self) -> None:
        """React to the loss of the worker's row: it was declared dead, and other workers have its accounts."""

    # --- the end ------------------------------------------------------------------------------------------------------

    async def leave_idle(self) -> None:
        """Give back what no drain needs, while the last drains run."""

    async def leave(self) -> None:
        """Give everything back, after the last drain."""
