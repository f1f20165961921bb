"""Signing (webhooks, API requests, files), hashing (API keys), sealing (secrets, profiles). Pure.

Callers pass the time.
"""

from crypto.encoding import CryptoError
from crypto.files import new_signing_key, read_public_key, sign_file, verify_file
from crypto.keys import WEBHOOK_PREFIX, decode_secret, new_secret, new_webhook_keys
from crypto.requests import hash_key, sign_request
from crypto.sealing import HEAD, Sealer, from_text, to_text
from crypto.webhooks import TOLERANCE, sign, sign_all, verify

__all__ = [
    "HEAD",
    "TOLERANCE",
    "WEBHOOK_PREFIX",
    "CryptoError",
    "Sealer",
    "decode_secret",
    "from_text",
    "hash_key",
    "new_secret",
    "new_signing_key",
    "new_webhook_keys",
    "read_public_key",
    "sign",
    "sign_all",
    "sign_file",
    "sign_request",
    "to_text",
    "verify",
    "verify_file",
]
