"""The faults: each does its harm, waits, and ends it. What restarts is started again by the supervisor."""

import asyncio
import os
import random
import shutil
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil
import psycopg

from browser.sandbox.control import STEPS
from errors import DatabaseAway, OperatorError
from faults.cluster import LEASE, Cluster
from sql import embedded

#: What does harm; it returns what it did, for the log of the run.
Kind = Callable[[Cluster, random.Random], Awaitable[str]]

FILLER = "filler"  # the file that fills the disk
AIM = 4.0  # seconds that a fault waits for a message to be where it is to strike


class Missed(Exception):
    """There was nothing to strike at that moment."""


#: By an index: a run has thousands of jobs that wait.
IN_FLIGHT = "select 1 from jobs where claim is not null and ended_at is null and state = %s limit 1"


async def aim(cluster: Cluster, rng: random.Random) -> str:
    """Wait until a message is being typed, or is between the permission and its tick; half of the time for neither."""
    state = rng.choice(["sending", "submitting", None, None])
    if state:
        with suppress(TimeoutError, psycopg.Error):
            async with asyncio.timeout(AIM):
                while not await cluster.value(IN_FLIGHT, state):
                    await asyncio.sleep(0.01)
        await asyncio.sleep(rng.uniform(0, 0.6))
    return f" at {state}" if state else ""


def one_of(found: Sequence[psutil.Process], rng: random.Random) -> psutil.Process:
    """Choose a process. Raises Missed."""
    if not found:
        raise Missed
    return rng.choice(sorted(found, key=lambda process: process.pid))


def running(cluster: Cluster, word: str) -> list[psutil.Process]:
    """Return the workers' processes whose command has this word."""
    found = []
    for worker in cluster.workers:
        for process in worker.processes()[1:]:
            with suppress(psutil.Error):
                if any(word in part for part in process.cmdline()):
                    found.append(process)
    return found


# --- processes -------------------------------------------------------------------------------------------------------


async def kill_part(cluster: Cluster, rng: random.Random, *, names: Sequence[str], number: int) -> str:
    """Send a signal to one of our programs, which ends by it."""
    where = await aim(cluster, rng)
    part = cluster.parts[rng.choice(names)]
    part.send(number)
    return part.name + where


async def lose_machine(cluster: Cluster, rng: random.Random) -> str:
    """Lose a worker with its disk; another machine takes its place after a while."""
    where, seconds = await aim(cluster, rng), rng.uniform(2, 60)
    name = rng.choice(WORKERS)
    part = cluster.parts[name]
    part.pause = seconds
    for process in part.processes():
        with suppress(psutil.Error):
            process.kill()
    await asyncio.to_thread(shutil.rmtree, cluster.folder / name, ignore_errors=True)
    return f"{name}{where} for {seconds:.0f} s"


async def freeze_part(cluster: Cluster, rng: random.Random, *, names: Sequence[str], low: float, high: float) -> str:
    """Stop one of our programs for a while, and let it go on."""
    where = await aim(cluster, rng)
    part, seconds = cluster.parts[rng.choice(names)], rng.uniform(low, high)
    if part.process is None or part.process.returncode is not None:
        raise Missed
    process = psutil.Process(part.process.pid)
    if part in cluster.workers and not any("guard_process" in " ".join(one.cmdline()) for one in process.children()):
        # Its guard was killed a moment ago.
        raise Missed
    await _freeze([process], seconds)
    return f"{part.name}{where} for {seconds:.0f} s"


async def _freeze(processes: Sequence[psutil.Process], seconds: float) -> None:
    for process in processes:
        with suppress(psutil.Error):
            process.suspend()
    try:
        await asyncio.sleep(seconds)
    finally:
        for process in processes:
            with suppress(psutil.Error):
                process.resume()


async def kill_browser(cluster: Cluster, rng: random.Random) -> str:
    """Kill a whole browser."""
    where = await aim(cluster, rng)
    one_of(cluster.browsers(), rng).kill()
    return where.strip()


async def kill_renderer(cluster: Cluster, rng: random.Random) -> str:
    """Kill the process that draws a page."""
    where = await aim(cluster, rng)
    one_of(running(cluster, "--type=renderer"), rng).kill()
    return where.strip()


async def freeze_browser(cluster: Cluster, rng: random.Random) -> str:
    """Stop a browser with all its processes for a while."""
    where, seconds = await aim(cluster, rng), rng.uniform(2, 15)
    browser = one_of(cluster.browsers(), rng)
    await _freeze([browser, *browser.children(recursive=True)], seconds)
    return f"for {seconds:.0f} s{where}"


