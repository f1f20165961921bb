"""`postrider orgs`: create and list the orgs; and which org a command is about."""

import asyncio

from api.http.json_body import check
from api.operator.orgs import CreatedOrg, NewOrg, made
from commands import environment
from errors import Invalid, OperatorError
from settings import Settings
from sql.database import Database
from sql.roles import Role

MOST = 1000  # orgs that are read at once


def create(settings: Settings, name: str) -> int:
    """Create an org, and print it with its first key, once. Raises OperatorError for a name that no org may have."""
    try:
        given = check(NewOrg, {"name": name})
    except Invalid as error:
        raise OperatorError(error.detail) from None
    url = environment.ready_database_url(settings, Role.WORKER)

    async def run() -> CreatedOrg:
        async with Database(url, Role.WORKER, size=1) as database:
            return await made(database, given)

    org = asyncio.run(run())
    print(f"org     {org.id}\nkey     {org.key}")  # noqa: T201
    print("Store the key now: it is not shown again.")  # noqa: T201
    return 0


def show(settings: Settings) -> int:
    """Print a line for every org."""
    url = environment.ready_database_url(settings, Role.WORKER)

    async def run() -> None:
        place = {"after_at": "-infinity", "after_id": ""}
        async with Database(url, Role.WORKER, size=1) as database:
            while rows := await database.all("list_orgs", **place, limit=MOST):
                for row in rows:
                    has = f"{row['accounts']:>6} accounts {row['endpoints']:>6} webhooks {row['keys']:>4} keys"
                    stopped = "  paused" if row["paused"] else ""
                    print(f"{row['id']:31} {row['name']:20} {row['created_at']:%Y-%m-%d %H:%M} {has}{stopped}")  # noqa: T201
                place = {"after_at": rows[-1]["created_at"], "after_id": rows[-1]["id"]}

    asyncio.run(run())
    return 0


async def chosen(database: Database, org: str | None) -> str:
    """Return the org that is named, or the only one. Raises OperatorError."""
    rows = await database.all("find_orgs", org=org)
    if not rows:
        raise OperatorError(f"There is no org {org}: see `postrider orgs list`.")
    if len(rows) > 1:
        raise OperatorError("There are several orgs: name one with --org, see `postrider orgs list`.")
    return str(rows[0]["org_id"])
