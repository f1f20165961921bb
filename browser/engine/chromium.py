"""Finding a Chromium: the first that starts here, with its own sandbox where that starts too."""

import asyncio
import os
import platform
import re
import shutil
import signal
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import playwright

from errors import ChromiumMissing

#: the headless shell first: it needs half the memory of a full Chromium (113 against 257 MB a session with three open)
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
#: WhatsApp refuses older versions, with "works with Google Chrome 100+"
MIN_VERSION = 100
#: seconds that the first and the second attempt of a start may take: the first may be too slow on a busy machine
TRY_SECONDS = 20.0, 60.0
#: prefix of the profiles of trial starts, which lie among the profiles of sessions
TRIAL = ".trial-"

_found: dict[tuple[Path, str], "Chromium"] = {}


@dataclass(frozen=True)
class Chromium:
    """A Chromium that has been seen to start here."""

    path: Path
    #: as in "156.0.8078.79"
    version: str
    #: whether its own sandbox is on
    sandboxed: bool


async def find_chromium(
    override: Path | None, *, sandbox: Literal["auto", "on", "off"] = "auto", profiles: Path | None = None
) -> Chromium:
    """Return the first of `candidates` that starts. Raise ChromiumMissing, which says why each one does not.

    The trial's profile lies in `profiles`, as those of sessions will: a Chromium from a snap may have access to no
    other folder. The result is cached for the life of the process.
    """
    refused: list[str] = []
    for path in candidates(override):
        try:
            if (path, sandbox) not in _found:
                _found[path, sandbox] = await _try(path, sandbox, profiles)
            return _found[path, sandbox]
        except ChromiumMissing as error:
            refused.append(error.detail)
    raise ChromiumMissing(f"{' '.join(refused)} {remedy()}")


def candidates(override: Path | None) -> list[Path]:
    """List the programs to try: `override`, else Playwright's downloads and then the system's.

    Raise ChromiumMissing when there is none.
    """
    if override is not None:
        if not os.access(override, os.X_OK):
            raise ChromiumMissing(f"CHROMIUM_PATH={override} is not a program that can be started.")
        return [override]
    found = [path for path in _candidates() if os.access(path, os.X_OK)]
    if not found:
        raise ChromiumMissing(f"No Chromium was found. {remedy()}")
    return found


def remedy(*libraries: str) -> str:
    """Suggest a command that is likely to help on this machine; `libraries` are system packages that are missing."""
    playwright_cli = Path(sys.prefix) / "bin" / "playwright"
    if shutil.which("apt-get") and not _is_ubuntu() and not any(downloaded()):
        return f"Run: sudo apt-get install {' '.join([*libraries, SYSTEM[0]])}"
    if libraries:
        return f"Run: sudo apt-get install {' '.join(libraries)}" if shutil.which("apt-get") else "Install that."
    if any(downloaded()):
        return f"Run: sudo {playwright_cli} install-deps {SYSTEM[0]}"
    return (
        f"Run: {playwright_cli} install --with-deps {SYSTEM[0]}; or install Chromium or Google Chrome, "
        "or set CHROMIUM_PATH."
    )


async def check_driver() -> None:
    """Raise ChromiumMissing where Playwright's driver, a Node.js that needs libatomic1, does not start."""
    output, reason = await _run(Path(sys.executable), "-m", "playwright", "--version")
    if not output:
        fault = f"Playwright's driver does not start: {reason}."
        raise ChromiumMissing(f"{fault} {remedy('libatomic1') if 'libatomic' in reason else ''}".strip())


def _is_ubuntu() -> bool:
    """Tell whether this is Ubuntu, whose package of Chromium is a snap."""
    try:
        return platform.freedesktop_os_release()["ID"] == "ubuntu"
    except OSError:
        return False


def _candidates() -> Iterator[Path]:
    yield from downloaded()
    for name in SYSTEM:
        if path := shutil.which(name):
            yield Path(path)
    yield from MACOS


def downloaded() -> Iterator[Path]:
    """Yield Playwright's downloads: the best kind first, and of each kind the newest first."""
    registry = _registry()
    for pattern in DOWNLOADED:
        found = {path: int(path.relative_to(registry).parts[0].rpartition("-")[2]) for path in registry.glob(pattern)}
        yield from sorted(found, key=found.__getitem__, reverse=True)


def _registry() -> Path:
    """Return the directory of Playwright's downloads (registryDirectory in its driver)."""
    chosen = os.environ.get("PLAYWRIGHT_BROWSERS_PATH")
    if chosen == "0":
        return Path(playwright.__file__).parent / "driver" / "package" / ".local-browsers"
    if chosen:
        return Path(chosen)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "ms-playwright"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ms-playwright"


async def _try(path: Path, sandbox: str, profiles: Path | None) -> Chromium:
    """Ask for the version and open a blank page, with its own sandbox where that starts. Raise ChromiumMissing."""
    version = await _read_version(path)
    reason = ""
    # As root, and in most containers without user namespaces, its sandbox does not start.
    for sandboxed in {"auto": (True, False), "on": (True,), "off": (False,)}[sandbox]:
        output, reason = await _open_blank(path, profiles, sandboxed=sandboxed)
        if "<html>" in output:
            return Chromium(path, version, sandboxed)
    raise ChromiumMissing(f"{path} does not open a page: {reason}.")


async def _read_version(path: Path) -> str:
    output, reason = await _run(path, "--version")
    found = re.search(r"\d+(\.\d+){3}", output)
    if found is None:
        raise ChromiumMissing(f"{path} does not say its version: {reason}.")
    if int(found[0].split(".")[0]) < MIN_VERSION:
        raise ChromiumMissing(f"{path} is version {found[0]}, and WhatsApp needs {MIN_VERSION} or newer.")
    return found[0]


async def _open_blank(path: Path, profiles: Path | None, *, sandboxed: bool) -> tuple[str, str]:
    with trial_profile(profiles) as directory:
        flags = ["--headless", "--disable-gpu", f"--user-data-dir={directory}", "--dump-dom"]
        return await _run(path, *flags, *([] if sandboxed else ["--no-sandbox"]), "about:blank")


@contextmanager
def trial_profile(profiles: Path | None) -> Iterator[Path]:
    """Yield a profile directory for a trial start, among the profiles of sessions; it is deleted after the block."""
    if profiles:
        profiles.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=TRIAL, dir=profiles, ignore_cleanup_errors=True) as directory:
        yield Path(directory).resolve()


async def _run(path: Path, *arguments: str) -> tuple[str, str]:
    """Run the program; return its output (empty when it failed) and the reason of a failure."""
    for seconds in TRY_SECONDS:
        try:
            process = await asyncio.create_subprocess_exec(
                path, *arguments, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, start_new_session=True
            )
        except OSError as error:
            return "", str(error.strerror)
        try:
            async with asyncio.timeout(seconds):
                output, errors = await process.communicate()
        except TimeoutError:
            # The whole process group: child processes would hold the pipes open.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            continue
        if process.returncode == 0:
            return output.decode(errors="replace"), "it printed something else"
        return "", _reason(errors.decode(errors="replace")) or f"it ended with code {process.returncode}"
    return "", f"it did not answer within {TRY_SECONDS[-1]:.0f} s"


def _reason(errors: str) -> str:
    """Return the first line that mentions an error, or else the last one."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    telling = [line for line in lines if "error" in line.lower()]
    return (telling or lines[-1:] or [""])[0][:200].rstrip(".")
