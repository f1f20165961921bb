"""Periodic tasks: one task per key at a time."""

import asyncio

from tasks.periodic import PerKey


async def test_what_ended_between_two_rounds_is_started_again_in_the_next() -> None:
    beside, begun, end = PerKey(), [], asyncio.Event()

    async def work() -> None:
        begun.append(1)
        await end.wait()

    await beside.each({"a": work}, patience=0)
    await beside.each({"a": work}, patience=0)
    assert len(begun) == 1, "it still runs"
    end.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await beside.each({"a": work})
    assert len(begun) == 2
