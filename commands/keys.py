"""`postrider keys`: create, list and revoke the keys of the HTTP API."""

import asyncio
from collections.abc import Awaitable, Callable

from api.operator import bootstrap
from commands import environment
from commands.orgs import chosen
from crypto import hash_key, new_secret
from errors import OperatorError
from settings import Settings
from sql.database import Database
from sql.ids import new_id
from sql.roles import Role
from sql.sealing import admit
from wiring import shared


def _run(settings: Settings, work: Callable[[Database], Awaitable[None]]) -> int:
    url = environment.ready_database_url(settings, Role.WORKER)

    async def run() -> None:
        async with Database(url, Role.WORKER, size=1) as database:
            await work(database)

    asyncio.run(run())
    return 0


def create(settings: Settings, name: str, *, signed: bool, org: str | None = None) -> int:
    """Create a key of an org and print it, once; with `signed`, also the secret for signing its requests."""

    async def work(database: Database) -> None:
        key_id, key = new_id("key_"), new_secret("key_")
        secret = new_secret("sec_") if signed else None
        sealer = shared.sealer(settings)
        sealed = sealer.seal(secret.encode(), key_id.encode()) if secret else None
        owner = await chosen(database, org)
        async with database.transaction() as tx:
            if sealed:
                await admit(tx, sealer.fingerprints)
            await tx.all("create_key", id=key_id, org=owner, name=name, hash=hash_key(key), signing_secret=sealed)
        print(f"id      {key_id}\nkey     {key}" + (f"\nsecret  {secret}" if secret else ""))  # noqa: T201
        print("Store it now: it is not shown again.")  # noqa: T201

    return _run(settings, work)


def show(settings: Settings) -> int:
    """Print a line for every key, without its value."""

    async def work(database: Database) -> None:
        for row in await database.all("list_keys"):
            state = f"revoked {row['revoked_at']:%Y-%m-%d}" if row["revoked_at"] else "valid"
            signs = "signed" if row["signs"] else ""
            said = f"{row['name']:20} {row['created_at']:%Y-%m-%d %H:%M} {state:20} {signs}"
            print(f"{row['id']:31} {row['org_id']:31} {said}")  # noqa: T201

    return _run(settings, work)


def revoke(settings: Settings, key_id: str) -> int:
    """Revoke a key. Raises OperatorError for API_KEY, which the next start of an API would make valid again."""

    async def work(database: Database) -> None:
        if key_id == bootstrap.KEY:
            raise OperatorError(
                f"{key_id} is the key of the setting API_KEY, and every API that starts makes it valid again: "
                f"{_end(settings)}, and restart every API."
            )
        if not await database.all("revoke_key", id=key_id):
            raise OperatorError(f"There is no valid key {key_id}: see `postrider keys list`.")
        print(f"{key_id} is revoked.")  # noqa: T201

    return _run(settings, work)


def _end(settings: Settings) -> str:
    """Return how to change the key of the settings."""
    kept = settings.data_dir / "api_key"
    key = settings.api_key and settings.api_key.get_secret_value()
    if not settings.production and kept.exists() and kept.read_text().strip() == key:
        return f"it was generated, so delete {kept}"
    return "change API_KEY" if settings.production else "change or remove API_KEY"
