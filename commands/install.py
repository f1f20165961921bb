"""Make the virtual environment that the Makefile's commands run in: `python3 -m commands.install [--dev]`.

Every Python from 3.7 on can load this file, which needs only the standard library. If the Python is too old, or too new
for the locked wheels, it runs again in one that fits, or ends with one line that says so.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from commands.progress import Follower

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOCK, DEV_LOCK, PROJECT = ROOT / "requirements.lock", ROOT / "requirements-dev.lock", ROOT / "pyproject.toml"
#: Files in the virtual environment: each is written once everything of its source is installed.
MARKS = {LOCK: VENV / "runs", DEV_LOCK: VENV / "develops", PROJECT: VENV / "project"}
PIPS = 4  # at most at the same time
#: A file with the path of the Chromium that starts here.
CHROMIUM = VENV / "chromium"


class CannotInstall(Exception):
    """An error of one line that says what to do."""


def main() -> int:
    """Bring the virtual environment up to date with the locks; with --dev, also for tests and checks."""
    try:
        _use_python(chosen=bool(os.environ.get("PYTHON")))
        return install(dev="--dev" in sys.argv[1:])
    except CannotInstall as error:
        print(f"postrider: {error}", file=sys.stderr)  # noqa: T201  # a command prints
        return 1
    except KeyboardInterrupt:
        return 130


# --- where it runs -----------------------------------------------------------------------------------------------


def supported(lock: Path = LOCK) -> list[tuple[int, int]]:
    """Return the Pythons for which every locked package has wheels, as the lock says."""
    (found,) = re.findall(r"^# Pythons: ([\d. ]+\d)", lock.read_text(encoding="utf-8"), re.MULTILINE)
    return [(int(major), int(minor)) for major, minor in (version.split(".") for version in found.split())]


def _use_python(*, chosen: bool) -> None:
    """Make sure that this Python fits; if not, and none was chosen, run in another of the PATH. Raise CannotInstall."""
    versions = supported()
    if sys.version_info[:2] in versions:
        return
    names = [f"python{major}.{minor}" for major, minor in reversed(versions)]
    for other in () if chosen else filter(None, map(shutil.which, names)):
        os.execv(other, [other, "-m", "commands.install", *sys.argv[1:]])  # noqa: S606  # itself
    raise CannotInstall(
        f"{names[-1]} to {names[0][len('python') :]} is needed, and {sys.executable} is {platform.python_version()}: "
        f"install one of these, or choose one, as in `make demo PYTHON=/opt/python/bin/{names[0]}`."
    )


def _check_platform() -> None:
    """Raise CannotInstall on a platform for which the embedded Postgres or another package has no wheels."""
    machine, libc = platform.machine(), platform.libc_ver()[0]
    if (sys.platform, machine) == ("darwin", "arm64"):
        return
    if sys.platform == "linux" and machine in {"x86_64", "aarch64"} and libc == "glibc":
        return
    raise CannotInstall(
        "the required packages exist only for Linux with glibc (x86-64, arm64) and for macOS (arm64), and this is "
        f"{sys.platform} on {machine}{'' if libc == 'glibc' else ' without glibc'}. See docs/deploy.md for Docker."
    )


# --- the virtual environment -------------------------------------------------------------------------------------


def install(*, dev: bool) -> int:
    """Install what is missing and return the exit code. Raise CannotInstall."""
    if _is_whole(dev=dev):
        return 0
    _check_platform()
    with _alone() as held:
        follower = Follower(held)
        if not _is_installed(LOCK) or _is_older(DEV_LOCK):
            _make_environment(follower)
            _install_packages(follower, LOCK)
        if dev and not _is_installed(DEV_LOCK):
            _install_packages(follower, DEV_LOCK)
        if not _is_installed(PROJECT):
            _pip(follower, "Installing Postrider itself", ["--no-deps", "--no-build-isolation", "--editable", ROOT])
            _note(PROJECT)
        if not _has_chromium():
            look: list[str | Path] = [PYTHON, "-m", "commands.chromium", CHROMIUM]
            code = subprocess.run(look, check=False, cwd=ROOT, pass_fds=(held,)).returncode  # noqa: S603  # ours
            if code != 0:
                return code
        follower.tell(f"Installed after {follower.seconds:.0f} s.")
    return 0


def _is_whole(*, dev: bool) -> bool:
    return all(map(_is_installed, MARKS if dev else (LOCK, PROJECT))) and not _is_older(DEV_LOCK) and _has_chromium()


def _is_installed(file: Path) -> bool:
    return _noted(file) == _digest(file) and PYTHON.exists()


def _is_older(file: Path) -> bool:
    """Tell whether another version of the file is installed."""
    return _noted(file) not in {"", _digest(file)}


def _digest(file: Path) -> str:
    """Return the digest of a file and of the environment's path, since its programs contain that path."""
    return hashlib.sha256(file.read_bytes() + bytes(VENV)).hexdigest()


