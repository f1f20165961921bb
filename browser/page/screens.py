"""Recognising which of WhatsApp's screens is shown, from what was read of the page. Pure."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from browser.page.selectors import Selectors
from browser.page.text_matching import plain
from errors import Banned, NotLinked, Offline, OpenElsewhere, PageCrashed, PageHung, SendError, UiChanged


class Screen(StrEnum):
    """A screen of WhatsApp Web, as a person would name it."""

    LOADING = "loading"  # nothing yet
    QR = "qr"  # the linking screen, which waits for a phone
    SYNCING = "syncing"  # linked, the history is loading
    MAIN = "main"  # the chat list, online
    BANNED = "banned"  # a ban screen instead of the chat list
    CONFLICT = "conflict"  # open in another window or browser
    OFFLINE = "offline"  # no connection, with or without the chat list
    PROXY_BLOCKED = "proxy_blocked"  # the network blocks WhatsApp
    UNAVAILABLE = "unavailable"  # WhatsApp's servers are down, or the disk is full
    UNSUPPORTED = "unsupported"  # the browser is refused
    CRASHED = "crashed"  # "Unexpected error occurred."
    UNKNOWN = "unknown"  # none of these


#: screens that pass by themselves
PASSING = frozenset({Screen.LOADING, Screen.SYNCING})

#: screens that stay until something is done; UNKNOWN is not among them, since it may pass
LASTING = tuple(screen for screen in Screen if screen not in PASSING | {Screen.UNKNOWN})

#: the error of a screen: what is raised when it is shown instead of the chat list
ERRORS: dict[Screen, type[SendError]] = {
    Screen.LOADING: PageHung,
    Screen.SYNCING: PageHung,
    Screen.QR: NotLinked,
    Screen.BANNED: Banned,
    Screen.CONFLICT: OpenElsewhere,
    Screen.OFFLINE: Offline,
    Screen.PROXY_BLOCKED: Offline,
    Screen.UNAVAILABLE: Offline,
    Screen.UNSUPPORTED: UiChanged,
    Screen.CRASHED: PageCrashed,
    Screen.UNKNOWN: UiChanged,
}


@dataclass(frozen=True)
class Dialog:
    """A dialog on top of the page. `text` and the names of its `buttons`, in the page's order, are normalised."""

    text: str
    buttons: tuple[str, ...]
    #: a media preview, which a person is about to send
    media: bool


@dataclass(frozen=True)
class Sight:
    """One read of the page. Its texts are normalised (`plain`), and have no messages and no names of contacts."""

    found: frozenset[str]
    text: str
    dialogs: tuple[Dialog, ...]
    #: the QR payload, verbatim
    reference: str | None
    #: the QR code is covered by its reload button
    overlaid: bool
    path: str
    empty: bool
    #: the value of the progress bar; empty without one
    progress: str = ""

    @classmethod
    def of(cls, read: dict[str, Any]) -> "Sight":
        """Make a Sight of what reading.js returns."""
        return cls(
            found=frozenset(read["found"]),
            text=plain(read["text"]),
            dialogs=tuple(
                Dialog(plain(one["text"]), tuple(plain(button) for button in one["buttons"]), one["media"])
                for one in read["dialogs"]
            ),
            reference=read["reference"],
            overlaid=read["overlaid"],
            path=read["path"],
            empty=read["empty"],
            progress=read["progress"],
        )


def says(selectors: Selectors, meaning: str, text: str) -> bool:
    """Tell whether a normalised text contains one of the selectors' texts of that meaning."""
    return any(each in text for each in selectors.texts[meaning])


def recognise(sight: Sight, selectors: Selectors) -> Screen:
    """Recognise the screen. Screens that stop all work are checked first, the chat list late.

    Screens that fill the page count only without a chat list; in particular, a ban is a ban text *and* no chat list.
    """
    inside = "pane" in sight.found
    on_top = " ".join(dialog.text for dialog in sight.dialogs)

    def says_it(meaning: str) -> bool:
        return says(selectors, meaning, on_top if inside else sight.text)

    asked: tuple[tuple[Screen, bool], ...] = (
        (Screen.UNSUPPORTED, not inside and says_it("unsupported")),
        (Screen.BANNED, not inside and says_it("banned")),
        (Screen.CRASHED, says(selectors, "crashed", sight.text)),
        (Screen.CONFLICT, says_it("conflict")),
        (Screen.PROXY_BLOCKED, not inside and says_it("proxy_blocked")),
        (Screen.UNAVAILABLE, not inside and says_it("unavailable")),
        (Screen.OFFLINE, says(selectors, "offline", sight.text)),
        (Screen.LOADING, not inside and says_it("logging_out")),
        (Screen.QR, bool({"qr", "qr_promo"} & sight.found) or (not inside and says_it("linking"))),
        (Screen.MAIN, inside),
        (Screen.LOADING, "boot" in sight.found or sight.empty),
        (Screen.SYNCING, "progress" in sight.found or says_it("syncing")),
        (Screen.LOADING, not sight.text),
    )
    return next((screen for screen, shown in asked if shown), Screen.UNKNOWN)
