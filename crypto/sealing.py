"""What is at rest: AES-256-GCM."""

import base64
import secrets
from collections.abc import Sequence
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from crypto.encoding import CryptoError

SEALED = b"\x01"  # first byte of what is sealed: the version of this layout, then nonce, ciphertext and tag
NONCE = 12  # bytes; NIST SP 800-38D, 8.2.2
TAG = 16  # bytes


PREFIX = "sealed:"


def to_text(sealed: bytes) -> str:
    """Return what is sealed as text, for a place among others that is none of bytes."""
    return PREFIX + base64.b64encode(sealed).decode()


def from_text(text: str) -> bytes | None:
    """Return what is sealed in a text; None for one that is not."""
    return base64.b64decode(text.removeprefix(PREFIX), validate=True) if text.startswith(PREFIX) else None


class Sealer:
    """AES-256-GCM with a fresh nonce each time. The first key seals, all open, so that keys can be rotated."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys:
            raise CryptoError("at least one encryption key is needed")
        self._ciphers = [AESGCM(key) for key in keys]

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read the keys as the setting ENCRYPTION_KEY has them: base64, comma-separated."""
        return cls([base64.b64decode(part.strip(), validate=True) for part in text.split(",")])

    def seal(self, plain: bytes, about: bytes) -> bytes:
        """Encrypt, bound to `about`: what it belongs to, such as the id of its row. It opens with the same only."""
        nonce = secrets.token_bytes(NONCE)
        return SEALED + nonce + self._ciphers[0].encrypt(nonce, plain, about)

    def open(self, sealed: bytes, about: bytes) -> bytes:
        """Decrypt; raises CryptoError when no key fits or a byte of it, or what it belongs to, has changed."""
        if sealed[:1] != SEALED or len(sealed) < len(SEALED) + NONCE + TAG:
            raise CryptoError("this was not sealed by Postrider")
        nonce, text = sealed[1 : 1 + NONCE], sealed[1 + NONCE :]
        for cipher in self._ciphers:
            try:
                return cipher.decrypt(nonce, text, about)
            except InvalidTag:
                continue
        raise CryptoError("it does not open: ENCRYPTION_KEY lacks its key, or it was changed or moved")
