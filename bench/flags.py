"""Memory of live sandbox sessions (MB of PSS) with builds of Chromium, with Playwright's flags and with ours."""

import asyncio
import statistics
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.house import MB
from browser.engine import profile
from browser.engine.chromium import candidates
from browser.engine.engine import Engine, look_for
from browser.engine.flags import FLAGS, OFF, ON, PLAYWRIGHT_OFF, PLAYWRIGHT_ON
from browser.engine.memory import measure
from browser.engine.process import browsers
from browser.page import selectors
from browser.page.screens import Screen
from browser.page.whatsapp import WhatsApp
from browser.sandbox.app import sandbox_alone
from commands.client import Client
from server import config, listen, running

SETTLE_SECONDS = 20.0  # until the pages are idle
PATIENCE = 60.0  # seconds for each step of linking and sending


@dataclass
class Stand:
    """The test bed: a sandbox, and a directory of profiles."""

    url: str
    client: Client
    root: Path
    opened: int = 0

    async def open(self, engine: Engine) -> Path:
        """Open and link a session, and send one message; return its profile."""
        self.opened += 1
        account = f"bench_{self.opened:04}"
        directory = profile.directory_of(self.root, account)
        profile.prepare(directory)
        page = await WhatsApp.open(
            engine,
            directory,
            look_for(account),
            f"{self.url}/sandbox/web/{account}/",
            selectors=selectors.load(),
            typing_delay_ms=(5, 25),
        )
        await page.wait_screen(Screen.QR, timeout=PATIENCE)
        async with asyncio.timeout(PATIENCE):
            while not await page.qr():  # noqa: ASYNC110 - the page has no event for it
                await asyncio.sleep(0.1)
        await self.client.scan(account)
        await page.wait_screen(Screen.MAIN, timeout=PATIENCE)
        await page.settle_in()
        await _send(page)
        return directory


@dataclass
class Trial:
    """One browser with one set of flags, and its results: number of live sessions → MB of each run."""

    executable: Path
    flags: Sequence[str]
    label: str
    weights: dict[int, list[float]] = field(default_factory=dict)

    async def run(self, stand: Stand, live: Sequence[int]) -> None:
        """Measure each number of live sessions, smallest first, all in one engine."""
        async with Engine(executable=self.executable, flags=self.flags) as engine:
            held: list[Path] = []
            for count in sorted(live):
                held += await asyncio.gather(*(stand.open(engine) for _ in range(len(held), count)))
                await asyncio.sleep(SETTLE_SECONDS)
                sizes = await measure(held)
                if len(sizes) != count:
                    raise RuntimeError(f"Only {len(sizes)} of {count} browsers could be measured.")
                self.weights.setdefault(count, []).append(sum(sizes.values()) / MB)

    def median(self, count: int) -> float:
        """Return the median MB of all sessions together."""
        return statistics.median(self.weights[count])


async def run(live: Sequence[int], builds: Sequence[Path], left_out: int, runs: int) -> int:
    """Measure each build with Playwright's flags and with ours, then the first build without each of our flags.

    The second part uses `left_out` live sessions, and is skipped if that is 0.
    """
    _warn_of_others()
    executables = list(builds) or candidates(None)[:1]
    async with _stand() as stand:
        await _compare_builds(stand, executables, live, runs)
        if left_out:
            await _leave_out(stand, executables[0], left_out, runs)
    return 0


async def _compare_builds(stand: Stand, executables: Sequence[Path], live: Sequence[int], runs: int) -> None:
    print("| build | live sessions | Playwright's flags, MB a session | ours | ours / Playwright's |")
    print("|---|---|---|---|---|", flush=True)
    for executable in executables:
        theirs, ours = Trial(executable, (), "Playwright's"), Trial(executable, FLAGS, "ours")
        await _repeat(stand, (theirs, ours), live, runs)
        for count in sorted(live):
            ratio = ours.median(count) / theirs.median(count)
            figures = f"{_each(theirs, count)} | {_each(ours, count)} | {ratio:.2f}"
            print(f"| {executable.name} | {count} | {figures} |", flush=True)


async def _leave_out(stand: Stand, executable: Path, count: int, runs: int) -> None:
    print(f"\n| {executable.name}, {count} live, without | MB a session | / with all |\n|---|---|---|", flush=True)
    whole, *partial = trials = list(_partial(executable))
    await _repeat(stand, trials, [count], runs)
    for trial in (whole, *partial):
        print(f"| {trial.label} | {_each(trial, count)} | {trial.median(count) / whole.median(count):.2f} |")


async def _repeat(stand: Stand, trials: Sequence[Trial], live: Sequence[int], runs: int) -> None:
    # Alternately, so that changes on the machine affect all trials alike.
    for _ in range(runs):
        for trial in trials:
            await trial.run(stand, live)


def _partial(executable: Path) -> Iterator[Trial]:
    yield Trial(executable, FLAGS, "nothing")
    for flag in FLAGS:
        name = flag.partition("=")[0]
        if name not in {"--disable-features", "--enable-features"}:
            yield Trial(executable, [each for each in FLAGS if each != flag], f"`{name}`")
    for feature in [*OFF, *ON]:
        if feature not in {*PLAYWRIGHT_OFF, *PLAYWRIGHT_ON}:
            yield Trial(executable, [_without(flag, feature) for flag in FLAGS], f"`{feature}`")


def _without(flag: str, feature: str) -> str:
    name, _, value = flag.partition("=")
    return f"{name}={','.join(each for each in value.split(',') if each != feature)}" if feature in value else flag


def _each(trial: Trial, count: int) -> str:
    """Format the median, with the single runs if they differ."""
    each = [f"{weight / count:.0f}" for weight in trial.weights[count]]
    spread = f" ({', '.join(each)})" if len(set(each)) > 1 else ""
    return f"{trial.median(count) / count:.0f}{spread}"


def _warn_of_others() -> None:
    if others := len({path for path, _ in browsers()}):
        print(
            f"{others} other browsers are running on this machine. Those of the same file share its code, which makes "
            "the figures too small: end them, or pass a copy of the browser's directory with --chromium.\n"
        )


@asynccontextmanager
async def _stand() -> AsyncIterator[Stand]:
    """Serve a sandbox, and yield the test bed."""
    async with AsyncExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="postrider-bench-", ignore_cleanup_errors=True))
        )
        app = sandbox_alone(folder)
        listener = listen()
        port = listener.getsockname()[1]
        await stack.enter_async_context(running(config(app, "127.0.0.1", port), app.state.sandbox.stop, listener))
        client = await stack.enter_async_context(Client(f"http://127.0.0.1:{port}", ""))
        yield Stand(client.url, client, folder / "profiles")


async def _send(page: WhatsApp) -> None:
    text = "hello"
    await page.open_chat("15551234567")
    await page.write(text)
    anchor = await page.arm(PATIENCE)
    await page.press_enter()
    await page.confirm(text, anchor, PATIENCE)
