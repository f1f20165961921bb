"""Where the selectors come from, at the start and at run time: SELECTORS_FILE, the pinned, the fetched, the shipped.

In that order. What is wrong is refused with a line in the log, and the selectors in use stay.
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

EVERY = 300.0  # seconds between looks at the address
LOOK = 5.0  # seconds between looks at the file and the pin, for whoever runs it


@dataclass
class SelectorSource:
    """Finds the selectors to be used, at the start and again and again."""

    store: SelectorStore
    file: Path | None = None
    download: Download | None = None
    #: is handed those that take the place of the ones in use
    use: Callable[[Selectors], None] = lambda _: None
    #: where the ones in use come from, for people
    origin: str = SHIPPED
    _used: Selectors = field(default_factory=selectors.load)
    _stamp: tuple[int, int, int] | None = None
    _pinned: str | None = None
    _next: float = 0.0

    @classmethod
    def at(
        cls, folder: Path, file: Path | None, url: str | None, key: str | None, tls: ssl.SSLContext | None = None
    ) -> Self:
        """Make it of the settings; `folder` is where what was fetched is kept. Raise SelectorsWrong for a wrong key."""
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
        """Look whether the file or the pin has changed, and every five minutes whether the address has other ones."""
        if self.file:
            self._look_at_file()
            return
        if self.store.pinned() != self._pinned:
            self._take()
        if self.download and time.monotonic() >= self._next:
            self._next = time.monotonic() + EVERY
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
        """Tell whether it is to be kept. Raise SelectorsWrong for one older than those here: it may be played back."""
        shipped = selectors.load()
        newest = max(age(version) for version in (shipped.version, *self.store.versions()))
        if age(found.version) < newest:
            raise SelectorsWrong(f"Their version {found.version} is older than one that was here already.")
        if age(found.version) > newest:
            return True
        held = self.store.held(found.version)
        if (held and held[0] != content) or (not held and found != shipped):
            raise SelectorsWrong(f"They differ from those of the same version {found.version}: raise the version.")
        # The same may be signed anew, by a key that took the place of another.
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
        """Settle which are in use: those given, the pinned, or the newest of the fetched and the shipped."""
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
