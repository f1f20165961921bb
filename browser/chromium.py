"""Which Chromium is driven, and whether its own sandbox starts here."""

import asyncio
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import playwright

from errors import ChromiumMissing

#: the headless shell first: it needs half the memory of a whole Chromium (113 to 257 MB a session with three open)
SYSTEM = ("chromium-headless-shell", "chrome-headless-shell", "chromium", "chromium-browser", "google-chrome-stable")
MACOS = (
    Path("/Applications/Chromium.app/Contents/MacOS/Chromium"),
    Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"),
)
DOWNLOADED = (
    "chromium_headless_shell-[0-9]*/*/chrome-headless-shell",
    "chromium_headless_shell-[0-9]*/*/headless_shell",
    "chromium-[0-9]*/*/chrome",
    "chromium-[0-9]*/*/*.app/Contents/MacOS/*",
)
#: WhatsApp refuses what is older, with "works with Google Chrome 100+"
OLDEST = 100
START_SECONDS = 20.0

_sandboxes: dict[Path, bool] = {}


def find_chromium(override: Path | None) -> Path:
    """Return `override`, else Playwright's own download, else one of the system's. Raise ChromiumMissing."""
    if override is not None:
        if not os.access(override, os.X_OK):
            raise ChromiumMissing(f"CHROMIUM_PATH={override} is not a program that can be started.")
        return override
    for candidate in _candidates():
        if os.access(candidate, os.X_OK):
            return candidate
    raise ChromiumMissing(
        "No Chromium was found. Run `playwright install chromium-headless-shell`, or install the package "
        "chromium-headless-shell, chromium or google-chrome, or set CHROMIUM_PATH."
    )


def _candidates() -> Iterator[Path]:
    downloads = _downloads()
    for pattern in DOWNLOADED:
        found = {path: int(path.relative_to(downloads).parts[0].rpartition("-")[2]) for path in downloads.glob(pattern)}
        yield from sorted(found, key=found.__getitem__, reverse=True)
    for name in SYSTEM:
        if path := shutil.which(name):
            yield Path(path)
    yield from MACOS


def _downloads() -> Path:
    """Where Playwright keeps the browsers it downloads (registryDirectory in its driver)."""
    chosen = os.environ.get("PLAYWRIGHT_BROWSERS_PATH")
    if chosen == "0":
        return Path(playwright.__file__).parent / "driver" / "package" / ".local-browsers"
    if chosen:
        return Path(chosen)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "ms-playwright"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ms-playwright"


async def read_version(executable: Path) -> str:
    """Ask the program for its version, as in "156.0.8078.79". Raise ChromiumMissing."""
    code, output = await _run(executable, "--version")
    found = re.search(r"\d+(\.\d+){3}", output)
    if code != 0 or found is None:
        raise ChromiumMissing(f"{executable} does not say its version; is it a Chromium?")
    if int(found[0].split(".")[0]) < OLDEST:
        raise ChromiumMissing(f"{executable} is version {found[0]}; WhatsApp needs {OLDEST} or newer.")
    return found[0]


async def can_sandbox(executable: Path) -> bool:
    """Start the program once with its sandbox and tell whether it came up; remembered for the life of the process.

    As root, and in most containers without user namespaces, it does not.
    """
    if executable not in _sandboxes:
        with tempfile.TemporaryDirectory(prefix="postrider-", ignore_cleanup_errors=True) as directory:
            code, output = await _run(
                executable, "--headless", "--disable-gpu", f"--user-data-dir={directory}", "--dump-dom", "about:blank"
            )
        _sandboxes[executable] = code == 0 and "<html>" in output
    return _sandboxes[executable]


async def _run(executable: Path, *arguments: str) -> tuple[int | None, str]:
    try:
        process = await asyncio.create_subprocess_exec(
            executable, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
    except OSError as error:
        raise ChromiumMissing(f"{executable} cannot be started: {error.strerror}.") from error
    try:
        async with asyncio.timeout(START_SECONDS):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return None, ""
    return process.returncode, output.decode(errors="replace")
