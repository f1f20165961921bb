"""Directories of live profiles: one per account, mode 0700, with the generation they hold.

A profile is a login: every copy of it can act as the account.
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
#: suffix of the temporary directories in which profiles are copied or restored
RESTORING = ".restoring"
#: subdirectory of a directory of profiles, with the homes of visitors (`postrider doctor`), each named by its identity
VISITS = ".visits"


def directory_of(root: Path, account_id: str) -> Path:
    """Return the directory of an account's profile under CHROME_USER_DATA_DIR."""
    if not account_id or account_id != Path(account_id).name or account_id.startswith("."):
        raise ValueError(f"{account_id!r} is no account id.")
    return root / account_id


def prepare(directory: Path) -> None:
    """Prepare a directory for opening: create it, make it private, and remove the traces of a browser that died.

    Raise ProfileElsewhere when a browser holds it now. The host name in Chromium's lock is ignored: in a container it
    changes with every start while the lock stays, and Chromium would refuse the profile. Leases keep other hosts away.
    """
    if holders := browsers_of(directory):
        raise ProfileElsewhere(f"The profile is held by a browser that runs as process {holders[0].pid}.")
    directory.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
    directory.chmod(PRIVATE)
    for name in LOCKS:
        (directory / name).unlink(missing_ok=True)
    _forget_crash(directory / "Default" / "Preferences")


def _forget_crash(preferences: Path) -> None:
    """Mark the last exit as normal, or Chromium opens with a bubble that offers to restore pages."""
    try:
        settings = json.loads(preferences.read_bytes())
        profile = settings["profile"]
        if profile.get("exit_type") == "Normal":
            return
        profile["exit_type"], profile["exited_cleanly"] = "Normal", True
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return  # missing, or damaged by a crash: Chromium writes a new one
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
    """Delete the temporary directories that a dead worker left from restores and trials; return their paths.

    For a worker's start, when none is in use. A directory left from a restore holds an unencrypted login and is named
    after no account, so nothing else would ever delete it.
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
    """Create a visitor's own, private directory of profiles, beside the profiles of the worker there."""
    directory = root / VISITS / home
    for each in (root, directory.parent, directory):
        each.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
    return directory


def visits(root: Path) -> list[Path]:
    """List the homes of visitors, including visitors that have ended."""
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
