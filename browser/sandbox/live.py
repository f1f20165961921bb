"""Logged-in pages that are connected. Each is a row of the sessions record, with its start and its end."""

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
    stream: Stream
    #: its row of the sessions record
    session: int


class Live:
    """Connects pages and speaks to them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pages: set[LivePage] = set()
        store.change("end_sessions", now=time.time())

    def connect(self, account: str, device: str, token: str) -> LivePage:
        """Add a page. Another page of the same device is told that WhatsApp is open elsewhere, and ends first."""
        for page in [page for page in self._pages if page.device == device]:
            page.stream.push("conflict")
            page.stream.end()
            self.disconnect(page)
        session = self._store.insert("start_session", account=account, device=device, now=time.time())
        page = LivePage(account, device, token, Stream(), session)
        self._pages.add(page)
        return page

    def disconnect(self, page: LivePage) -> None:
        """Remove a page and write its end."""
        if page in self._pages:
            self._pages.remove(page)
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
        for page in self._pages:
            page.stream.end()
