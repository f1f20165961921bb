"""Telling people something on standard output, for as long as somebody is there."""

import os
import sys


def tell(text: str) -> None:
    """Print a text at once; nothing happens where the terminal has been closed, or the pipe."""
    try:
        print(text, flush=True)  # noqa: T201  # a command prints
    except OSError:
        # What is left in the buffer goes nowhere, or it would fail once more at the interpreter's end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
