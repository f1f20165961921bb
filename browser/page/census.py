"""Which of the selectors fit the page that is shown now, and which that is needed on it does not."""

import logging
from dataclasses import dataclass
from typing import Any

from browser.page.screens import Screen
from browser.page.selectors import Selectors

LOG = logging.getLogger(__name__)

#: what must be there before anything is done with the main screen
BOOT = ("pane", "search")
#: what a message can do without: it may be gone for good, and sending goes on
SPARE = frozenset({"attach", "header", "menu"})
Together = tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]
#: where one of the first is shown, the others are as well
TOGETHER: Together = (
    (("chat_row", "chat_title"), ("chat_row", "chat_title")),
    (("header", "panel", "compose"), ("header", "header_title", "panel", "compose", "attach")),
    (("box", "text"), ("bubble", "meta")),
)
#: and in the account's own chat: it is open, and has no messages but ours
OWN_CHAT: Together = (
    ((), ("header", "header_title", "panel", "compose", "attach")),
    (("bubble", "box", "text", "meta", "outgoing"), ("bubble", "box", "text", "meta", "outgoing")),
)
#: lines of text in the chat list that only chats bring; the words for an empty one are fewer
LISTED = 4


@dataclass(frozen=True)
class Census:
    """What was found of each element on one screen."""

    selectors: Selectors
    #: by element, the place of the alternative that shows now; -1 for none
    places: dict[str, int]
    #: alternatives that this Chromium cannot parse
    broken: tuple[str, ...]
    #: lines of text in the chat list
    listed: int

    @classmethod
    def of(cls, read: dict[str, Any], selectors: Selectors) -> "Census":
        """Make one of what reading.js returns."""
        return cls(selectors, read["places"], tuple(read["broken"]), read["listed"])

    @property
    def found(self) -> dict[str, str | None]:
        """Return by element the alternative that shows now."""
        return {name: self._css(name) if place >= 0 else None for name, place in self.places.items()}

    def missing(self, screen: Screen, *, own_chat: bool = False) -> list[str]:
        """Name the elements that the code needs on this screen, as far as it can be told, and that are not found.

        `own_chat`: the account's own chat is open, in which every message is ours.
        """
        needed = self._needed(screen, TOGETHER + OWN_CHAT if own_chat else TOGETHER)
        return [name for name in dict.fromkeys(needed) if self.places[name] < 0]

    def _needed(self, screen: Screen, together: Together) -> list[str]:
        shown = {name for name, place in self.places.items() if place >= 0}
        if screen is Screen.QR:
            # A number or a code takes the place of the QR code, and an advertisement or the reload button may cover it.
            instead = {"qr_promo", "qr_reload", "pairing_input", "pairing_cells"}
            return ["qr"] if instead & shown else ["qr", "qr_ref"]
        if screen is not Screen.MAIN:
            return []
        needed = [*BOOT, "menu"]
        for signs, others in together:
            if not signs or shown & set(signs) or ("chat_row" in signs and self.listed >= LISTED):
                needed += others
        return needed

    def report(self, before: "Census | None") -> None:
        """Log by which alternatives the main screen was found, unless it was by the same before."""
        now = {name: self.places[name] for name in BOOT}
        if before and before.places | now == before.places:
            return
        said = ", ".join(f"{name} by alternative {place + 1}" for name, place in now.items())
        LOG.info(
            "the page fits selectors %s: %s", self.selectors.version, said,
            extra={"event": "page.fits", "version": self.selectors.version},
        )  # fmt: skip
        for name, place in now.items():
            if place == len(self.selectors.elements[name]) - 1 > 0:
                LOG.warning(
                    "the last of %d alternatives is all that still finds %s (%s): WhatsApp's page is changing",
                    place + 1, name, self._css(name),
                    extra={"event": "page.last_resort", "version": self.selectors.version, "element": name},
                )  # fmt: skip
        if self.broken:
            LOG.warning(
                "selectors %s hold CSS that is none: %s", self.selectors.version, " and ".join(self.broken),
                extra={"event": "page.wrong_css", "version": self.selectors.version},
            )  # fmt: skip

    def _css(self, name: str) -> str:
        return self.selectors.elements[name][self.places[name]]
