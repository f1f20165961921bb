"""Tokens and visits: a link to the page /qr shows one account's code, for ten minutes, to a person without a key.

The token is part of the link, so it may end up in histories and logs: it is valid for a minute and for one visit. A
program that opens links, such as a preview, does not use it up: only the button of the page exchanges the token for a
cookie, which identifies the visit from then on.
"""

import secrets

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from api.http.auth import permit_admin
from api.http.context import of
from api.http.json_body import read
from api.http.models import Model, Shown, shown
from api.http.operations import Operation
from crypto import hash_key
from errors import FieldError, Gone, Invalid, NotFound, RequestError, Unauthorized
from sql.database import Row

PATH = "/qr"
COOKIE = "postrider_qr"
TOKEN_SECONDS = 60
VISIT_SECONDS = 600
NEW_LINK = "Ask the person who sent you this link for a new one."


class QrTokenRequest(Model):
    """Whose code is to be seen."""

    account: str | None = Field(
        default=None,
        description="Whose code is to be seen. It may be left out while there is exactly one account.",
    )


class QrToken(Shown):
    """A token, shown this once, and the link that carries it."""

    qr_access_token: str = Field(description="The token, shown this once.")
    expires_in_seconds: int = Field(description="How long it is good for.")
    url: str = Field(description="The link, to a page whose button shows the code, once.")


async def generate_qr_token(request: Request) -> Response:
    """Make a link to a page that shows an account's QR code.

    For a person without a key. It works once, within 60 s. Only the button on the page uses it up; a preview that
    fetches the link does not. An address may make five, and then one every twelve minutes.
    """
    await permit_admin(request)
    of(request).rate_limit.count_qr_token(request)
    guest = await read(request, QrTokenRequest)
    token = secrets.token_urlsafe(32)

    values = {"account": guest.account, "hash": hash_key(token), "seconds": TOKEN_SECONDS}
    (row,) = await of(request).database.all("create_qr_token", **values)
    if row["account_id"] is None:
        raise _no_account(guest.account)
    url = f"{PATH}?token={token}"
    return QrToken(qr_access_token=token, expires_in_seconds=TOKEN_SECONDS, url=url).answer()


def _no_account(named: str | None) -> RequestError:
    if named is None:
        message = "is required, since there is not exactly one account"
        return Invalid(f"account {message}.", errors=[FieldError("account", message)])
    message = f"names no account: {shown(named)}"
    return NotFound(f"account {message}.", errors=[FieldError("account", message)])


async def examine(request: Request, token: str) -> None:
    """Check a token without using it up. Raises Unauthorized if it is unknown, Gone if it is used or expired."""
    row = await of(request).database.one("qr_token", hash=hash_key(token))
    if row is None or not row["good"]:
        raise _refused(row)


async def trade(request: Request, token: str, press: str) -> str:
    """Use up a token and return the cookie of its visit. Raises Unauthorized, and Gone if it is used or expired.

    The same `press` gets the same cookie again.
    """
    cookie, hashed, database = hash_key(f"{token} {press}").hex(), hash_key(token), of(request).database
    (row,) = await database.all("trade_qr_token", hash=hashed, visit=hash_key(cookie), seconds=VISIT_SECONDS)
    if not row["traded"]:
        raise _refused(await database.one("qr_token", hash=hashed))
    return cookie


def _refused(row: Row | None) -> RequestError:
    if row is None:
        return Unauthorized(f"The token of this link is not valid. {NEW_LINK}")
    if row["spent"]:
        return Gone(f"This link was used already, and its button works once. {NEW_LINK}")
    return Gone(f"This link has expired: it is good for {TOKEN_SECONDS} seconds. {NEW_LINK}")


async def visited(request: Request, cookie: str | None) -> Row:
    """Return the row of qr_visit for a visit's cookie. Raises Unauthorized, and Gone when the visit has expired."""
    if not cookie:
        raise Unauthorized(f"This page opens with a link that has a token. {NEW_LINK}")
    row = await of(request).database.one("qr_visit", visit=hash_key(cookie))
    if row is None:
        raise Unauthorized(f"The cookie of this page is not valid. {NEW_LINK}")
    if row["over"]:
        raise Gone(f"This page has expired: it is good for {VISIT_SECONDS // 60} minutes. {NEW_LINK}")
    return row


def remember(answer: Response, request: Request, cookie: str) -> None:
    """Have the browser keep a visit's cookie."""
    answer.set_cookie(
        COOKIE,
        cookie,
        max_age=VISIT_SECONDS,
        path=PATH,
        secure=of(request).production or request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )


OPERATIONS = (
    Operation(
        "POST", "/admin/generate-qr-token", generate_qr_token, (200, QrToken), takes=QrTokenRequest,
        refuses=(404,), admin=True,
    ),
)  # fmt: skip
