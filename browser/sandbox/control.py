"""Orders to an account's pages: show a rare screen, rename elements, take memory, hang, crash.

Every open page listens, linked or not, so that each screen can be shown at any time and in every generation.
"""

from browser.sandbox.stream import Data, Stream
from errors import Conflict

#: Screens that fill the page; nothing else runs under them. static/shows.js draws them.
FULL_PAGE = (
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
#: dialogs over the current screen
DIALOGS = ("conflict_browser", "whats_new", "update", "unknown_dialog")
#: the steps of sending a message at which a page can be ordered to crash, in their order; static/crash.js
STEPS = ("open", "type", "enter", "drawn", "stored", "accepted", "ticked")
#: reasons of a logout, which unlinks every browser of the account; the login screen shows them
LOGOUTS = ("post_logout", "database_error", "sync_issue", "link_failed")

#: the generations of the page; static/generation.js draws them
DOMS = ("legacy", "bare", "2026-08")


class Controls:
    """The open pages, and the standing orders of each account's pages."""

    def __init__(self) -> None:
        self._pages: set[tuple[str, Stream]] = set()
        self._shown: dict[str, str] = {}
        self._renamed: dict[str, str] = {}
        self._drawn: dict[str, tuple[str, bool]] = {}

    def connect(self, account: str) -> Stream:
        """Add a page; its stream begins with the standing orders."""
        stream = Stream()
        self._pages.add((account, stream))
        stream.push("show", {"screen": self.shown(account)})
        stream.push("rename", {"css": self.renamed(account)})
        return stream

    def disconnect(self, account: str, stream: Stream) -> None:
        """Remove a page."""
        self._pages.discard((account, stream))

    def shown(self, account: str) -> str | None:
        """Return the screen that an account's pages are ordered to show, or None."""
        return self._shown.get(account)

    def show(self, account: str, screen: str | None) -> None:
        """Make an account's pages show a screen, now and at each load; None ends it."""
        if screen is None:
            self._shown.pop(account, None)
        else:
            self._shown[account] = screen
        self._tell(account, "show", {"screen": screen})

    def renamed(self, account: str) -> str:
        """Return the CSS selector of the elements that are renamed on an account's pages; empty for none."""
        return self._renamed.get(account, "")

    def rename(self, account: str, css: str) -> None:
        """Rename the elements that match a CSS selector on an account's pages, now and at each load."""
        self._renamed[account] = css
        self._tell(account, "rename", {"css": css})

    def drawn(self, account: str) -> tuple[str, bool] | None:
        """Return the generation ordered for an account's pages, and whether they are harsh; None without an order."""
        return self._drawn.get(account)

    def draw(self, account: str, dom: str, *, harsh: bool) -> None:
        """Order a generation of DOMS for an account's pages, from their next load on."""
        self._drawn[account] = (dom, harsh)

    def order(self, account: str, order: str, data: Data) -> None:
        """Send a one-time order to an account's open pages; raise Conflict when none is open."""
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