async def kill_helper(cluster: Cluster, rng: random.Random, *, word: str) -> str:
    """Kill Playwright's driver, or the guard of the browsers."""
    where = await aim(cluster, rng)
    one_of([found for found in running(cluster, word) if not is_frozen(found.parent())], rng).kill()
    return where.strip()


def is_frozen(process: psutil.Process | None) -> bool:
    """Tell whether a process is stopped: whoever guards a frozen worker is left alone, see docs/guarantees.md."""
    return process is not None and process.status() == psutil.STATUS_STOPPED


# --- Postgres --------------------------------------------------------------------------------------------------------


def postmaster(cluster: Cluster) -> psutil.Process:
    """Return Postgres's first process. Raises Missed when another fault has stopped it."""
    try:
        text = (cluster.disk / embedded.FOLDER / "postmaster.pid").read_text()
        return psutil.Process(int(text.splitlines()[0]))
    except (FileNotFoundError, IndexError) as error:  # it has ended, or just begins
        raise Missed from error


async def _start_postgres(cluster: Cluster) -> None:
    """Start Postgres; where another fault has filled its disk, once there is room again."""
    while True:
        full = (cluster.disk / FILLER).exists()
        try:
            await asyncio.to_thread(embedded.start, cluster.disk)
        except DatabaseAway:
            if not full:
                raise
            await asyncio.sleep(0.5)
        else:
            return


async def stop_postgres(cluster: Cluster, rng: random.Random, *, number: int, low: float, high: float) -> str:
    """Stop Postgres by a signal, and start it again after a while."""
    where, seconds = await aim(cluster, rng), rng.uniform(low, high)
    process = postmaster(cluster)
    process.send_signal(number)
    await asyncio.to_thread(process.wait, 30)
    await asyncio.sleep(seconds)
    await _start_postgres(cluster)
    return f"away for {seconds:.0f} s{where}"


async def freeze_postgres(cluster: Cluster, rng: random.Random) -> str:
    """Stop every process of Postgres for a while."""
    where, seconds = await aim(cluster, rng), rng.uniform(2, 12)
    process = postmaster(cluster)
    await _freeze([process, *process.children(recursive=True)], seconds)
    return f"for {seconds:.0f} s{where}"


async def terminate_backends(cluster: Cluster, rng: random.Random) -> str:
    """End connections of ours from Postgres's side, some or all, some times over."""
    where, share, times = await aim(cluster, rng), rng.choice([0.3, 1.0]), rng.randrange(1, 4)
    ended = 0
    for _ in range(times):
        ended += int(str(await cluster.value(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity "
            "where pid <> pg_backend_pid() and application_name like 'postrider%%' "
            "and application_name <> 'postrider' and random() < %s", share,
        )))  # fmt: skip
        await asyncio.sleep(rng.uniform(0.1, 1.5))
    return f"{ended} of them{where}"


async def fill_disk(cluster: Cluster, rng: random.Random) -> str:
    """Fill the disk that Postgres is on, for a while."""
    where, seconds = await aim(cluster, rng), rng.uniform(2, 8)
    if not has_own_disk(cluster):
        raise Missed
    filler = cluster.disk / FILLER
    try:
        await asyncio.to_thread(_fill, filler)
        await asyncio.sleep(seconds)
    finally:
        filler.unlink(missing_ok=True)
    # It may have ended for want of room to write what it has to.
    with suppress(psutil.Error, FileNotFoundError):
        if postmaster(cluster).is_running():
            await asyncio.sleep(1)
    await _start_postgres(cluster)
    return f"for {seconds:.0f} s{where}"


def has_own_disk(cluster: Cluster) -> bool:
    """Tell whether the cluster is on a file system that may be filled: one of its own."""
    return os.path.ismount(cluster.disk)


def _fill(filler: Path) -> None:
    piece = b"\0" * 2**16
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while shutil.disk_usage(filler.parent).free:
            file.write(piece)


# --- the network -----------------------------------------------------------------------------------------------------


async def lose_packets(cluster: Cluster, rng: random.Random, *, wire: str) -> str:
    """Let nothing pass between two parts for a while, without a word to either."""
    where, seconds = await aim(cluster, rng), rng.uniform(1, 20)
    cluster.wires[wire].lose()
    try:
        await asyncio.sleep(seconds)
    finally:
        cluster.wires[wire].heal()
    return f"for {seconds:.0f} s{where}"


