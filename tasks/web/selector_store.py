"""The store of fetched selectors, on disk with their signatures, for a restart and for going back to a version."""

import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path

from browser.page import selectors
from browser.page.selectors import Selectors
from crypto import CryptoError, verify_file
from errors import SelectorsWrong

log = logging.getLogger(__name__)

KEPT = 4  # fetched versions: the newest and three to go back to
SHIPPED = "shipped"
NEWEST = "newest"
#: a version: the day, and a number for each further file of that day
VERSION = re.compile(r"\d{4}-\d{2}-\d{2}(?:\.\d{1,6})?")


def age(version: str) -> tuple[int, ...]:
    """Make a version comparable; raise SelectorsWrong for one that cannot be compared."""
    if not VERSION.fullmatch(version):
        raise SelectorsWrong(f"The version {version!r} must be a day such as 2026-11-20, or 2026-11-20.2 after it.")
    return tuple(int(part) for part in re.split(r"[-.]", version))


@dataclass(frozen=True)
class SelectorStore:
    """The fetched versions on disk: `<version>.toml` with its signature beside it, and which one is `pinned`."""

    folder: Path
    key: str | None

    def versions(self) -> list[str]:
        """Return the versions that are kept, the newest first."""
        found = [path.stem for path in self.folder.glob("*.toml") if VERSION.fullmatch(path.stem)]
        return sorted(found, key=age, reverse=True)

    def held(self, version: str) -> tuple[bytes, bytes] | None:
        """Return file and signature of a version; None when it is not kept."""
        path = self.folder / f"{version}.toml"
        try:
            return path.read_bytes(), path.with_suffix(".toml.sig").read_bytes()
        except FileNotFoundError:
            return None

    def read(self, version: str) -> Selectors:
        """Return a kept version. Raise SelectorsWrong when it is not there, or not signed by the key any more."""
        if (held := self.held(version)) is None:
            raise SelectorsWrong(f"Selectors {version} are not kept in {self.folder}: see `postrider selectors list`.")
        return opened(*held, self.key)

    def newest(self) -> Selectors | None:
        """Return the newest version that can be read; log those that cannot."""
        for version in self.versions():
            try:
                return self.read(version)
            except SelectorsWrong as error:
                log.warning(
                    "selectors %s in %s are passed over: %s", version, self.folder, error,
                    extra={"event": "selectors.passed_over", "version": version, "reason": str(error)},
                )  # fmt: skip
        return None

    def keep(self, fetched: Selectors, content: bytes, signature: bytes) -> None:
        """Store a version and delete the oldest ones, except the pinned one."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.folder / f"{fetched.version}.toml"
        # The signature first: a file without one is not read.
        _write(path.with_suffix(".toml.sig"), signature)
        _write(path, content)
        for version in self.versions()[KEPT:]:
            if version != self.pinned():
                for end in (".toml", ".toml.sig"):
                    (self.folder / f"{version}{end}").unlink(missing_ok=True)

    def pinned(self) -> str | None:
        """Return the version that is to be used even if there are newer ones: one that is kept, or `shipped`."""
        try:
            return (self.folder / "pinned").read_text("utf-8").strip() or None
        except FileNotFoundError:
            return None

    def pin(self, version: str) -> None:
        """Use this version from now on; `shipped`, or `newest` to unpin. Raise SelectorsWrong when it is not kept."""
        if version == NEWEST:
            (self.folder / "pinned").unlink(missing_ok=True)
            return
        if version != SHIPPED:
            age(version)
            self.read(version)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(self.folder / "pinned", version.encode())


def opened(content: bytes, signature: bytes, key: str | None) -> Selectors:
    """Verify and parse a signed file. Raise SelectorsWrong."""
    try:
        verify_file(key or "", signature.decode("ascii"), content)
    except (CryptoError, UnicodeDecodeError) as error:
        raise SelectorsWrong(f"The file is not signed by SELECTORS_KEY: {error}.") from None
    return selectors.decode(content)


def _write(path: Path, content: bytes) -> None:
    # Atomic: several workers may share the folder, and each of them may end at any moment.
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.write_bytes(content)
    fresh.replace(path)
