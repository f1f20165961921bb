"""A worker whose browser answers at once: python -m bench.worker_without_browser [read], with the settings of a worker.

With `read`, each message is delivered at the first look for its tick, and read at the second; otherwise it only leaves.

Everything else is the product's: wake-ups, leases, seats, fencing, results and events. (bench/send.py turns pace off.)
"""
# ruff: noqa: ARG001, ARG002, ASYNC109  # it has the methods of WhatsApp

import asyncio
import logging
import sys
from collections import Counter
from collections.abc import Collection
from typing import TYPE_CHECKING, cast

from browser.page.bubbles import Bubble, Side, Tick
from browser.page.inbox import Glance
from browser.page.own_account import OwnAccount
from browser.page.screens import Screen
from commands import environment
from commands.signals import on_signals
from server import make_garbage_collection_rare
from sql.roles import Role
from tasks.web.seats import Seats, Session
from tasks.web.sessions import Sessions
from tasks.web.state_changes import Account
from wiring.worker import make_worker

if TYPE_CHECKING:
    from browser.engine.proxy import Proxy
    from browser.page.whatsapp import WhatsApp


class FreePage:
    """A page on which each message has its tick at once."""

    alive = True

    def __init__(self, *, read: bool) -> None:
        self._read = read
        self._sent = 0
        self._looks: Counter[str] = Counter()

    @property
    def inbox(self) -> "FreePage":
        """Nobody writes."""
        return self

    async def arrival(self) -> None:
        """Nothing has come in."""

    async def conversation(self, seen: str | None = None) -> None:
        """Nothing has come in."""

    async def glance(self) -> Glance:
        """No chat is open, and nothing is unread."""
        return Glance("", None, ())

    async def further(self) -> bool:
        """The list ends here."""
        return False

    async def wait_screen(self, *_: Screen, timeout: float) -> Screen:
        """Show the chat list."""
        return Screen.MAIN

    async def screen(self) -> Screen:
        """Show the chat list."""
        return Screen.MAIN

    async def own(self) -> OwnAccount:
        """Have no number, so that none differs from the account's."""
        return OwnAccount(None, None)

    async def restriction(self) -> None:
        """Restrict nothing."""

    async def settle_in(self) -> bool:
        """Be usable."""
        return True

    async def answers(self) -> bool:
        """Answer."""
        return True

    async def open_chat(self, phone: str, *, known_only: bool = False, messages: Collection[str] = ()) -> None:
        """Open it at once."""

    async def write(self, text: str) -> None:
        """Type it at once."""

    async def clear(self) -> None:
        """Empty the box."""

    async def arm(self, seconds: float) -> None:
        """Let Enter through."""

    async def press_enter(self) -> None:
        """Send."""
        self._sent += 1

    async def held_back(self) -> str:
        """Hold nothing back."""
        return ""

    async def confirm(self, text: str, anchor: str | None, timeout: float, seen: object) -> Bubble:
        """Show its tick."""
        return Bubble(f"true_{id(self)}_{self._sent}", text, Tick.SENT, Side.OURS)

    async def survey(self) -> tuple[dict[str, int], set[str]]:
        """Count nothing."""
        return {}, set()

    async def ticks(self, ids: Collection[str]) -> dict[str, Tick]:
        """Show the second tick, and then the blue ones."""
        self._looks.update(ids if self._read else ())
        return {each: Tick.READ if self._looks[each] > 1 else Tick.DELIVERED for each in ids if self._looks[each]}

    async def chat_ticks(self) -> dict[str, Tick]:
        """Show no second tick."""
        return {}

    async def close(self) -> None:
        """Close at once."""


def make_free(seats: Seats, *, read: bool) -> None:
    """Have seats open such pages in place of browsers, without a profile."""

    async def boot(account: Account, proxy: "Proxy | None") -> Session:
        return Session(account.id, cast("WhatsApp", FreePage(read=read)), account.profile_generation)

    seats._boot = boot  # type: ignore[method-assign]  # noqa: SLF001  # the one place where a browser is started


async def _run() -> int:
    logging.disable(logging.WARNING)
    settings = environment.load()
    url = environment.ready_database_url(settings, Role.WORKER)
    with environment.home(settings.profiles) as home:
        worker = make_worker(settings, url, home)
        for part in worker.parts:
            if isinstance(part, Sessions):
                make_free(part.seats, read="read" in sys.argv[1:])
        make_garbage_collection_rare()
        async with worker.opened():
            return await worker.run(on_signals())


if __name__ == "__main__":
    asyncio.run(_run())
