"""Make sure that a Chromium starts here: Playwright's download, else one of the system, else Debian's package.

`python -m commands.chromium FILE` writes the path of the Chromium that is used into FILE.
"""

import asyncio
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from browser.engine.chromium import Chromium, check_driver, downloaded, find_chromium
from commands.progress import Follower
from errors import ChromiumMissing, PostriderError
from settings import Settings, read

SHELL = "chromium-headless-shell"  # needs half the memory of a whole Chromium; Debian has it since 12
PACKAGES = (SHELL, "chromium")
APT = ("apt-get", "-o", "DPkg::Lock::Timeout=300", "-y", "-q")
#: First finishes an installation that was killed.
PREPARE = (("dpkg", "--configure", "-a"), (*APT, "update"))
#: Without recommended packages, which are half a desktop.
INSTALL = (*APT, "install", "--no-install-recommends")
CONNECT_MS = "10000"  # timeout of each of Playwright's five attempts to connect; its default is 30 s


def main() -> int:
    """Print which Chromium is used. Return 1 if none starts and none can be installed."""
    try:
        found = obtain(read(), Follower())
    except PostriderError as error:
        print(f"postrider: {error.detail}", file=sys.stderr)  # noqa: T201
        return 1
    print(f"Chromium {found.version}: {found.path}")  # noqa: T201
    for note in sys.argv[1:]:
        Path(note).write_text(str(found.path))
    return 0


def obtain(settings: Settings, follower: Follower) -> Chromium:
    """Return a Chromium that starts; download or install one if needed. Raise ChromiumMissing."""
    can_install = os.geteuid() == 0 and shutil.which("apt-get") is not None
    try:
        asyncio.run(check_driver())
    except ChromiumMissing as error:
        if not can_install or "libatomic" not in error.detail:
            raise
        _apt(follower, "Installing libatomic1 for Playwright's driver", *PREPARE, [*INSTALL, "libatomic1"])
        asyncio.run(check_driver())
    if settings.chromium_path:
        return _find(settings)
    _download(follower)
    try:
        return _find(settings)
    except ChromiumMissing:
        if not can_install:
            raise
    follower.tell("No installed Chromium starts; running as root, so the missing packages of the system are installed.")
    _apt(follower, "Reading the list of packages", *PREPARE)
    if any(downloaded()):
        _playwright(follower, "Installing the packages that Playwright's Chromium needs", "install-deps")
    for package in PACKAGES:
        try:
            return _find(settings)
        except ChromiumMissing:
            _apt(follower, f"Installing the package {package}", [*INSTALL, package, "fonts-liberation"])
    return _find(settings)


def _find(settings: Settings) -> Chromium:
    return asyncio.run(
        find_chromium(settings.chromium_path, sandbox=settings.chromium_sandbox, profiles=settings.profiles.resolve())
    )


def _download(follower: Follower) -> None:
    """Let Playwright download its own Chromium; it does nothing if that is there already."""
    if _playwright(follower, "Playwright's Chromium, about 110 MB", "install") != 0:
        follower.tell("Playwright's own Chromium cannot be downloaded; looking for another one on this system.")


def _playwright(follower: Follower, what: str, verb: str) -> int:
    def read(line: str) -> str:
        return line.strip("| ■") if "%" in line else line[:50] if line.startswith(("Downloading", "Get:")) else ""

    environment = {"PLAYWRIGHT_DOWNLOAD_CONNECTION_TIMEOUT": CONNECT_MS, **os.environ}
    code, _ = follower.run(what, [sys.executable, "-m", "playwright", verb, SHELL], read=read, environment=environment)
    return code


def _apt(follower: Follower, what: str, *commands: Sequence[str]) -> None:
    for command in commands:
        follower.run(what, command, environment={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})


if __name__ == "__main__":
    sys.exit(main())
