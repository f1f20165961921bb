"""Webhooks: signatures by Standard Webhooks 1.0.0, `v1` (HMAC-SHA256) and `v1a` (Ed25519).

The signed content is `{webhook-id}.{webhook-timestamp}.{body}`, the body byte for byte as it is sent.
"""

import hmac
import re
from collections.abc import Sequence

from cryptography.exceptions import InvalidSignature

from crypto.encoding import CryptoError, decode, encode
from crypto.keys import PRIVATE_PREFIX, PUBLIC_PREFIX, decode_private, decode_public, decode_secret

TOLERANCE = 300  # seconds that a webhook's timestamp may be off, either way; what all libraries of the standard use


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """Return the signature of exactly these bytes: `v1,…` with a `whsec_…` secret, `v1a,…` with a `whsk_…` key."""
    content = _content(message_id, timestamp, body)
    if secret.startswith(PRIVATE_PREFIX):
        return "v1a," + encode(decode_private(secret).sign(content))
    return "v1," + encode(hmac.digest(decode_secret(secret), content, "sha256"))


def sign_all(secrets: Sequence[str], message_id: str, timestamp: int, body: bytes) -> str:
    """Return the header webhook-signature: the signatures of all secrets, in their order, with a space between."""
    return " ".join(sign(secret, message_id, timestamp, body) for secret in secrets)


def verify(keys: Sequence[str], message_id: str, timestamp: str, signatures: str, body: bytes, *, now: float) -> None:
    """Raise CryptoError unless one of the space-delimited signatures fits one of `keys`: `whsec_…` or `whpk_…`.

    `timestamp` and `signatures` are the headers as they came, `now` is unix seconds. Signatures of unknown schemes, and
    anything else in the list, are ignored.

    """
    if not re.fullmatch(r"[0-9]{1,12}", timestamp):
        raise CryptoError("webhook-timestamp must be unix seconds")
    if abs(now - int(timestamp)) > TOLERANCE:
        raise CryptoError(f"webhook-timestamp is more than {TOLERANCE} s from now")
    given = signatures.split(" ")
    content = _content(message_id, int(timestamp), body)
    if not any(_fits(key, signature, content) for key in keys for signature in given):
        raise CryptoError("no signature in webhook-signature fits")


def _fits(key: str, signature: str, content: bytes) -> bool:
    if not key.startswith(PUBLIC_PREFIX):
        expected = "v1," + encode(hmac.digest(decode_secret(key), content, "sha256"))
        return hmac.compare_digest(expected.encode(), signature.encode())
    public = decode_public(key)
    scheme, _, text = signature.partition(",")
    given = decode(text)
    if scheme != "v1a" or given is None:
        return False
    try:
        public.verify(given, content)
    except InvalidSignature:
        return False
    return True


def _content(message_id: str, timestamp: int, body: bytes) -> bytes:
    return f"{message_id}.{timestamp}.".encode() + body
