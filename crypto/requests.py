"""API requests: the hash of their key, and their signature."""

import hashlib
import hmac


def hash_key(key: str) -> bytes:
    """Return the SHA-256 of an API key. Keys are 256 random bits, so that a slow hash would add nothing."""
    return hashlib.sha256(key.encode()).digest()


def sign_request(secret: str, timestamp: str, method: str, target: bytes, body: bytes) -> bytes:
    """Return the HMAC-SHA256 of an API request; `target` is path and query as in the request line."""
    content = f"{timestamp}.{method}.".encode() + target + b"." + body
    return hmac.digest(secret.encode(), content, "sha256")
