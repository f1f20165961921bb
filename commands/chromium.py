"""See to it that there is a Chromium: Playwright's own download, else one of the system's, else Debian's package."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from browser.chromium import find_chromium
from errors import ChromiumMissing
from settings import read

DOWNLOAD_LIMIT = 300.0  # seconds
PACKAGES = ("chromium-headless-shell", "chromium")  # the headless shell needs half the memory; Debian has it since 12


def main() -> int:
    """Print which Chromium is used; 1 when there is none and none can be had."""
    override = read().chromium_path
    if override is None and not _downloaded():
        _download()
    if override is None and not _found(None) and os.geteuid() == 0 and shutil.which("apt-get"):
        _install()
    try:
        print(f"Chromium: {find_chromium(override)}")  # noqa: T201
    except ChromiumMissing as error:
        print(f"postrider: {error.detail}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _found(override: Path | None) -> bool:
    try:
        find_chromium(override)
    except ChromiumMissing:
        return False
    return True


def _downloaded() -> bool:
    return _found(None) and "playwright" in str(find_chromium(None))


def _download() -> None:
    command = [sys.executable, "-m", "playwright", "install", "chromium-headless-shell"]
    try:
        done = subprocess.run(command, check=False, capture_output=True, timeout=DOWNLOAD_LIMIT)  # noqa: S603  # ours
    except subprocess.TimeoutExpired:
        return
    if done.returncode != 0:
        print("Playwright's own Chromium cannot be downloaded here; looking for another.")  # noqa: T201


def _install() -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    print("Installing Debian's Chromium …", flush=True)  # noqa: T201
    for package in (None, *PACKAGES):
        command = ["apt-get", "update"] if package is None else ["apt-get", "install", "-y", "-q", package]
        subprocess.run(command, check=False, capture_output=True, env=environment)  # noqa: S603  # constants
        if package and _found(None):
            return


if __name__ == "__main__":
    sys.exit(main())
