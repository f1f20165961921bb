"""How long things take. Every figure is in seconds."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Timing:
    """The sandbox's durations, in seconds: WhatsApp's own where the wait itself matters, and short ones elsewhere.

    The lifetimes of QR codes are constants of WhatsApp Web (60 s, then five times 20 s). A cold boot of the real page
    takes 20 to 25 s, which would only cost time here.
    """

    qr_first_life: float = 60.0
    qr_life: float = 20.0
    #: from asking for a QR code to having one; the page shows a spinner meanwhile
    qr_wait: float = 0.1
    #: a pairing code is replaced after `pairing_life`, and expires for good after `pairing_limit` (bundle 2026-04)
    pairing_life: float = 195.0
    pairing_limit: float = 360.0

    #: from a message's arrival at the server to each of its ticks
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
    #: "Starting chat" appears when a lookup takes longer than `popup_after`, and stays for at least `popup_stay`
    popup_after: float = 0.1
    popup_stay: float = 0.2
    #: from the main screen to the dialog "What's new"
    whats_new: float = 0.15
    #: a newly linked device that leaves that dialog open is logged out after this
    unacknowledged: float = 300.0

    #: on a harsh page, from drawing a bubble to storing it
    drawn: float = 0.1
    #: on a harsh page, from the first key to a dialog or a preview
    late_news: float = 0.2
    #: on a harsh page, how long a page that was killed still counts as holding the profile
    mutex: float = 10.0

    #: how long the numbers that misbehave do so
    offline: float = 5.0
    hang: float = 120.0
    #: what the ban screen counts down from
    ban: float = 86_400.0

    #: between attempts to reconnect to a server that is away
    reconnect: float = 0.5
    #: between comments on an idle event stream, so that a dead peer is noticed
    heartbeat: float = 15.0

    def for_page(self) -> dict[str, float]:
        """Return what the page needs to know, in milliseconds by field name."""
        return {name: seconds * 1000 for name, seconds in asdict(self).items()}
