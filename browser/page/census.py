"""A census of the page: which selectors match now, and which needed elements none matches."""

import logging
from dataclasses import dataclass
from typing import Any

from browser.page.screens import Screen
from browser.page.selectors import Selectors

LOG = logging.getLogger(__name__)

#: elements that must be there before anything is done with the main screen
ESSENTIAL = ("pane", "search")
#: elements that sending can do without, even if they have disappeared for good
SPARE = frozenset({"attach", "header", "menu"})
Together = tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]
#: if one of the first elements is shown, all of the second are needed
TOGETHER: Together = (
    (("chat_row", "chat_title"), ("chat_row", "chat_title")),
    (("header", "panel", "compose"), ("header", "header_title", "panel", "compose", "attach")),
    (("box", "text"), ("bubble", "meta")),
)
#: the same for the account's own chat, which is open and has no messages but ours
OWN_CHAT: Together = (
    ((), ("header", "header_title", "panel", "compose", "attach")),
    (("bubble", "box", "text", "meta", "outgoing"), ("bubble", "box", "text", "meta", "outgoing")),
)
#: a chat list with this many lines of text has chats; the words of an empty one take fewer lines
CHAT_LINES = 4


@dataclass(frozen=True)
class Census:
    """Which alternative found each element on one screen."""

    selectors: Selectors
    #: element → the place of the alternative that is visible now, -1 for none
    places: dict[str, int]
    #: alternatives that this Chromium cannot parse
    broken: tuple[str, ...]
    #: lines of text in the chat list
    listed: int

    @classmethod
    def of(cls, read: dict[str, Any], selectors: Selectors) -> "Census":
        """Make a census of what reading.js returns."""
        return cls(selectors, read["places"], tuple(read["broken"]), read["listed"])

    @property
    def found(self) -> dict[str, str | None]:
        """Element → the alternative that is visible now."""
        return {name: self._css(name) if place >= 0 else None for name, place in self.places.items()}

    def missing(self, screen: Screen, *, own_chat: bool = False) -> list[str]:
        """Name the elements that the code certainly needs on this screen and that are not found.

        `own_chat`: the account's own chat is open, in which every message is ours.
        """
        needed = self._needed(screen, TOGETHER + OWN_CHAT if own_chat else TOGETHER)
        return [name for name in dict.fromkeys(needed) if self.places[name] < 0]

    def _needed(self, screen: Screen, together: Together) -> list[str]:
        shown = {name for name, place in self.places.items() if place >= 0}
        if screen is Screen.QR:
            # The steps of pairing replace the QR code, and an advertisement or the reload button may cover it.
            instead = {"qr_promo", "qr_reload", "pairing_input", "pairing_cells"}
            return ["qr"] if instead & shown else ["qr", "qr_ref"]
        if screen is not Screen.MAIN:
            return []
        needed = [*ESSENTIAL, "menu"]
        for signs, others in together:
            if not signs or shown & set(signs) or ("chat_row" in signs and self.listed >= CHAT_LINES):
                needed += others
        return needed

    def report(self, before: "Census | None") -> None:
        """Log which alternatives find the main screen, unless they are the same as before."""
        now = {name: self.places[name] for name in ESSENTIAL}
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
                    "only the last of %d alternatives still finds %s (%s): WhatsApp's page is changing",
                    place + 1, name, self._css(name),
                    extra={"event": "page.last_resort", "version": self.selectors.version, "element": name},
                )  # fmt: skip
        if self.broken:
            LOG.warning(
                "selectors %s have invalid CSS: %s", self.selectors.version, " and ".join(self.broken),
                extra={"event": "page.wrong_css", "version": self.selectors.version},
            )  # fmt: skip

    def _css(self, name: str) -> str:
        return self.selectors.elements[name][self.places[name]]
