"""Verify a webhook by Standard Webhooks 1.0.0. For v1a: pip install cryptography."""

import base64
import hmac
import re
import time
from collections.abc import Mapping, Sequence

TOLERANCE = 300  # seconds
SHORTEST = 24  # bytes of a secret: with an empty one anybody could sign


def verify(keys: Sequence[str], headers: Mapping[str, str], body: bytes, now: float | None = None) -> None:
    """Raise ValueError unless the request was signed with one of your keys, within the last five minutes.

    `keys` are secrets (whsec_…) or public keys (whpk_…), `headers` have lower-case names, `body` is the raw bytes.
    """
    stamp = headers.get("webhook-timestamp", "")
    if not re.fullmatch("[0-9]{1,12}", stamp) or abs((now or time.time()) - int(stamp)) > TOLERANCE:
        raise ValueError("webhook-timestamp is missing, or too far from now")
    content = f"{headers.get('webhook-id', '')}.{stamp}.".encode() + body
    signatures = headers.get("webhook-signature", "").split(" ")
    if not any(fits(key, signature, content) for key in keys for signature in signatures):
        raise ValueError("no signature in webhook-signature fits")


def fits(key: str, signature: str, content: bytes) -> bool:
    """Tell whether a signature was made with this key."""
    scheme, _, text = signature.partition(",")
    if scheme == "v1" and key.startswith("whsec_"):
        secret = base64.b64decode(key.removeprefix("whsec_"), validate=True)
        if len(secret) < SHORTEST:
            raise ValueError("a secret is whsec_ and base64 of 24 bytes or more")
        expected = base64.b64encode(hmac.digest(secret, content, "sha256"))
        return hmac.compare_digest(expected, text.encode())
    if scheme == "v1a" and key.startswith("whpk_"):
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        public = Ed25519PublicKey.from_public_bytes(base64.b64decode(key.removeprefix("whpk_"), validate=True))
        try:
            public.verify(base64.b64decode(text, validate=True), content)
        except (InvalidSignature, ValueError):
            return False
        return True
    return False
