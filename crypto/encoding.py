"""Bytes as text, and the one error of this package."""

import base64
import binascii


class CryptoError(ValueError):
    """Something cannot be decoded, verified or opened."""


def encode(content: bytes) -> str:
    """Return standard base64 with its padding (RFC 4648, 4)."""
    return base64.b64encode(content).decode()


def decode(text: str) -> bytes | None:
    """Return the bytes of standard base64 with its padding, or None for any other text."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
