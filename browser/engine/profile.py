"""Directories of live profiles: one per account, mode 0700, with the generation they hold.

A profile is the account: whoever has it can log in with it.
"""

import json
import os
import shutil
from pathlib import Path

from browser.engine.chromium import TRIAL
from browser.engine.process import browsers_of
from errors import ProfileElsewhere

MARKER = "postrider-generation"
LOCKS = ("SingletonLock", "SingletonCookie", "SingletonSocket")
PRIVATE = 0o700
#: end of the name of a directory that a profile is copied or restored in
RESTORING = ".restoring"
#: in a directory of profiles: the homes of visitors, each named by its identity
VISITS = ".visits"


def directory_of(root: Path, account_id: str) -> Path:
    """Where an account's profile lives under CHROME_USER_DATA_DIR."""
    if not account_id or account_id != Path(account_id).name or account_id.startswith("."):
        raise ValueError(f"{account_id!r} is no account id.")
    return root / account_id


def prepare(directory: Path) -> None:
    """Make a directory fit to be opened: it exists, is private, and bears no traces of a browser that died.

    Raise ProfileElsewhere when a browser holds it at this moment. The lock's host name is not looked at: in a container
    it changes with every start, the lock stays, and Chromium then refuses the profile; leases keep other hosts away.
    """
    if holders := browsers_of(directory):
        raise ProfileElsewhere(f"The profile is held by a browser that runs as process {holders[0].pid}.")
    directory.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
    directory.chmod(PRIVATE)
    for name in LOCKS:
        (directory / name).unlink(missing_ok=True)
    _forget_crash(directory / "Default" / "Preferences")


def _forget_crash(preferences: Path) -> None:
    """Say that the last exit was normal, or Chromium opens with a bubble that offers to restore pages."""
    try:
        settings = json.loads(preferences.read_bytes())
        profile = settings["profile"]
        if profile.get("exit_type") == "Normal":
            return
        profile["exit_type"], profile["exited_cleanly"] = "Normal", True
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return  # none yet, or torn by a crash: Chromium writes a new one
    _write(preferences, json.dumps(settings))


def read_generation(directory: Path) -> int | None:
    """Return the generation that the directory holds, or None when it is missing or was never marked."""
    try:
        return int((directory / MARKER).read_text("ascii"))
    except (FileNotFoundError, ValueError):
        return None


def write_generation(directory: Path, generation: int) -> None:
    """Mark the directory, atomically: a reader sees the old number or the new one."""
    _write(directory / MARKER, str(generation))


def stored(root: Path) -> dict[str, int | None]:
    """List the profiles of a directory of profiles: account id → the generation it holds, None when never marked."""
    return {path.name: read_generation(path) for path in _directories(root) if not path.name.startswith(".")}


def delete_leftovers(root: Path) -> list[Path]:
    """Remove what was being restored, or tried, when a worker died; return it. For a worker's start: nothing is then.

    What was being restored is a login in clear, and no account's, so nobody else would ever remove it.
    """
    leftovers = [
        path
        for path in _directories(root)
        if path.name.startswith(TRIAL) or (path.name.startswith(".") and path.name.endswith(RESTORING))
    ]
    for path in leftovers:
        shutil.rmtree(path)
    return leftovers


def visiting(root: Path, home: str) -> Path:
    """Make a visitor's own directory of profiles, beside those of the worker there; nobody else may look into it."""
    directory = root / VISITS / home
    for each in (root, directory.parent, directory):
        each.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
    return directory


def visits(root: Path) -> list[Path]:
    """List the homes of visitors, those that have ended too."""
    return _directories(root / VISITS)


def _directories(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.is_symlink()) if root.is_dir() else []


def _write(path: Path, text: str) -> None:
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    with fresh.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def delete(directory: Path) -> None:
    """Remove a profile. Raise ProfileElsewhere when a browser holds it."""
    if browsers_of(directory):
        raise ProfileElsewhere("The profile is held by a running browser and was not deleted.")
    if directory.exists():
        shutil.rmtree(directory)
