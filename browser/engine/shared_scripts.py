"""The page's scripts, which the profiles on one disk share.

A profile that is put away keeps its login alone (pack.py), so each opening would download all of the page's scripts
anew. They are public and the same for every account. A new profile gets them from those that were closed before it.

Only what the network service wrote is shared, after it had checked the server's certificate. Compiled code is not: a
page writes that itself, so that one account's page could put its own code into another's.

Chromium keeps one file for each response, named by a hash of its key (net/disk_cache/simple/simple_entry_format.h): a
header, the key, which ends with the URL, the body and the headers. Where the index of these files is missing, it reads
their names.
"""

import re
import shutil
import struct
from contextlib import suppress
from pathlib import Path

from browser.engine.profile import PRIVATE

#: where a profile has the responses that the network service keeps
RESPONSES = Path("Default", "Cache", "Cache_Data")
#: subdirectory of a directory of profiles
FOLDER = ".scripts"
#: bytes of all shared scripts together
MAX_BYTES = 24 * 2**20
#: magic number, version, length of the key, hash of the key, padding; then the key
HEADER = struct.Struct("<QIIIxxxx")
MAGIC, VERSIONS = 0xFCFB6D1BA7725C30, range(5, 10)
MAX_KEY = 4096
#: A key whose URL is that of a script, a style sheet or WebAssembly, from a server with a certificate or the sandbox on
#: this machine. The sites that loaded it may stand before the URL.
SCRIPT = re.compile(
    rb"\d+/\d+/(?:\S+ )*(?:https://[^\s/]+|http://(?:127\.0\.0\.1|localhost)(?::\d+)?)"
    rb"/[^\s?#]*\.(?:js|css|wasm)(?:\?\S*)?"
)


def collect(profile: Path, root: Path) -> None:
    """Move a closed profile's scripts to those that the profiles under `root` share; drop the oldest over MAX_BYTES."""
    shared = root / FOLDER
    for file in _entries(profile / RESPONSES):
        known = shared / file.name
        if _is_script(file) and not (known.exists() and known.stat().st_mtime_ns >= file.stat().st_mtime_ns):
            shared.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
            file.replace(known)
    _trim(shared)


def share(root: Path, profile: Path) -> None:
    """Copy the shared scripts into a profile that has kept no responses of its own.

    Copies, since browsers write into these files. They keep the time of the last change, which tells what is new.
    """
    responses = profile / RESPONSES
    entries = _entries(root / FOLDER)
    if not entries or responses.exists():
        return
    responses.mkdir(mode=PRIVATE, parents=True)
    try:
        for file in entries:
            with suppress(FileNotFoundError):  # dropped or replaced meanwhile
                shutil.copy2(file, responses / file.name)
    except OSError:
        shutil.rmtree(responses)
        raise


def forget(profile: Path) -> None:
    """Delete the responses that a profile has kept."""
    shutil.rmtree(profile / RESPONSES, ignore_errors=True)


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*_[01]")) if folder.is_dir() else []


def _is_script(file: Path) -> bool:
    """Tell by its key whether a file is the response to a request for a script. Chromium checks what is in it."""
    with file.open("rb") as opened:
        start = opened.read(HEADER.size)
        if len(start) < HEADER.size:
            return False
        magic, version, length, _ = HEADER.unpack(start)
        if magic != MAGIC or version not in VERSIONS or length > MAX_KEY:
            return False
        return bool(SCRIPT.fullmatch(opened.read(length)))


def _trim(shared: Path) -> None:
    states = sorted(
        ((file.stat(), file) for file in _entries(shared)), key=lambda one: one[0].st_mtime_ns, reverse=True
    )
    total = 0
    for state, file in states:
        total += state.st_size
        if total > MAX_BYTES:
            file.unlink(missing_ok=True)
