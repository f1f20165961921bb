"""Draws QR codes.

A drawing takes 13 ms, in which the API does nothing else, and each open page asks for its code once a second: so each
code is drawn once.
"""

import io
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import segno

SCALE = 8  # pixels of a module
RECENT = 128  # drawings that are kept, of each form; a code is shown for 20 to 60 seconds


@lru_cache(RECENT)
def png(code: str) -> bytes:
    """Draw it as a PNG."""
    picture = io.BytesIO()
    _drawn(code).save(picture, kind="png", scale=SCALE)
    return picture.getvalue()


@lru_cache(RECENT)
def svg(code: str) -> bytes:
    """Draw it as an SVG."""
    picture = io.BytesIO()
    _drawn(code).save(picture, kind="svg", scale=SCALE)
    return picture.getvalue()


@lru_cache(RECENT)
def data_url(code: str) -> str:
    """Draw it as an SVG on white, in a `data:` URL."""
    return _drawn(code).svg_data_uri(light="#fff")


@lru_cache(RECENT)
def text(code: str) -> str:
    """Draw it with half blocks, for a terminal with light text on a dark background."""
    picture = io.StringIO()
    _drawn(code).terminal(picture, compact=True)
    return picture.getvalue()


def _drawn(code: str) -> "segno.QRCode":
    # Imported here, since most API processes never draw one.
    import segno  # noqa: PLC0415

    return segno.make_qr(code)
