"""Where the selectors come from, at the start and at run time.

In this order: SELECTORS_FILE, the pinned version, the newer of the fetched and the shipped one. Invalid selectors are
refused with a line in the log, and those in use stay.
"""

import logging
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from browser.page import selectors
from browser.page.selectors import Selectors
from crypto import CryptoError, read_public_key
from errors import SelectorsWrong
from tasks.web.selector_download import Download
from tasks.web.selector_store import SHIPPED, SelectorStore, age, opened

log = logging.getLogger(__name__)

FETCH_SECONDS = 300.0  # seconds between requests to SELECTORS_URL
POLL_SECONDS = 5.0  # seconds between checks of the file and the pin; for the caller of `run_once`


@dataclass
class SelectorSource:
    """Finds the selectors to use, at the start and whenever they change."""

    store: SelectorStore
    file: Path | None = None
    download: Download | None = None
    #: called with the selectors that replace the ones in use
    use: Callable[[Selectors], None] = lambda _: None
    #: where the selectors in use come from, for people
    origin: str = SHIPPED
    _used: Selectors = field(default_factory=selectors.load)
    _stamp: tuple[int, int, int] | None = None
    _pinned: str | None = None
    _next: float = 0.0

    @classmethod
    def at(
        cls, folder: Path, file: Path | None, url: str | None, key: str | None, tls: ssl.SSLContext | None = None
    ) -> Self:
        """Make it from the settings; fetched files are kept in `folder`. Raise SelectorsWrong for a wrong key."""
        if key is not None:
            try:
                read_public_key(key)
            except CryptoError as error:
                raise SelectorsWrong(f"SELECTORS_KEY: {error}.") from None
        return cls(SelectorStore(folder, key), file, Download(url, tls) if url else None)

    def load(self) -> Selectors:
        """Return the selectors to begin with. Raise SelectorsWrong when the file SELECTORS_FILE is not valid."""
        self._stamp = _stamp(self.file)
        self._choose(selectors.load(self.file) if self.file else None)
        return self._used

    async def run_once(self) -> None:
        """Check whether the file or the pin has changed, and every five minutes whether the URL has a new file."""
        if self.file:
            self._look_at_file()
            return
        if self.store.pinned() != self._pinned:
            self._take()
        if self.download and time.monotonic() >= self._next:
            self._next = time.monotonic() + FETCH_SECONDS
            await self._fetch(self.download)

    def _look_at_file(self) -> None:
        stamp = _stamp(self.file)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._take(selectors.load(self.file))
        except SelectorsWrong as error:
            log.warning(
                "%s Selectors %s stay in use.", error, self._used.version,
                extra={"event": "selectors.refused", "reason": str(error), "version": self._used.version},
            )  # fmt: skip

    async def _fetch(self, download: Download) -> None:
        try:
            if (fetched := await download.fetch()) is None:
                return
            content, signature, accept = fetched
            found = opened(content, signature, self.store.key)
            if self._is_new(found, content, signature):
                self.store.keep(found, content, signature)
            # Another worker may have kept it already.
            self._take()
            accept()
        except SelectorsWrong as error:
            log.warning(
                "the selectors at %s are refused: %s Selectors %s stay in use.", download.url, error,
                self._used.version,
                extra={"event": "selectors.refused", "reason": str(error), "version": self._used.version},
            )  # fmt: skip

    def _is_new(self, found: Selectors, content: bytes, signature: bytes) -> bool:
        """Tell whether to keep a fetched file. Raise SelectorsWrong for an older one, which may be a replay attack."""
        shipped = selectors.load()
        newest = max(age(version) for version in (shipped.version, *self.store.versions()))
        if age(found.version) < newest:
            raise SelectorsWrong(f"Their version {found.version} is older than one that was here already.")
        if age(found.version) > newest:
            return True
        held = self.store.held(found.version)
        if (held and held[0] != content) or (not held and found != shipped):
            raise SelectorsWrong(f"They differ from those of the same version {found.version}: raise the version.")
        # The same file may have a new signature, after a change of the key.
        return held is not None and held[1] != signature

    def _take(self, given: Selectors | None = None) -> None:
        before = self._used
        self._choose(given)
        if self._used != before:
            log.info(
                "selectors %s (%s) take the place of %s", self._used.version, self.origin, before.version,
                extra={"event": "selectors.replaced", "version": self._used.version, "origin": self.origin},
            )  # fmt: skip
            self.use(self._used)

    def _choose(self, given: Selectors | None) -> None:
        """Choose the selectors to use: those given, the pinned, or the newer of the fetched and the shipped."""
        self._pinned = self.store.pinned()
        if given:
            self._used, self.origin = given, f"file {self.file}"
            return
        if self._pinned and (pinned := self._read_pinned(self._pinned)):
            self._used, self.origin = pinned, "pinned"
            return
        self._used, self.origin = selectors.load(), SHIPPED
        fetched = self.store.newest() if self.download else None
        if fetched and age(fetched.version) > age(self._used.version):
            self._used, self.origin = fetched, "fetched"

    def _read_pinned(self, version: str) -> Selectors | None:
        try:
            return selectors.load() if version == SHIPPED else self.store.read(version)
        except SelectorsWrong as error:
            log.warning(
                "the pinned selectors %s are passed over: %s", version, error,
                extra={"event": "selectors.passed_over", "version": version, "reason": str(error)},
            )  # fmt: skip
            return None


def _stamp(path: Path | None) -> tuple[int, int, int] | None:
    try:
        status = path.stat() if path else None
    except OSError:
        return None
    return (status.st_mtime_ns, status.st_size, status.st_ino) if status else None
