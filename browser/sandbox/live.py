"""Logged-in pages that are connected. Each connection is a row of the table session, with its start and its end."""

import time
from dataclasses import dataclass

from browser.sandbox.store import Store
from browser.sandbox.stream import Data, Stream


@dataclass(eq=False, frozen=True)
class LivePage:
    """One connected page."""

    account: str
    device: str
    token: str
    #: id of this load of the page, by which a page that reconnects is recognised
    load: str
    stream: Stream
    #: its row in the table session
    session: int


class Live:
    """Keeps track of connected pages, and sends them events."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pages: set[LivePage] = set()
        #: pages that were told that WhatsApp is open elsewhere, and have not disconnected yet
        self._displaced: set[LivePage] = set()
        store.change("end_sessions", now=time.time())

    def displace(self, device: str, load: str) -> list[str]:
        """End the other pages of a device that connects; return their tokens, which are no longer valid.

        A page in another browser is told that WhatsApp is open elsewhere. Its session is recorded until it has really
        disconnected, so that two sessions at once are visible in the record.
        """
        others = [page for page in self._pages if page.device == device]
        for page in others:
            if page.load == load:
                page.stream.end()
                self.disconnect(page)
            else:
                page.stream.push("conflict")
                self._pages.remove(page)
                self._displaced.add(page)
        return [page.token for page in others]

    def connect(self, account: str, device: str, token: str, load: str) -> LivePage:
        """Add a page."""
        session = self._store.insert("start_session", account=account, device=device, now=time.time())
        page = LivePage(account, device, token, load, Stream(), session)
        self._pages.add(page)
        return page

    def disconnect(self, page: LivePage) -> None:
        """Remove a page, and record the end of its session."""
        self._pages.discard(page)
        self._displaced.discard(page)
        self._store.change("end_session", seq=page.session, now=time.time())

    def tell(self, account: str, event: str, data: Data | None = None) -> None:
        """Send an event to every page of an account."""
        for page in self._pages:
            if page.account == account:
                page.stream.push(event, data)

    def count(self, account: str) -> int:
        """Return how many pages of an account are connected."""
        return sum(page.account == account for page in self._pages)

    def close(self) -> None:
        """End every stream."""
        for page in self._pages | self._displaced:
            page.stream.end()
