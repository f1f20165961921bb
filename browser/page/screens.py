"""Which of WhatsApp's screens is shown, told from what was read of the page. Pure."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from browser.page.selectors import Selectors
from browser.page.text_matching import plain
from errors import Banned, NotLinked, Offline, OpenElsewhere, PageCrashed, PageHung, SendError, UiChanged


class Screen(StrEnum):
    """What a person would say the page shows."""

    LOADING = "loading"  # nothing yet
    QR = "qr"  # waits for a phone
    SYNCING = "syncing"  # linked, the history is loading
    MAIN = "main"  # the chat list, online
    BANNED = "banned"  # a ban screen instead of the chat list
    CONFLICT = "conflict"  # open in another window or browser
    OFFLINE = "offline"  # no connection, with or without the chat list
    PROXY_BLOCKED = "proxy_blocked"  # the network keeps WhatsApp out
    UNAVAILABLE = "unavailable"  # WhatsApp's servers, or the disk, cannot serve
    UNSUPPORTED = "unsupported"  # the browser is refused
    CRASHED = "crashed"  # "Unexpected error occurred."
    UNKNOWN = "unknown"  # none of these


#: on its way to something else
PASSING = frozenset({Screen.LOADING, Screen.SYNCING})

#: what stays until something is done; UNKNOWN is doubted first
LASTING = tuple(screen for screen in Screen if screen not in PASSING | {Screen.UNKNOWN})

#: what is raised when this is shown where the chat list is needed
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
    """A dialog on top of the page. `text` is plain, `buttons` are plain names in the order of the page."""

    text: str
    buttons: tuple[str, ...]
    #: a media preview, which holds what somebody is about to send
    media: bool


@dataclass(frozen=True)
class Sight:
    """What was read of the page in one look. Texts are plain and hold no message and no contact's name."""

    found: frozenset[str]
    text: str
    dialogs: tuple[Dialog, ...]
    #: the QR payload, verbatim
    reference: str | None
    #: the QR code is covered by its reload button
    overlaid: bool
    path: str
    empty: bool
    #: how far a bar of progress stands; empty without one
    progress: str = ""

    @classmethod
    def of(cls, read: dict[str, Any]) -> "Sight":
        """Make one of what reading.js returns."""
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
    """Tell whether a plain text holds one of the texts of that meaning."""
    return any(each in text for each in selectors.texts[meaning])


def recognise(sight: Sight, selectors: Selectors) -> Screen:
    """Name the screen. What ends everything is asked first, the chat list last.

    Whole screens count only where there is no chat list; a ban in particular is ban text *and* no chat list.
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
