"""The key and the endpoint of the settings: ordinary rows, brought in line with the settings at every start."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from psycopg.errors import UniqueViolation

from api.http.context import Context
from crypto import hash_key
from errors import DatabaseError, SettingsWrong
from sql.database import Row, Transaction

log = logging.getLogger(__name__)

KEY, ENDPOINT, ORG = "key_bootstrap", "whe_bootstrap", "org_default"
RETRY_SECONDS = 1.0  # between tries while the database is away


@dataclass(frozen=True)
class Bootstrap:
    """API_KEY, API_SECRET, WEBHOOK_URL and WEBHOOK_SECRET; without a key or URL, its row is revoked or deleted."""

    api_key: str | None = field(repr=False)
    api_secret: str | None = field(repr=False)
    webhook_url: str | None
    webhook_secret: str | None = field(repr=False)


@contextlib.asynccontextmanager
async def kept(context: Context, bootstrap: Bootstrap) -> AsyncIterator[None]:
    """Write the rows; while the database is away, try again in the background until it is there.

    Raises SettingsWrong when API_KEY was made by `postrider keys create`.
    """
    if await _written(context, bootstrap):
        yield
        return
    task = asyncio.create_task(_write_later(context, bootstrap))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _write_later(context: Context, bootstrap: Bootstrap) -> None:
    try:
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            if await _written(context, bootstrap):
                return
    except SettingsWrong as error:
        log.error(error.detail, extra={"event": "bootstrap.failed"})  # noqa: TRY400  # the error's text is enough
    except Exception:
        log.exception(
            "the key and the webhook of the settings could not be written", extra={"event": "bootstrap.failed"}
        )
        raise


async def _written(context: Context, bootstrap: Bootstrap) -> bool:
    try:
        await context.database.of(ORG, actor="settings").transact(lambda tx: _write(context, tx, bootstrap))
    except DatabaseError:
        return False
    except UniqueViolation:
        # Of the keys' hashes, which are unique over all orgs; `other_key` sees those of this one.
        raise SettingsWrong(
            "API_KEY is a key of another org, see `postrider keys list`: set another API_KEY."
        ) from None
    return True


async def _write(context: Context, tx: Transaction, bootstrap: Bootstrap) -> None:
    if bootstrap.api_key is None:
        await tx.all("revoke_bootstrap_key")
    else:
        hashed = hash_key(bootstrap.api_key)
        if other := await tx.one("other_key", hash=hashed):
            raise SettingsWrong(_taken(other))
        secret = bootstrap.api_secret and context.sealer.seal(bootstrap.api_secret.encode(), KEY.encode())
        await tx.all("put_bootstrap_key", hash=hashed, signing_secret=secret)
    if bootstrap.webhook_url is None or bootstrap.webhook_secret is None:
        await tx.all("delete_endpoint", endpoint=ENDPOINT)
    else:
        sealed = context.sealer.seal(bootstrap.webhook_secret.encode(), ENDPOINT.encode())
        await tx.all("put_bootstrap_endpoint", url=bootstrap.webhook_url, secret=sealed)


def _taken(other: Row) -> str:
    """Explain why API_KEY is refused: one key cannot be managed both by the settings and by `postrider keys`."""
    made = f"the key {other['id']} ({other['name']}) of `postrider keys create`"
    if other["revoked"]:
        return f"API_KEY is {made}, which was revoked: set another API_KEY."
    return f"API_KEY is {made}, which works by itself: set another API_KEY, and leave that one to its owner."