async def cut(cluster: Cluster, rng: random.Random, *, wire: str) -> str:
    """Break the connections between two parts, some times over."""
    where, times = await aim(cluster, rng), rng.randrange(1, 5)
    for _ in range(times):
        cluster.wires[wire].cut()
        await asyncio.sleep(rng.uniform(0, 1.5))
    return f"{times} times{where}"


# --- the page --------------------------------------------------------------------------------------------------------


async def crash_page(cluster: Cluster, rng: random.Random) -> str:
    """Let an account's page crash at a step of the next message."""
    step = rng.choice(STEPS)
    await _order(cluster, rng, "crash", {"at": step})
    return f"at {step}"


async def hang_page(cluster: Cluster, rng: random.Random) -> str:
    """Let an account's page answer nothing for a while."""
    where, seconds = await aim(cluster, rng), rng.uniform(2, 15)
    await _order(cluster, rng, "hang", {"seconds": seconds})
    return f"for {seconds:.0f} s{where}"


async def take_network(cluster: Cluster, rng: random.Random) -> str:
    """Let an account's page be offline for a while."""
    where, seconds, account = await aim(cluster, rng), rng.uniform(1, 10), rng.choice(cluster.accounts)
    await cluster.whatsapp.post(f"/sandbox/accounts/{account}/offline")
    try:
        await asyncio.sleep(seconds)
    finally:
        await cluster.whatsapp.post(f"/sandbox/accounts/{account}/online")
    return f"for {seconds:.0f} s{where}"


async def write_by_hand(cluster: Cluster, rng: random.Random) -> str:
    """Let a person write on the phone, or an away message, into a chat that messages go to."""
    number, times = rng.randrange(len(cluster.accounts)), rng.randrange(1, 6)
    for _ in range(times):
        # The recipients of load.py.
        text = {"phone": f"15557{number:02}{rng.randrange(3):04}", "text": f"by hand {rng.random()}"}
        await cluster.whatsapp.post(f"/sandbox/accounts/{cluster.accounts[number]}/write", text)
        await asyncio.sleep(rng.uniform(0, 1.5))
    return f"{times} times"


async def _order(cluster: Cluster, rng: random.Random, act: str, body: dict[str, object]) -> None:
    account = rng.choice(cluster.accounts)
    try:
        await cluster.whatsapp.post(f"/sandbox/accounts/{account}/{act}", body)
    except OperatorError as error:
        # No page of the account is open.
        raise Missed from error


WORKERS = ("worker1", "worker2")
WIRES = (
    "client-api",
    "api-postgres",
    "worker1-postgres",
    "worker2-postgres",
    "browsers-whatsapp",
    "workers-receiver",
)  # fmt: skip

KINDS: dict[str, Kind] = {
    "kill api": partial(kill_part, names=["api"], number=signal.SIGKILL),
    "kill worker": partial(kill_part, names=WORKERS, number=signal.SIGKILL),
    "kill receiver": partial(kill_part, names=["receiver"], number=signal.SIGKILL),
    "kill browser": kill_browser,
    "kill renderer": kill_renderer,
    "kill driver": partial(kill_helper, word="run-driver"),
    "kill guard": partial(kill_helper, word="guard_process"),
    "lose machine": lose_machine,
    "restart api": partial(kill_part, names=["api"], number=signal.SIGTERM),
    "restart worker": partial(kill_part, names=WORKERS, number=signal.SIGTERM),
    "freeze worker": partial(freeze_part, names=WORKERS, low=LEASE + 2, high=LEASE + 12),
    "freeze worker briefly": partial(freeze_part, names=WORKERS, low=1, high=LEASE),
    "freeze api": partial(freeze_part, names=["api"], low=2, high=12),
    "freeze receiver": partial(freeze_part, names=["receiver"], low=2, high=12),
    "freeze browser": freeze_browser,
    "freeze postgres": freeze_postgres,
    "stop postgres": partial(stop_postgres, number=signal.SIGINT, low=2, high=12),
    "restart postgres": partial(stop_postgres, number=signal.SIGINT, low=0, high=0.5),
    "crash postgres": partial(stop_postgres, number=signal.SIGQUIT, low=0, high=3),
    "end backends": terminate_backends,
    "fill disk": fill_disk,
    **{f"lose {wire}": partial(lose_packets, wire=wire) for wire in WIRES},
    **{f"cut {wire}": partial(cut, wire=wire) for wire in WIRES},
    "crash page": crash_page,
    "hang page": hang_page,
    "page offline": take_network,
    "write by hand": write_by_hand,
}
