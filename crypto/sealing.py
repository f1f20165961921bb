"""Sealing: encryption of data at rest, with AES-256-GCM."""

import base64
import binascii
import hmac
import secrets
from collections.abc import Sequence
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from crypto.encoding import CryptoError

SEALED = b"\x01"  # first byte of sealed data: the version of this layout; then nonce, ciphertext and tag
NONCE = 12  # bytes; NIST SP 800-38D, 8.2.2
TAG = 16  # bytes
HEAD = len(SEALED) + NONCE + TAG  # bytes of the shortest sealed data; the first HEAD bytes of any are unique (nonce)
FIRST_BLOCK = b"\0\0\0\2"  # the counter of the first block of ciphertext; SP 800-38D, 7.1

FINGERPRINT = 8  # bytes
ABOUT_FINGERPRINTS = b"postrider: fingerprint of an encryption key"

PREFIX = "sealed:"


def to_text(sealed: bytes) -> str:
    """Encode sealed bytes as text, for JSON."""
    return PREFIX + base64.b64encode(sealed).decode()


def from_text(text: str) -> bytes | None:
    """Return the sealed bytes in a text from `to_text`; None for any other text. Raises CryptoError."""
    if not text.startswith(PREFIX):
        return None
    try:
        return base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        raise CryptoError(f"what follows {PREFIX} must be base64 with its padding") from None


def fingerprint(key: bytes) -> str:
    """Return a name of a key that reveals nothing about it: 64 bits of an HMAC under the key, in hex."""
    return hmac.digest(key, ABOUT_FINGERPRINTS, "sha256")[:FINGERPRINT].hex()


class Sealer:
    """AES-256-GCM with a fresh nonce each time. The first key seals, all open, so that keys can be rotated."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys:
            raise CryptoError("at least one encryption key is needed")
        self._keys = tuple(keys)
        self._ciphers = [AESGCM(key) for key in keys]
        #: of its keys, in their order
        self.fingerprints = [fingerprint(key) for key in keys]

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read the keys as the setting ENCRYPTION_KEY has them: base64, comma-separated."""
        return cls([base64.b64decode(part.strip(), validate=True) for part in text.split(",")])

    def seal(self, plain: bytes, about: bytes) -> bytes:
        """Encrypt. `about` is the associated data, such as the id of the row; `open` needs the same."""
        nonce = secrets.token_bytes(NONCE)
        return SEALED + nonce + self._ciphers[0].encrypt(nonce, plain, about)

    def open(self, sealed: bytes, about: bytes) -> bytes:
        """Decrypt; raises CryptoError when no key fits, or when the data or `about` has changed."""
        return self._open(sealed, about)[0]

    def renew(self, sealed: bytes, about: bytes) -> bytes | None:
        """Seal again with the first key; return None if that key has sealed it. Raises CryptoError as `open`."""
        plain, place = self._open(sealed, about)
        return self.seal(plain, about) if place else None

    def _open(self, sealed: bytes, about: bytes) -> tuple[bytes, int]:
        if sealed[:1] != SEALED or len(sealed) < HEAD:
            raise CryptoError("this was not sealed by Postrider")
        nonce, text = sealed[1 : 1 + NONCE], sealed[1 + NONCE :]
        for place, cipher in enumerate(self._ciphers):
            try:
                return cipher.decrypt(nonce, text, about), place
            except InvalidTag:
                continue
        raise CryptoError("it does not open: ENCRYPTION_KEY lacks its key, or it was changed or moved")

    def place_of(self, head: bytes, beginning: bytes) -> int | None:
        """Return the index of the key that sealed data whose plaintext starts with `beginning`; None if no key did.

        `head` are the first bytes of the sealed data: large data need not be read as a whole. This proves only that
        the key fits; whether the data was changed is proved by `open`.
        """
        nonce, text = head[1 : 1 + NONCE], head[1 + NONCE :][: len(beginning)]
        if head[:1] != SEALED or len(text) < len(beginning):
            return None
        for place, key in enumerate(self._keys):
            if Cipher(algorithms.AES(key), modes.CTR(nonce + FIRST_BLOCK)).decryptor().update(text) == beginning:
                return place
        return None
