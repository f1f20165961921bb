"""Decryption of sealed secrets for a request."""

import logging

from crypto import CryptoError, Sealer
from errors import EncryptionKeyMissing

log = logging.getLogger(__name__)

RETRY_AFTER = 60.0  # seconds; an operator has to put the missing key back


def unseal(sealer: Sealer, sealed: bytes, about: str) -> str:
    """Decrypt a secret that was sealed for `about`. Raises EncryptionKeyMissing."""
    try:
        return sealer.open(sealed, about.encode()).decode()
    except CryptoError as error:
        raise missing(about, error) from error


def missing(about: str, error: CryptoError) -> EncryptionKeyMissing:
    """Log a secret that cannot be decrypted, and return the error to answer with."""
    log.error(
        "the secret sealed for %s cannot be decrypted: %s", about, error,
        extra={"event": "secret.unreadable", "about": about, "reason": str(error)},
    )  # fmt: skip
    return EncryptionKeyMissing(retry_after=RETRY_AFTER)
