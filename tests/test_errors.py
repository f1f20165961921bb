"""The tree of errors: its picture names each of them."""

import re
from collections.abc import Iterator

import app
import errors
from wiring import sandbox, sessions, webhooks, worker

#: Loaded for the errors of their own that they bring.
LOADED = app, sandbox, sessions, webhooks, worker


def below(kind: type[errors.PostriderError]) -> Iterator[type[errors.PostriderError]]:
    for found in kind.__subclasses__():
        yield found
        yield from below(found)


def test_the_picture_has_every_error() -> None:
    assert LOADED
    made = {kind.__name__ for kind in below(errors.PostriderError) if not kind.__module__.startswith("test")}
    drawn = set(re.findall(r"\b[A-Z][a-z]+[A-Z]?\w*", (errors.__doc__ or "").partition("A class docstring")[0]))
    assert made - drawn == set()
