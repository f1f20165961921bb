"""How long things take. Every figure is in seconds."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Timing:
    """The sandbox's clock, in seconds; the defaults are WhatsApp's own where waiting is the point, and short elsewhere.

    The lives of QR codes are constants of WhatsApp Web (60 s, then five times 20 s); a cold boot of the real page
    takes 20 to 25 s, which nobody wants to wait for here.
    """

    qr_first_life: float = 60.0
    qr_life: float = 20.0
    #: from asking for a QR code to having one; the page shows a spinner meanwhile
    qr_wait: float = 0.1
    #: a pairing code is replaced after the first, and no more after the second (bundle 2026-04)
    pairing_life: float = 195.0
    pairing_limit: float = 360.0

    #: from the server's having a message to each of its ticks
    sent: float = 0.3
    delivered: float = 1.2
    read: float = 2.5

    #: the start-up shell, and the syncing screen after linking
    startup: float = 0.15
    syncing: float = 0.3
    #: the same on a harsh page, of an account with many chats
    long_syncing: float = 120.0
    #: asking the server whether a number is on WhatsApp
    lookup: float = 0.15
    #: "Starting chat" appears when looking up takes longer than the first, and then stays at least for the second
    popup_after: float = 0.1
    popup_stay: float = 0.2
    #: from the main screen to the dialog about what is new
    whats_new: float = 0.15
    #: a newly linked device that leaves that dialog open is logged out after this
    unacknowledged: float = 300.0

    #: on a harsh page, from a bubble's being drawn to its being stored
    drawn: float = 0.1
    #: on a harsh page, from the first key to a dialog or a preview
    late_news: float = 0.2
    #: how long a page that was killed still counts as the one that has the profile, on a harsh page
    mutex: float = 10.0

    #: how long the numbers that misbehave do so
    offline: float = 5.0
    hang: float = 120.0
    #: what the ban screen counts down from
    ban: float = 86_400.0

    #: between tries to reach a server that went away
    reconnect: float = 0.5
    #: between comments on an idle event stream, so that a dead peer is noticed
    heartbeat: float = 15.0

    def for_page(self) -> dict[str, float]:
        """Return what the page needs to know, in milliseconds by field name."""
        return {name: seconds * 1000 for name, seconds in asdict(self).items()}