def _noted(file: Path) -> str:
    return MARKS[file].read_text(encoding="utf-8") if MARKS[file].exists() else ""


def _note(file: Path) -> None:
    MARKS[file].write_text(_digest(file), encoding="utf-8")


def _has_chromium() -> bool:
    return CHROMIUM.exists() and os.access(CHROMIUM.read_text(encoding="utf-8"), os.X_OK)


@contextmanager
def _alone() -> Iterator[int]:
    """Lock the folder for this process and its children: if only the parent is killed, pip goes on."""
    with LOCK.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another installation is running here; waiting until it ends.", flush=True)  # noqa: T201
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def _make_environment(follower: Follower) -> None:
    """Make it from scratch: what is in an incomplete one, or in one of another lock, cannot be relied on."""
    shutil.rmtree(VENV, ignore_errors=True)
    code, tail = follower.run("Making the virtual environment .venv", [sys.executable, "-m", "venv", VENV])
    if code == 0:
        return
    shutil.rmtree(VENV, ignore_errors=True)
    if any("ensurepip" in line for line in tail):
        # Debian's python3 comes without ensurepip, and would leave an environment without pip.
        raise CannotInstall("this Python cannot make virtual environments; run: apt install python3-venv")
    raise CannotInstall(f"{sys.executable} -m venv failed: {' '.join(tail[-1:])}")


def _install_packages(follower: Follower, lock: Path) -> None:
    """Install every package of a lock. Nothing is resolved, so every pip installs the same at any time."""
    text = lock.read_text(encoding="utf-8")
    packages = len(re.findall(r"^[a-z0-9][^ ]*==", text, re.MULTILINE))
    (size,) = re.findall(r"^# .*Download: (\d+ MB)", text, re.MULTILINE)
    follower.tell(f"{lock.name} lists {packages} packages; {size} to download, unless pip has them in its cache.")
    flags: list[str | Path] = ["--no-deps", "--require-hashes", "--only-binary=:all:", "-r"]
    _pip(follower, "Installing packages", *([*flags, part] for part in _parts(text)), packages=packages)
    code, tail = follower.run("Checking the packages", [PYTHON, "-m", "pip", "check", "--disable-pip-version-check"])
    if code != 0:
        raise CannotInstall(f"the packages of {lock.name} do not fit together: {'; '.join(tail)}")
    _note(lock)


def _parts(text: str) -> list[Path]:
    """Split a lock into a file per processor, each for its own pip, since one pip uses only one processor."""
    _, *packages = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)
    count = min(os.cpu_count() or 1, PIPS)
    files = [VENV / f"part-{number}.lock" for number in range(1, count + 1)]
    for number, file in enumerate(files):
        file.write_text("".join(packages[number::count]), encoding="utf-8")
    return files


def _pip(follower: Follower, what: str, *runs: list[str | Path], packages: int = 0) -> None:
    """Run `pip install` once per list of arguments, with a line that counts the packages. Raise CannotInstall."""
    seen: set[str] = set()

    def read(line: str) -> str:
        words = line.split()
        if packages and words[:1] == ["Collecting"]:
            seen.add(words[1])
            return f"{len(seen)} of {packages}, {words[1]}"
        return "unpacking" if words[:1] == ["Installing"] else ""

    command: list[str | Path] = [PYTHON, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    code, tail = follower.run(what, *(command + arguments for arguments in runs), read=read)
    if code != 0:
        follower.tell("\n".join(filter(str.strip, tail)))
        raise CannotInstall("pip failed, see the lines above. Its downloads are kept: run the command again.")


if __name__ == "__main__":
    sys.exit(main())
