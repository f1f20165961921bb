"""What is sealed, opened for a request."""

import logging

from crypto import CryptoError, Sealer
from errors import EncryptionKeyMissing

log = logging.getLogger(__name__)

LATER = 60.0  # seconds after which a client may ask whether somebody has put the key back


def unseal(sealer: Sealer, sealed: bytes, about: str) -> str:
    """Return what was sealed for `about`. Raises EncryptionKeyMissing."""
    try:
        return sealer.open(sealed, about.encode()).decode()
    except CryptoError as error:
        raise missing(about, error) from error


def missing(about: str, error: CryptoError) -> EncryptionKeyMissing:
    """Return what is answered in place of something that does not open; the log names it."""
    log.error(
        "what is sealed for %s does not open: %s", about, error,
        extra={"event": "secret.unreadable", "about": about, "reason": str(error)},
    )  # fmt: skip
    return EncryptionKeyMissing(retry_after=LATER)
