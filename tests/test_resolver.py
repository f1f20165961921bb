"""Names: looked up in bounded time and threads, and whose fault it is when there is no answer."""

import asyncio
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from fixtures_sockets import GOOD, connecting, post, resolver

import resolver as resolving
from addresses import LOOPBACK, Address
from errors import LookupFailed, NameUnknown, NetworkAway
from resolver import Resolver

ROOT = Path(__file__).parent.parent


# --- whose fault -------------------------------------------------------------------------------------------------


def dns(*known: str) -> Callable[[str], list[Address]]:
    """DNS that has these names, has nothing for those in .none, and no answer for any other."""

    def ask(host: str) -> list[Address]:
        if host.endswith(".none"):
            raise NameUnknown
        if host not in known:
            raise LookupFailed
        return [GOOD]

    return ask


@pytest.mark.parametrize(
    ("host", "known", "fault"),
    [
        ("gone.none", [], NameUnknown),
        ("broken.test", ["witness.test"], LookupFailed),
        ("broken.test", [], NetworkAway),
    ],
)
async def test_dns_that_answers_for_nothing_is_our_fault_and_for_one_name_the_receivers(
    host: str, known: list[str], fault: type[Exception]
) -> None:
    async with connecting(LOOPBACK, Resolver(dns(*known)), "witness.test") as connections:
        with pytest.raises(fault):
            await post(connections, f"http://{host}/")


async def test_that_the_witness_is_unknown_is_an_answer_too() -> None:
    async with connecting(LOOPBACK, Resolver(dns()), "witness.none") as connections:
        with pytest.raises(LookupFailed):
            await post(connections, "http://broken.test/")


#: Say what comes of requests: where there is no network but loopback, and where no descriptor is left for a connection.
SAY = """
import asyncio, os, resource, sys
sys.path.insert(0, "tests")
from addresses import LOOPBACK
from fixtures_sockets import connecting, post

async def say(connections, *urls):
    for url in urls:
        try:
            await post(connections, url)
        except Exception as error:
            print(type(error).__name__)

async def apart(*urls):
    async with connecting(LOOPBACK) as connections:
        await say(connections, *urls)

def take_all():
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, 4096))
    try:
        while True:
            yield os.open("/dev/null", os.O_RDONLY)
    except OSError:
        pass

async def full(*urls):
    async with connecting(LOOPBACK) as connections:
        await say(connections, *urls)
        taken = list(take_all())
        await say(connections, *urls)
        for one in taken:
            os.close(one)

"""


