"""Orders to an account's pages: to show what WhatsApp shows seldom, to rename elements, to take memory, to hang.

Every open page listens, linked or not, so that each screen can be had at any time and in both generations.
"""

from browser.sandbox.stream import Data, Stream
from errors import Conflict

#: Screens that take the whole page, and nothing else runs under them. static/shows.js draws them.
WHOLE = (
    "loading",
    "syncing",
    "logging_out",
    "banned",
    "conflict_window",
    "conflict_tab",
    "offline",
    "connecting",
    "proxy_blocked",
    "unavailable",
    "disk_full",
    "unsupported",
    "deprecated",
    "crashed",
    "unknown",
)
#: dialogs that lie over whatever is there
DIALOGS = ("conflict_browser", "whats_new", "update", "unknown_dialog")
#: the steps of sending a message at which a page can be told to crash, in their order; static/crash.js
STEPS = ("open", "type", "enter", "drawn", "stored", "accepted", "ticked")
#: what unlinks every browser of the account, and what the login screen then says of it
LOGOUTS = ("post_logout", "database_error", "sync_issue", "link_failed")


#: the generations of the page; static/generation.js draws them
DOMS = ("legacy", "bare", "2026-08")


class Controls:
    """The pages that are open, and what each account's are to show until told otherwise."""

    def __init__(self) -> None:
        self._pages: set[tuple[str, Stream]] = set()
        self._shown: dict[str, str] = {}
        self._renamed: dict[str, str] = {}
        self._drawn: dict[str, tuple[str, bool]] = {}

    def connect(self, account: str) -> Stream:
        """Add a page; it hears first what it is to show."""
        stream = Stream()
        self._pages.add((account, stream))
        stream.push("show", {"screen": self.shown(account)})
        stream.push("rename", {"css": self.renamed(account)})
        return stream

    def disconnect(self, account: str, stream: Stream) -> None:
        """Remove a page."""
        self._pages.discard((account, stream))

    def shown(self, account: str) -> str | None:
        """Return what an account's pages are to show instead of what they would."""
        return self._shown.get(account)

    def show(self, account: str, screen: str | None) -> None:
        """Let an account's pages show a screen, now and whenever they are opened; None ends it."""
        if screen is None:
            self._shown.pop(account, None)
        else:
            self._shown[account] = screen
        self._tell(account, "show", {"screen": screen})

    def renamed(self, account: str) -> str:
        """Return the CSS selector of what has other names on an account's pages; empty for nothing."""
        return self._renamed.get(account, "")

    def rename(self, account: str, css: str) -> None:
        """Give what a CSS selector finds other names on an account's pages, now and whenever they are opened."""
        self._renamed[account] = css
        self._tell(account, "rename", {"css": css})

    def drawn(self, account: str) -> tuple[str, bool] | None:
        """Return by which generation an account's pages are drawn, and whether they are harsh; None as they were."""
        return self._drawn.get(account)

    def draw(self, account: str, dom: str, *, harsh: bool) -> None:
        """Draw an account's pages by a generation of DOMS, from their next load on."""
        self._drawn[account] = (dom, harsh)

    def order(self, account: str, order: str, data: Data) -> None:
        """Let an account's pages do something once; raise Conflict when none is open."""
        if not self._tell(account, order, data):
            raise Conflict(f"No page of account {account} is open.")

    def _tell(self, account: str, event: str, data: Data) -> int:
        pages = [stream for owner, stream in self._pages if owner == account]
        for stream in pages:
            stream.push(event, data)
        return len(pages)

    def stop(self) -> None:
        """End every stream."""
        for _, stream in self._pages:
            stream.end()
