"""Webhooks: the URLs that an org registered for events."""

import logging
from collections.abc import Collection

from starlette.requests import Request
from starlette.responses import Response

from api.http.auth import permit
from api.http.context import of
from api.http.json_body import read
from api.http.lists import listed
from api.http.models import Nothing
from api.http.operations import Operation
from api.http.pagination import Page
from api.http.transactional import Call, retried_transaction
from api.http.validators import minified
from api.operator.bootstrap import ENDPOINT
from api.webhooks.custom_headers import sealed
from api.webhooks.endpoint_models import Endpoint, EndpointChanges, EndpointList, EndpointWithSecret, NewEndpoint
from api.webhooks.webhook_secrets import Secret, SecretRotation, replace
from api.webhooks.webhook_urls import admit
from errors import Conflict, NotFound
from sql.database import Database, Row, Transaction
from sql.ids import new_id

log = logging.getLogger(__name__)

MOST = 1000  # endpoints per org
FAILED_AT_ONCE = 5000  # waiting deliveries per statement


async def create_endpoint(request: Request) -> Response:
    """Register a URL for events.

    The answer shows its secret, this once. There may be 1,000 (409).
    """
    caller = await permit(request)
    given = await read(request, NewEndpoint)
    context = of(request)
    await admit(context, given.url)
    endpoint = new_id("whe_")
    secret = Secret.new(context, endpoint, given.signature)

    async def work(tx: Transaction) -> EndpointWithSecret:
        (row,) = await tx.all("count_of_org")
        if row["endpoints"] >= MOST:
            raise Conflict(f"There are {MOST:,} webhooks already, each of which gets every event: delete one first.")
        await tx.all(
            "create_endpoint",
            id=endpoint,
            url=given.url,
            events=given.events,
            description=given.description,
            headers=minified(sealed(context.sealer, endpoint, given.headers)),
            retry=given.retry.model_dump_json(exclude_unset=True),
            per_second=given.per_second,
            **secret.columns(),
        )
        return EndpointWithSecret.of(await look(tx, endpoint), secret=secret.shown)

    return (await caller.database.transact(work)).answer(201, location=f"/webhooks/{endpoint}")


async def list_endpoints(request: Request) -> Response:
    """List the endpoints, oldest first."""
    caller = await permit(request)
    return await listed(
        request, caller, Page, "list_endpoints", shape=EndpointList, item=Endpoint.of, oldest_first=True, endpoint=None
    )


async def show_endpoint(request: Request) -> Response:
    """Show an endpoint."""
    caller = await permit(request)
    endpoint = request.path_params["id"]
    return Endpoint.of(await look(caller.database, endpoint)).answer()


async def change_endpoint(request: Request) -> Response:
    """Change an endpoint.

    A merge patch (RFC 7396): what is left out stays as it is. What waits for it goes by the new values. A new URL does
    not enable what is disabled. URL and secret of `whe_bootstrap` follow the settings (409).
    """
    caller = await permit(request)
    given = await read(request, EndpointChanges)
    context = of(request)
    endpoint = request.path_params["id"]
    if "url" in given.model_fields_set:
        await admit(context, given.url)

    async def work(tx: Transaction) -> EndpointWithSecret:
        row = await lock(tx, endpoint)
        refuse_of_settings(endpoint, given.model_fields_set & {"url", "signature"})
        columns = given.columns(row, context.sealer)
        await tx.all("change_endpoint", endpoint=endpoint, **columns)
        if columns["url"] not in {None, row["url"]}:
            await tx.all("reset_health", endpoint=endpoint)
        other = "signature" in given.model_fields_set and given.signature != row["signature"]
        secret = await replace(context, tx, endpoint, given.signature) if other else None
        return EndpointWithSecret.of(await look(tx, endpoint), secret=secret and secret.shown)

    return (await caller.database.transact(work)).answer()


@retried_transaction(SecretRotation)
async def rotate_secret(tx: Transaction, call: Call[SecretRotation]) -> Response:
    """Give an endpoint a new secret, shown this once.

    The present one signs too for a while. Five old ones may; with more it is answered 409.
    """
    endpoint = call.path["id"]
    row = await lock(tx, endpoint)
    refuse_of_settings(endpoint, {"secret"})
    secret = await replace(call.context, tx, endpoint, row["signature"], call.body.overlap_seconds)
    return EndpointWithSecret.of(await look(tx, endpoint), secret=secret.shown).answer()


async def delete_endpoint(request: Request) -> Response:
    """Delete an endpoint: nothing more is sent to it, not even what waits."""
    caller = await permit(request)
    await read(request, Nothing)
    database = caller.database
    endpoint = request.path_params["id"]
    found(await database.one("delete_endpoint", endpoint=endpoint), endpoint)
    await fail_waiting(database, endpoint)
    return Response(status_code=204)


# --- helpers of the handlers -------------------------------------------------------------------------------------


def refuse_of_settings(endpoint: str, fields: Collection[str]) -> None:
    """Raise Conflict for a change of fields that the next start would overwrite from the settings."""
    if endpoint == ENDPOINT and fields:
        raise Conflict(
            f"{', '.join(sorted(fields))} of {endpoint} cannot be changed here: it follows the settings WEBHOOK_URL "
            "and WEBHOOK_SECRET, and is signed with v1."
        )


async def lock(tx: Transaction, endpoint: str) -> Row:
    """Lock an endpoint of the org: id, url, status, signature, headers, retry. Raises NotFound."""
    return found(await tx.one("endpoint_to_change", endpoint=endpoint), endpoint)


async def look(tx: Transaction | Database, endpoint: str) -> Row:
    """Return an endpoint of the org as it is shown. Raises NotFound."""
    return found(await tx.one("list_endpoints", endpoint=endpoint, **Page(limit=1).values(oldest_first=True)), endpoint)


def found(row: Row | None, endpoint: str) -> Row:
    """Return the row. Raises NotFound when there is none."""
    if row is None:
        raise NotFound(f"There is no webhook {endpoint}.")
    return row


async def fail_waiting(database: Database, endpoint: str) -> None:
    """Fail the waiting deliveries of a disabled or deleted endpoint. The pulse fails any that are left."""
    total, rows = 0, FAILED_AT_ONCE
    while rows == FAILED_AT_ONCE:
        (row,) = await database.all("fail_waiting", endpoints=[endpoint], most=FAILED_AT_ONCE)
        rows = row["rows"]
        total += rows
    if total:
        log.info(
            "%d deliveries to %s have failed", total, endpoint,
            extra={"event": "deliveries.failed", "endpoint": endpoint, "deliveries": total},
        )  # fmt: skip


OPERATIONS = (
    Operation("GET", "/webhooks", list_endpoints, (200, EndpointList), query=Page),
    Operation("POST", "/webhooks", create_endpoint, (201, EndpointWithSecret), takes=NewEndpoint, refuses=(409,)),
    Operation("GET", "/webhooks/{id}", show_endpoint, (200, Endpoint)),
    Operation(
        "PATCH", "/webhooks/{id}", change_endpoint, (200, EndpointWithSecret), takes=EndpointChanges, refuses=(409,)
    ),
    Operation("DELETE", "/webhooks/{id}", delete_endpoint, (204, None)),
    Operation(
        "POST", "/webhooks/{id}/rotate-secret", rotate_secret, (200, EndpointWithSecret), takes=SecretRotation,
        refuses=(409,),
    ),
)  # fmt: skip
