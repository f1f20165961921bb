"""Authentication: called in the first line of every handler that is not public, or by `retried_transaction`."""

import hmac
import re
from dataclasses import dataclass, field
from functools import cached_property

from starlette.requests import Request

from api.http.context import Context, of
from api.http.headers import header
from api.http.json_body import raw
from api.http.key_cache import Key
from api.http.unsealing import unseal
from crypto import hash_key, sign_request
from errors import Forbidden, Unauthorized
from logs import bind_more
from sql.database import Database

READING = {"GET", "HEAD"}  # methods that change nothing and need no signature
OLDEST, NEWEST = 30, -5  # seconds of age that a signed request's x-timestamp may have

SPENT = "This signature was used before; sign each request anew."

ADMIN = "admin"  # logged as the key's id for ADMIN_KEY

TIMESTAMP = re.compile(r"[0-9]{1,12}")
SIGNATURE = re.compile(r"[0-9a-fA-F]{64}")


@dataclass(frozen=True)
class Caller:
    """The key that a request was made with, and the org that it acts for."""

    key_id: str
    #: SHA-256 of the key
    key_hash: bytes
    org: str
    context: Context = field(repr=False)

    @cached_property
    def database(self) -> Database:
        """The database as this caller may see it: the only way to the rows of an org."""
        return self.context.database.of(self.org, actor=f"key:{self.key_id}")

    @cached_property
    def reading(self) -> Database:
        """The same for lists, which may be slow."""
        return self.context.reading.of(self.org, actor=f"key:{self.key_id}")


async def permit(request: Request) -> Caller:
    """Authenticate the caller. Raises Unauthorized, TooManyRequests, EncryptionKeyMissing, DatabaseBusy."""
    # What changes something is not for a key that was revoked a moment ago.
    caller, signature = await authenticate(request, anew=request.method not in READING)
    of(request).database.admit()
    if signature and await caller.database.one("accept_signature", signature=signature) is None:
        raise Unauthorized(SPENT)
    return caller


async def authenticate(request: Request, *, anew: bool = False) -> tuple[Caller, bytes | None]:
    """Return the caller, and the signature of the request if there must be one, which nobody may have used before.

    Unless `anew`, the key may have been revoked a second ago.

    Raises Unauthorized, TooManyRequests, EncryptionKeyMissing, DatabaseBusy.
    """
    context = of(request)
    limits = context.rate_limit
    address = limits.address_of(request)
    limits.check_address(address)
    key = await context.keys.get(hash_key(header(request.scope, b"x-api-key")), anew=anew)
    if key is None:
        limits.count_address(address)
        raise Unauthorized
    bind_more(key_id=key.id, org=key.org)
    # The key first, then the org: what one has too much does not count for the others behind it.
    limits.count_key(key.id)
    limits.count_org(key.org)
    limits.count_address(address)
    sealed = None if request.method in READING else key.signing_secret
    signature = await _signature(context, request, key, sealed) if sealed else None
    return Caller(key.id, key.hash, key.org, context), signature


async def permit_admin(request: Request) -> None:
    """Require ADMIN_KEY, which acts for no single org. Raises Unauthorized, Forbidden, TooManyRequests."""
    context = of(request)
    context.rate_limit.count_client(request)
    check_admin(request, context.admin)
    bind_more(key_id=ADMIN)


def check_admin(request: Request, admin: bytes | None) -> None:
    """Require the ADMIN_KEY that has the SHA-256 `admin`. Raises Unauthorized, Forbidden."""
    if admin is None:
        raise Forbidden(f"Nobody may call {request.url.path}: ADMIN_KEY is not set. Set it and start again.")
    if not hmac.compare_digest(admin, hash_key(header(request.scope, b"x-admin-key"))):
        raise Unauthorized("The header x-admin-key is missing or is not ADMIN_KEY.")


async def _signature(context: Context, request: Request, key: Key, sealed: bytes) -> bytes:
    """Return the signature of a request. Raises Unauthorized when it does not fit."""
    timestamp, given = (header(request.scope, name) for name in (b"x-timestamp", b"x-signature"))
    if not TIMESTAMP.fullmatch(timestamp) or not SIGNATURE.fullmatch(given):
        raise Unauthorized("This key's requests must be signed: x-timestamp in unix seconds, x-signature in hex.")
    if not NEWEST <= key.database_time().timestamp() - int(timestamp) <= OLDEST:
        raise Unauthorized(f"x-timestamp must be at most {OLDEST} s old and {-NEWEST} s ahead.")
    secret = unseal(context.sealer, sealed, key.id)
    ours = sign_request(secret, timestamp, request.method, _target(request), await raw(request))
    signature = bytes.fromhex(given)
    if not hmac.compare_digest(ours, signature):
        raise Unauthorized("x-signature does not fit this request.")
    return signature


def _target(request: Request) -> bytes:
    """Return path and query as in the request line."""
    path: bytes = request.scope["raw_path"]
    query: bytes = request.scope["query_string"]
    return path + b"?" + query if query else path
