"""Secrets and keys as people see them: a prefix, and base64 (Standard Webhooks 1.0.0, "Signature scheme").

| prefix | what | bytes |
|---|---|---|
| `whsec_` | secret of `v1` | 24 to 64 |
| `whsk_` | private key of `v1a` | seed and public key, 32 each |
| `whpk_` | public key of `v1a` | 32 |

No error raised here contains the text that was given.
"""

import hmac
import secrets

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from crypto.encoding import CryptoError, decode, encode

WEBHOOK_PREFIX, PRIVATE_PREFIX, PUBLIC_PREFIX = "whsec_", "whsk_", "whpk_"
MIN_SECRET, MAX_SECRET = 24, 64  # bytes of a secret of v1
NEW_SECRET = 32  # bytes of a secret made here
KEY = 32  # bytes of an Ed25519 seed, and of a public key; RFC 8032, 5.1.5


def new_secret(prefix: str) -> str:
    """Make a secret of 256 random bits: `whsec_…`, or `key_…` for an API key."""
    return prefix + encode(secrets.token_bytes(NEW_SECRET))


def new_webhook_keys() -> tuple[str, str]:
    """Make a key of `v1a`; return its private half `whsk_…` and its public one `whpk_…`."""
    key = Ed25519PrivateKey.generate()
    seed, public = key.private_bytes_raw(), key.public_key().public_bytes_raw()
    return PRIVATE_PREFIX + encode(seed + public), PUBLIC_PREFIX + encode(public)


def decode_secret(secret: str) -> bytes:
    """Return the bytes of a `whsec_…` secret; raises CryptoError."""
    key = _bytes(secret, WEBHOOK_PREFIX, "a webhook secret")
    if not MIN_SECRET <= len(key) <= MAX_SECRET:
        raise CryptoError(f"a webhook secret holds {MIN_SECRET} to {MAX_SECRET} bytes, not {len(key)}")
    return key


def decode_private(key: str) -> Ed25519PrivateKey:
    """Read a `whsk_…` key; raises CryptoError, also when its two halves do not belong together."""
    halves = _bytes(key, PRIVATE_PREFIX, "a private key")
    if len(halves) != 2 * KEY:
        raise CryptoError(f"a private key holds {2 * KEY} bytes, its seed and its public key, not {len(halves)}")
    private = Ed25519PrivateKey.from_private_bytes(halves[:KEY])
    if not hmac.compare_digest(private.public_key().public_bytes_raw(), halves[KEY:]):
        raise CryptoError("the public half of this private key belongs to another one")
    return private


def decode_public(key: str) -> Ed25519PublicKey:
    """Read a `whpk_…` key; raises CryptoError."""
    content = _bytes(key, PUBLIC_PREFIX, "a public key")
    if len(content) != KEY:
        raise CryptoError(f"a public key holds {KEY} bytes, not {len(content)}")
    return Ed25519PublicKey.from_public_bytes(content)


def _bytes(text: str, prefix: str, what: str) -> bytes:
    if not text.startswith(prefix):
        raise CryptoError(f"{what} begins with {prefix}")
    content = decode(text.removeprefix(prefix))
    if content is None:
        raise CryptoError(f"what follows {prefix} must be base64 with its padding")
    return content
