"""How a process is told to stop: by signals, or by the end of its standard input."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable

log = logging.getLogger(__name__)

STOP_SECONDS = 60  # for a process whose standard input has ended; then it is killed


def _die() -> None:
    # Only a process that started the embedded Postgres has loaded this.
    if embedded := sys.modules.get("sql.embedded"):
        embedded.leave()
    os._exit(1)


def on_signals(again: Callable[[], None] = _die) -> asyncio.Event:
    """Return an event that SIGINT, SIGTERM and SIGHUP set; a second Ctrl-C calls `again`, which ends at once.

    Only a second Ctrl-C comes from a person: service managers and `make` send a SIGTERM that each process gets anyway,
    and shells a SIGHUP. A SIGHUP that is ignored, as under nohup, stays ignored.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop_on(number: signal.Signals) -> None:
        if number is signal.SIGINT and stop.is_set():
            again()
        log.info("%s: stopping", number.name, extra={"event": "process.stopping"})
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, stop_on, number)
    return stop


def on_stdin_ended(stop: Callable[[], None]) -> None:
    """Call `stop` when standard input ends: a pipe that the parent process holds open for as long as it lives.

    Then no parent is left to kill a process that does not stop, so an alarm does it.
    """
    loop = asyncio.get_running_loop()

    def read() -> None:
        if not os.read(0, 4096):
            loop.remove_reader(0)
            log.info("the parent process has ended: stopping", extra={"event": "parent.ended"})
            signal.alarm(STOP_SECONDS)
            stop()

    loop.add_reader(0, read)
