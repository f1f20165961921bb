"""Turns: a semaphore that is fair to groups."""

import asyncio
from collections import OrderedDict, deque


class Turns:
    """So many turns at once; the groups of those that wait get them in rotation (round robin), each in its order."""

    def __init__(self, most: int) -> None:
        self._free = most
        #: group → those that wait; the group whose turn is next comes first
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    async def acquire(self, group: str = "") -> None:
        """Wait for a turn; it must be released."""
        if self._free:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(group, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release()
            raise

    def release(self) -> None:
        """End a turn: the next one waiting gets it."""
        while self._waiting:
            group, line = next(iter(self._waiting.items()))
            turn = line.popleft()
            if line:
                self._waiting.move_to_end(group)
            else:
                del self._waiting[group]
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
