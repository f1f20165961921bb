"""`postrider up` as it is ended in every way: nothing of ours stays behind, and the next one starts."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from fixtures_postgres import open_folder
from fixtures_terminal import CTRL_C, Terminal

from bench.ports import held_ports
from browser.engine.process import is_running
from commands.client import Client
from sql import embedded

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.timeout(300)

KEY = "key_" + "k" * 40
SETTINGS = {
    "API_KEY": KEY,
    "TYPING_DELAY_MS": "50-50",
    "PACE_GAP_SECONDS": "0-0",
    "MAX_SESSIONS": "4",
    "CONFIRM_SECONDS": "600",
}
LONG = "Your order is on its way. This takes some seconds to be typed."
UP = (sys.executable, "-m", "cli", "up")
#: seconds until everything has gone, also on a busy machine; on an idle one it takes 2, and 27 where no tick comes
PATIENCE = 60.0


@dataclass
class Ground:
    """A data directory, and the `up` that runs on it now."""

    folder: Path
    environment: dict[str, str]
    up: Terminal | None = None
    processes: list[psutil.Process] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.environment['PORT']}"

    async def start(self, *command: str) -> Terminal:
        """Start the next one; nobody waits for the last one to have ended."""
        self.up = await Terminal.start(*(command or UP), cwd=str(ROOT), env=self.environment)
        return self.up

    async def started(self, *command: str) -> Terminal:
        """Return the one that runs, or start one, and note its processes."""
        up = self.up if self.up and self.up.process.returncode is None else await self.start(*command)
        await up.shows("Ctrl-C stops it")
        async with asyncio.timeout(60):
            while len(self.family(up)) < 4:  # API, worker, guard, driver: its browser is on its way
                await asyncio.sleep(0.1)
        return up

    def family(self, up: Terminal) -> list[psutil.Process]:
        """List all that runs for an `up`, its embedded Postgres too."""
        first = psutil.Process(up.process.pid)
        postmaster = (self.folder / embedded.FOLDER / "postmaster.pid").read_text().splitlines()[0]
        self.processes = [first, *first.children(recursive=True), psutil.Process(int(postmaster))]
        return self.processes

    async def has_gone(self, up: Terminal) -> None:
        """Wait until nothing of an `up` is left."""
        end = time.monotonic() + PATIENCE
        while (left := [process for process in self.processes if is_running(process)]) and time.monotonic() < end:
            await asyncio.sleep(0.05)
        for process in left:  # or the next tests fail too
            with suppress(psutil.NoSuchProcess):
                process.kill()
        await up.process.wait()
        if up is self.up:
            self.up = None
        assert not left, f"left: {left}\n{up.printed}"

    async def in_hand(self, up: Terminal, client: Client, phone: str, status: str, account: str | None = None) -> str:
        """Send a message of an account, or the first, and return its jobId when a worker has it in hand."""
        account = account or (await client.get("/accounts"))["items"][0]["id"]
        job = (await client.post("/send", {"phone": phone, "message": LONG, "account": account}))["jobId"]
        await client.wait(f"/jobs/{job}", "status", {status}, 90)
        self.family(up)
        return str(job)


@pytest.fixture(scope="module")
async def ground() -> AsyncIterator[Ground]:
    with open_folder() as folder:
        api, health = held_ports(2)
        clean = {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "ENV", "MAKELEVEL"}}
        places = {"DATA_DIR": str(folder), "PORT": str(api), "WORKER_PORT": str(health)}
        it = Ground(folder, {**clean, **SETTINGS, **places})
        yield it
        if it.up and it.up.process.returncode is None:
            it.family(it.up)
            it.up.type(CTRL_C)
            await it.has_gone(it.up)


@pytest.fixture
async def client(ground: Ground) -> AsyncIterator[Client]:
    async with Client(ground.url, KEY) as client:
        yield client


@pytest.mark.long
async def test_it_goes_on_when_a_child_is_killed_and_its_children_end_when_it_is_killed(
    ground: Ground, client: Client
) -> None:
    up = await ground.started()
    for process in ground.family(up):
        with suppress(psutil.NoSuchProcess):
            if "api" in process.cmdline():
                process.kill()
    await up.shows("The api ended with code -9; starting it again.")
    await client.wait_up(60)
    ground.family(up)
    up.process.kill()
    await ground.has_gone(up)
    await (await ground.start()).shows("Ctrl-C stops it")


@pytest.mark.long
async def test_a_message_in_hand_is_finished_when_it_is_killed_and_the_next_one_waits(
    ground: Ground, client: Client
) -> None:
    up = await ground.started()
    job = await ground.in_hand(up, client, "15558880001", "sending")
    up.process.kill()
    heir = await ground.start()
    await heir.shows("Waiting for the last Postrider here to end")
    await ground.has_gone(up)
    await heir.shows("Ctrl-C stops it")
    await sent_once(client, job, "15558880001")


@pytest.mark.long
async def test_a_message_that_gets_no_tick_holds_nothing_up_when_the_terminal_is_closed(
    ground: Ground, client: Client
) -> None:
    up = await ground.started()
    # The first account is free again for the other tests.
    account = (await client.post("/accounts", {"name": "Second", "transport": "sandbox"}))["id"]
    await client.post(f"/accounts/{account}/connect")
    await client.qr(account)
    await client.scan(account)
    await client.wait(f"/accounts/{account}", "state", {"ready"}, 60)
    await ground.in_hand(up, client, "15550000409", "submitting", account)
    up.close()
    heir = await ground.start()
    await ground.has_gone(up)
    assert up.process.returncode == 0
    await heir.shows("Ctrl-C stops it")


async def sent_once(client: Client, job: str, phone: str) -> None:
    seen = await client.get(f"/jobs/{job}")
    assert (seen["status"] in {"sent", "delivered", "read"}, seen["attempts"]) == (True, 1), seen
    assert [item["text"] for item in (await client.get(f"/sandbox/messages?phone={phone}"))["items"]] == [LONG]


@pytest.mark.long
async def test_a_second_one_is_refused_while_the_first_one_runs(ground: Ground) -> None:
    up = await ground.started()
    other = await Terminal.start(*UP, cwd=str(ROOT), env=ground.environment)
    await other.shows(f"as process {up.process.pid}: end that one")
    assert await other.process.wait() == 1
    other.close()


@pytest.mark.long
@pytest.mark.parametrize("end", ["make is killed", "the terminal is closed"])
async def test_make_keeps_nothing_alive(ground: Ground, tmp_path: Path, end: str) -> None:
    makefile = tmp_path / "Makefile"
    makefile.write_text(f"up:\n\t@{' '.join(UP)}\n")
    if old := ground.up:
        ground.family(old)
        old.type(CTRL_C)
        await ground.has_gone(old)
        assert old.process.returncode == 0
    up = await ground.started("make", "-f", str(makefile), "up")
    ground.family(up)
    if end == "make is killed":
        up.process.kill()
    else:
        up.close()
    await ground.has_gone(up)


async def test_ctrl_c_twice_ends_everything_at_once(ground: Ground, client: Client) -> None:
    up = await ground.started()
    await ground.in_hand(up, client, "15558880003", "sending")
    up.type(CTRL_C)
    await up.shows("Stopping: finishing the message in hand")
    up.type(CTRL_C)
    heir = await ground.start()
    await ground.has_gone(up)
    assert up.process.returncode == 1
    await heir.shows("Ctrl-C stops it")
