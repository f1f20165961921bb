"""Signing (webhooks, API requests, files), hashing (API keys), sealing (secrets, profiles). Pure.

The clock is handed in.
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from typing import Self

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

WEBHOOK_PREFIX = "whsec_"  # Standard Webhooks 1.0.0, "Secret serialization"
MIN_SECRET, MAX_SECRET = 24, 64  # bytes of a webhook secret, by the same specification
NEW_SECRET = 32  # bytes of a secret made here
TOLERANCE = 300  # seconds that a webhook's timestamp may be off, either way; what all libraries of the standard use

SEALED = b"\x01"  # first byte of what is sealed: the version of this layout, then nonce, ciphertext and tag
NONCE = 12  # bytes; NIST SP 800-38D, 8.2.2
TAG = 16  # bytes

KEY, SIGNATURE = 32, 64  # bytes of an Ed25519 key and of its signatures; RFC 8032, 5.1


class CryptoError(ValueError):
    """Something cannot be decoded, verified or opened."""


# --- secrets -----------------------------------------------------------------------------------------------------


def new_secret(prefix: str) -> str:
    """Make a secret of 256 random bits: `whsec_…`, or `key_…` for an API key."""
    return prefix + base64.b64encode(secrets.token_bytes(NEW_SECRET)).decode()


def decode_secret(secret: str) -> bytes:
    """Return the bytes of a `whsec_…` secret; raises CryptoError, never showing it."""
    if not secret.startswith(WEBHOOK_PREFIX):
        raise CryptoError(f"a webhook secret begins with {WEBHOOK_PREFIX}")
    try:
        key = base64.b64decode(secret.removeprefix(WEBHOOK_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise CryptoError(f"what follows {WEBHOOK_PREFIX} must be base64 with its padding") from None
    if not MIN_SECRET <= len(key) <= MAX_SECRET:
        raise CryptoError(f"a webhook secret holds {MIN_SECRET} to {MAX_SECRET} bytes, not {len(key)}")
    return key


def hash_key(key: str) -> bytes:
    """Return the SHA-256 of an API key. Keys are 256 random bits, so that a slow hash would add nothing."""
    return hashlib.sha256(key.encode()).digest()


# --- webhooks ----------------------------------------------------------------------------------------------------


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """Return `v1,…`, the signature of exactly these bytes by Standard Webhooks 1.0.0."""
    content = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(decode_secret(secret), content, "sha256")).decode()


def verify(keys: Sequence[str], message_id: str, timestamp: str, signatures: str, body: bytes, *, now: float) -> None:
    """Raise CryptoError unless one of the space-delimited `v1` signatures fits one of the secrets `keys`.

    `timestamp` and `signatures` are the headers as they came, `now` is unix seconds.
    """
    if not re.fullmatch(r"[0-9]{1,12}", timestamp):
        raise CryptoError("webhook-timestamp must be unix seconds")
    if abs(now - int(timestamp)) > TOLERANCE:
        raise CryptoError(f"webhook-timestamp is more than {TOLERANCE} s from now")
    expected = [sign(secret, message_id, int(timestamp), body).encode() for secret in keys]
    given = [signature.encode() for signature in signatures.split(" ")]
    if not any(hmac.compare_digest(ours, theirs) for ours in expected for theirs in given):
        raise CryptoError("no signature in webhook-signature fits")


# --- requests ----------------------------------------------------------------------------------------------------


def sign_request(secret: str, timestamp: str, method: str, target: bytes, body: bytes) -> bytes:
    """Return the HMAC-SHA256 of an API request; `target` is path and query as in the request line."""
    content = f"{timestamp}.{method}.".encode() + target + b"." + body
    return hmac.digest(secret.encode(), content, "sha256")


# --- files -------------------------------------------------------------------------------------------------------


def new_signing_key() -> tuple[str, str]:
    """Make an Ed25519 key (RFC 8032); return its private and its public half, 32 bytes each, in base64."""
    key = Ed25519PrivateKey.generate()
    halves = key.private_bytes_raw(), key.public_key().public_bytes_raw()
    return base64.b64encode(halves[0]).decode(), base64.b64encode(halves[1]).decode()


def sign_file(private: str, content: bytes) -> str:
    """Return the detached signature of exactly these bytes in base64; raises CryptoError for what is no private key."""
    key = Ed25519PrivateKey.from_private_bytes(_decode(private, KEY, "a private key"))
    return base64.b64encode(key.sign(content)).decode()


def verify_file(public: str, signature: str, content: bytes) -> None:
    """Raise CryptoError unless the detached signature in base64 is the key's, of exactly these bytes."""
    key = read_public_key(public)
    try:
        key.verify(_decode(signature, SIGNATURE, "a signature"), content)
    except InvalidSignature:
        raise CryptoError("the signature does not fit the content and the key") from None


def read_public_key(public: str) -> Ed25519PublicKey:
    """Read an Ed25519 public key in base64; raises CryptoError."""
    return Ed25519PublicKey.from_public_bytes(_decode(public, KEY, "a public key"))


def _decode(text: str, size: int, what: str) -> bytes:
    try:
        content = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise CryptoError(f"{what} must be base64") from None
    if len(content) != size:
        raise CryptoError(f"{what} is {size} bytes in base64, not {len(content)}")
    return content


# --- sealing -----------------------------------------------------------------------------------------------------


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
