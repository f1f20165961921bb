"""Orgs, as the operator sees them: create one, with its first key, and list them."""

from typing import Self

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from api.http.auth import permit_admin
from api.http.context import of
from api.http.json_body import read
from api.http.lists import page_of
from api.http.models import Model, Shown, Time
from api.http.operations import Operation
from api.http.pagination import Cursor, Page
from api.http.query_params import parameters
from api.http.validators import Name
from crypto import hash_key, new_secret
from sql.database import Database, Row
from sql.ids import new_id

FIRST_KEY = "first key"


class NewOrg(Model):
    """A new org."""

    name: Name = Field(description="What people call it.")


class CreatedOrg(Shown):
    """An org and its first key, shown this once."""

    id: str = Field(description="`org_…`.")
    name: str = Field(description="What people call it.")
    key: str = Field(description="Its first key of the HTTP API, shown this once: the header `x-api-key`.")
    created_at: Time = Field(description="When it was created.")


class OrgSummary(Shown):
    """An org, and how much it has."""

    id: str = Field(description="`org_…`.")
    name: str = Field(description="What people call it.")
    paused: bool = Field(description="Whether nothing of it is sent: the operator or the org itself has stopped it.")
    accounts: int = Field(description="Its accounts.")
    endpoints: int = Field(description="Its webhooks.")
    keys: int = Field(description="Its keys that are not revoked.")
    created_at: Time = Field(description="When it was created.")

    @classmethod
    def of(cls, row: Row) -> Self:
        """Make it of a row of list_orgs."""
        return cls.model_validate(row)


class OrgSummaryList(Shown):
    """A page of orgs, oldest first."""

    items: list[OrgSummary] = Field(description="The orgs.")
    next_cursor: Cursor | None = Field(description="`cursor` of the next page; null on the last.")


async def list_orgs(request: Request) -> Response:
    """List the orgs, oldest first."""
    await permit_admin(request)
    page = parameters(request, Page)
    rows = await of(request).reading.all("list_orgs", **page.values(oldest_first=True))
    return page_of(page, rows, OrgSummaryList, OrgSummary.of)


async def create_org(request: Request) -> Response:
    """Create an org with its first key.

    It sees nothing of other orgs, and they see nothing of it.
    """
    await permit_admin(request)
    given = await read(request, NewOrg)
    return (await made(of(request).database, given)).answer(201)


async def made(database: Database, given: NewOrg) -> CreatedOrg:
    """Make an org and its first key."""
    org, key = new_id("org_"), new_secret("key_")
    (row,) = await database.all(
        "create_org", id=org, name=given.name, key=new_id("key_"), key_name=FIRST_KEY, hash=hash_key(key)
    )
    return CreatedOrg(id=org, name=given.name, key=key, created_at=row["created_at"])


OPERATIONS = (
    Operation("GET", "/admin/orgs", list_orgs, (200, OrgSummaryList), query=Page, admin=True),
    Operation("POST", "/admin/orgs", create_org, (201, CreatedOrg), takes=NewOrg, admin=True),
)
