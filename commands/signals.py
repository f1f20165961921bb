"""What tells a process of ours to stop: signals, and the end of standard input."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable

from sql import embedded

log = logging.getLogger(__name__)

LAST = 60  # seconds that a process whose standard input has ended is given to stop


def _die() -> None:
    embedded.leave()
    os._exit(1)


def on_signals(again: Callable[[], None] = _die) -> asyncio.Event:
    """Return an event that SIGINT, SIGTERM and SIGHUP set; what a second Ctrl-C does is `again`: end at once.

    Only Ctrl-C is pressed twice by people: service managers and `make` pass on a SIGTERM that each process gets anyway,
    and shells a SIGHUP. One that is ignored, as under nohup, stays so.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def told(number: signal.Signals) -> None:
        if number is signal.SIGINT and stop.is_set():
            again()
        log.info("%s: stopping", number.name, extra={"event": "process.stopping"})
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, told, number)
    return stop


def on_stdin_ended(stop: Callable[[], None]) -> None:
    """Call `stop` when standard input ends: a pipe, held open by whoever started this process for as long as they live.

    Nobody is left then to kill a process that does not stop, so it is ended by the clock.
    """
    loop = asyncio.get_running_loop()

    def read() -> None:
        if not os.read(0, 4096):
            loop.remove_reader(0)
            log.info("whoever started this process has ended, and so it ends too", extra={"event": "parent.ended"})
            signal.alarm(LAST)
            stop()

    loop.add_reader(0, read)
