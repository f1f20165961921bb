"""Headers of a request, read from the list that the server gives, without the mapping that Starlette makes of it."""

from starlette.types import Scope


def header(scope: Scope, name: bytes) -> str:
    """Return the first header of that name, which is in lower case; empty if there is none."""
    return next((value.decode("latin-1") for each, value in scope["headers"] if each == name), "")
