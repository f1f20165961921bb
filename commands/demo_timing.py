"""Short waiting times for the demo and for tests, whose pages are the sandbox's: no server of WhatsApp is slow."""

from browser.page.reader import Patience
from browser.sandbox.timing import Timing

#: Lifetimes of codes, ticks of recipients and delays of misbehaving numbers are the defaults; everything else is short.
TIMING = Timing(
    qr_wait=0.02,
    sent=0.05,
    startup=0.02,
    syncing=0.06,
    long_syncing=1.0,
    lookup=0.03,
    popup_after=0.02,
    popup_stay=0.05,
    whats_new=0.03,
    drawn=0.03,
    late_news=0.03,
    mutex=0.5,
    offline=2.0,
    reconnect=0.1,
)
#: Timeouts are long, since a machine may be busy; pauses are short, since the sandbox is fast.
PATIENCE = Patience(
    answer=8.0, boot=60.0, chat=60.0, quiet=0.3, arrival=0.5, search=0.3, doubt=1.0, unknown=2.0, poll=0.1,
    taken=1.0, settle=0.5, status=3.0, again=1.0,
)  # fmt: skip
