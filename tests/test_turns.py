"""Turns: how many are had at once, and whose is next."""

import asyncio

from sql.turns import Turns


async def taken(turns: Turns, order: list[str], group: str, name: str) -> None:
    await turns.acquire(group)
    order.append(name)
    turns.release()


async def test_groups_take_turns_however_many_each_has_waiting() -> None:
    turns, order = Turns(1), list[str]()
    await turns.acquire("a")
    async with asyncio.TaskGroup() as tasks:
        for name in ("a1", "a2", "a3", "b1", "b2", "c1"):
            tasks.create_task(taken(turns, order, name[0], name))
        await asyncio.sleep(0)
        turns.release()
    assert order == ["a1", "b1", "c1", "a2", "b2", "a3"]


async def test_no_more_turns_are_had_than_there_are() -> None:
    turns, had, most = Turns(2), 0, 0

    async def work(group: str) -> None:
        nonlocal had, most
        await turns.acquire(group)
        had += 1
        most = max(most, had)
        await asyncio.sleep(0)
        had -= 1
        turns.release()

    await asyncio.gather(*(work(group) for group in "abcabcabc"))
    assert most == 2
    await turns.acquire()
    await turns.acquire()


async def test_who_gives_up_waiting_costs_no_turn() -> None:
    turns, order = Turns(1), list[str]()
    await turns.acquire()
    impatient, unlucky, patient = (
        asyncio.create_task(taken(turns, order, "a", name)) for name in ("impatient", "unlucky", "patient")
    )
    await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.sleep(0)
    turns.release()
    unlucky.cancel()
    async with asyncio.timeout(5):
        await patient
        await turns.acquire()
    assert order == ["patient"]
