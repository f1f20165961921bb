"""The pace of the demo and of tests, whose pages are the sandbox's: none of them waits for WhatsApp's servers."""

from browser.page.reader import Patience
from browser.sandbox.timing import Timing

#: The lives of codes, the ticks of recipients and what a misbehaving number takes are as shipped; all else is short.
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
#: Bounds are ample, since a machine may be busy; what is waited for each time is short, since the sandbox is quick.
PATIENCE = Patience(
    answer=8.0, boot=60.0, chat=60.0, quiet=0.3, arrival=0.5, search=0.3, doubt=1.0, unknown=2.0, poll=0.1,
    taken=1.0, settle=0.5, status=3.0, again=1.0,
)  # fmt: skip
