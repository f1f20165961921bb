"""Files with a detached signature: Ed25519 (RFC 8032)."""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from crypto.encoding import CryptoError, decode, encode

KEY, SIGNATURE = 32, 64  # bytes of an Ed25519 key and of its signatures; RFC 8032, 5.1


def new_signing_key() -> tuple[str, str]:
    """Make an Ed25519 key; return its private and its public half, 32 bytes each, in base64."""
    key = Ed25519PrivateKey.generate()
    return encode(key.private_bytes_raw()), encode(key.public_key().public_bytes_raw())


def sign_file(private: str, content: bytes) -> str:
    """Return the detached signature of exactly these bytes in base64; raises CryptoError for an invalid private key."""
    key = Ed25519PrivateKey.from_private_bytes(_decode(private, KEY, "a private key"))
    return encode(key.sign(content))


def verify_file(public: str, signature: str, content: bytes) -> None:
    """Raise CryptoError unless `signature`, detached and in base64, is the key's signature of exactly these bytes."""
    key = read_public_key(public)
    try:
        key.verify(_decode(signature, SIGNATURE, "a signature"), content)
    except InvalidSignature:
        raise CryptoError("the signature does not fit the content and the key") from None


def read_public_key(public: str) -> Ed25519PublicKey:
    """Read an Ed25519 public key in base64; raises CryptoError."""
    return Ed25519PublicKey.from_public_bytes(_decode(public, KEY, "a public key"))


def _decode(text: str, size: int, what: str) -> bytes:
    content = decode(text.strip())
    if content is None:
        raise CryptoError(f"{what} must be base64")
    if len(content) != size:
        raise CryptoError(f"{what} is {size} bytes in base64, not {len(content)}")
    return content