def say(how: str, *urls: str, within: Sequence[str] = ()) -> list[str]:
    command = [*within, sys.executable, "-c", f"{SAY}asyncio.run({how}(*{urls}))"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()


#: Runs a command in a network of its own that leads nowhere, or to one address that is not asked for.
ALONE = ("unshare", "-rn", "/bin/sh", "-c", 'ip link set lo up; exec "$0" "$@"')
WITH_A_WAY = (*ALONE[:-1], 'ip link set lo up; ip route add 198.41.0.4 dev lo; exec "$0" "$@"')
TRIED = shutil.which("unshare") and subprocess.run([*ALONE, "ip", "link"], check=False, capture_output=True)
alone = pytest.mark.skipif(
    not TRIED or TRIED.returncode != 0, reason="this machine lets nobody have a network of their own"
)


@alone
def test_a_machine_without_network_says_so_and_a_receiver_that_is_down_is_another_matter() -> None:
    far = ["http://198.41.0.4/", "http://[2001:503:ba3e::2:30]/", "http://postrider.example/"]
    assert say("apart", *far, "http://127.0.0.1:9/", within=ALONE) == ["NetworkAway"] * 3 + ["AddressRefused"]


@alone
def test_that_one_receiver_cannot_be_reached_is_not_our_fault() -> None:
    assert say("apart", "http://1.1.1.1/", "http://[2600::1]/", within=WITH_A_WAY) == ["ConnectError"] * 2


def test_a_process_without_room_for_a_connection_says_so() -> None:
    said = say("full", "http://127.0.0.1:9/", "http://localhost:9/")
    assert said == ["AddressRefused"] * 2 + ["NetworkAway"] * 2, "nobody listens; and then that cannot be told"


# --- the resolver ------------------------------------------------------------------------------------------------


class Silent:
    """DNS that is silent until it is let go, for names in .hangs or for every name."""

    def __init__(self, *, every: bool = False) -> None:
        self.every, self.go, self.asked = every, threading.Event(), list[str]()

    def ask(self, host: str) -> list[Address]:
        self.asked.append(host)
        if self.every or host.endswith(".hangs"):
            self.go.wait(60)
        if host.endswith(".hangs"):
            raise LookupFailed
        return [GOOD]


async def all_silent(made: Resolver, count: int) -> None:
    """Look up so many names at once that have no answer."""
    failing = (made.lookup(f"n{number}.hangs", 0.3) for number in range(count))
    assert {type(error) for error in await asyncio.gather(*failing, return_exceptions=True)} == {LookupFailed}


async def test_silent_names_keep_a_bounded_number_of_threads_and_none_of_anybody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resolving, "OTHER_THREADS", 4)
    dns, before = Silent(), threading.active_count()
    made = Resolver(dns.ask)
    assert await made.lookup("good.test", 10) == [GOOD]
    try:
        await all_silent(made, 10)
        assert len(dns.asked) == 1 + 4
        assert threading.active_count() - before == 4
        assert await asyncio.wait_for(asyncio.to_thread(lambda: 5), 30) == 5, "asyncio's own threads are free"
        assert await made.lookup("good.test", 10) == [GOOD], "it had an answer soon before"
        assert await made.lookup("witness.test", 10, urgent=True) == [GOOD]
        with pytest.raises(LookupFailed):
            await made.lookup("new.test", 0.1)
        assert "new.test" not in dns.asked, "nobody waits for it any more"
        dns.go.set()
        assert await made.lookup("new.test", 10) == [GOOD]
        assert "n9.hangs" not in dns.asked
    finally:
        dns.go.set()


async def test_a_name_is_asked_for_once_whoever_asks_and_one_who_gives_up_stops_nobody() -> None:
    dns = Silent(every=True)
    made = Resolver(dns.ask)
    first = asyncio.create_task(made.lookup("good.test", 10))
    with pytest.raises(LookupFailed):
        await made.lookup("good.test", 0.05)
    second = asyncio.create_task(made.lookup("good.test", 10))
    await asyncio.sleep(0)
    first.cancel()
    dns.go.set()
    assert await second == [GOOD]
    assert dns.asked == ["good.test"]
    await made.lookup("good.test", 10)
    assert len(dns.asked) == 2, "nothing is remembered"


async def test_the_systems_own_resolver_answers_and_says_when_there_is_nothing() -> None:
    found = await Resolver().lookup("localhost", 10)
    assert {str(address) for address in found} <= {"127.0.0.1", "::1"}
    for host in ("a..b", f"{'x' * 64}.test", "x." * 130 + "test", "two words"):
        with pytest.raises(NameUnknown):
            await Resolver().lookup(host, 10)


async def test_a_literal_is_asked_of_nobody() -> None:
    made = resolver({})
    for host in ("127.1", "[::1]", "2130706433", "8.8.8.8."):
        assert await made.lookup(host, 1)


def test_a_silent_name_holds_up_no_process_that_is_to_end() -> None:
    code = """
import asyncio, threading
from errors import LookupFailed
from resolver import Resolver

async def main():
    try:
        await Resolver(lambda _: threading.Event().wait()).lookup("silent.test", 0.1)
    except LookupFailed as error:
        print(error)

asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("silent.test: no answer within 0.1 s\n", "")
