"""The page /qr: a link opens a button, the button opens the account's code, which is kept up to date."""

import secrets
from collections.abc import Awaitable, Callable
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import ConfigDict, Field, WithJsonSchema
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from api.accounts.qr import DRAWN, FORMS, QrCode, in_form, preferred
from api.accounts.qr_tokens import COOKIE, PATH, examine, remember, trade, visited
from api.accounts.qr_view import QrPageState, scene
from api.http.context import of
from api.http.json_body import read
from api.http.models import Model, without_defaults
from api.http.operations import Operation
from api.http.patterns import TEXT
from api.http.problems import problem
from api.http.query_params import FORM, form_fields, parameters
from errors import Forbidden, MethodNotAllowed, RequestError

if TYPE_CHECKING:
    from jinja2 import Environment

HTML = "text/html"
SHORTEST_PRESS, LONGEST_PRESS = 20, 100  # characters
#: The page's own script and style and nothing else; pictures come as data: URLs.
POLICY = (
    "default-src 'none'; base-uri 'none'; connect-src 'self'; form-action 'none'; frame-ancestors 'none'; "
    "img-src data:; script-src 'self'; style-src 'self'"
)
#: The page with the button, which has a form and no script.
BUTTON_POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; img-src data:; style-src 'self'"
)


class QrPageQuery(Model):
    """The query of a link to the page; without a token the cookie counts."""

    token: str | None = Field(
        default=None, description="The token of a link. Without it the cookie of an earlier `POST /qr` counts."
    )


class QrTokenTrade(Model):
    """A link's token, traded for the cookie of a visit."""

    model_config = ConfigDict(json_schema_extra=without_defaults)

    token: str = Field(description="The token of the link.")
    # A form has no null.
    press: Annotated[
        str | None,
        Field(min_length=SHORTEST_PRESS, max_length=LONGEST_PRESS),
        WithJsonSchema({"type": "string", "minLength": SHORTEST_PRESS, "maxLength": LONGEST_PRESS, "pattern": TEXT}),
    ] = Field(
        default=None,
        description="Random text of the caller's. A request that repeats token and text, such as a double click or a "
        "retry after a lost answer, gets the same cookie.",
    )


async def open_qr_page(request: Request) -> Response:
    """Show an account's QR code to the browser that traded a link's token.

    The cookie names the account. The answer is a page that keeps the code up to date, or by `Accept` what
    `GET /accounts/{id}/qr` answers.

    With `token` it shows no code and the token stays good, since chat previews and mail scanners fetch links: the page
    has a button that trades the token. For any other media type the answer is 405.
    """
    return await _answered(request, _open)


async def trade_qr_token(request: Request) -> Response:
    """Trade a link's token for a cookie that opens the page `/qr` for ten minutes.

    A token works once. The answer is the code in a media type of `GET /accounts/{id}/qr`, by `Accept`; for `text/html`
    it is a 303 to the page. While there is no code, the answer is 409 or 410, also with the cookie: call `GET /qr` with
    it.

    The body may also be a form, as the page's button sends it, but not a form of another site (403).
    """
    return await _answered(request, _trade)


async def follow_qr_page(request: Request) -> Response:
    """Show what the page `/qr` shows now.

    It needs the cookie of that page.
    """
    of(request).rate_limit.count_client(request)
    return scene(await visited(request, request.cookies.get(COOKIE))).answer()


async def _answered(request: Request, work: Callable[[Request, str], Awaitable[Response]]) -> Response:
    form = preferred(request, (*FORMS, HTML))
    try:
        of(request).rate_limit.count_client(request)
        answer = await work(request, form)
    except RequestError as error:
        answer = _refusal(error, form)
    answer.headers["vary"] = "accept, cookie"
    return answer


async def _open(request: Request, form: str) -> Response:
    token = parameters(request, QrPageQuery).token
    if token is None:
        return await _present(request, form, request.cookies.get(COOKIE))
    await examine(request, token)
    if form == HTML:
        return _page("button.html", BUTTON_POLICY, path=PATH, token=token, press=secrets.token_urlsafe(32))
    hint = f'A GET of a link spends nothing and shows no code. Send POST {PATH} with {{"token": "…"}}.'
    return problem(MethodNotAllowed(hint), {"allow": "POST"})


async def _trade(request: Request, form: str) -> Response:
    _refuse_other_sites(request)
    given = await _body(request)
    cookie = await trade(request, given.token, given.press or secrets.token_urlsafe(32))
    try:
        answer = RedirectResponse(PATH, 303) if form == HTML else await _present(request, form, cookie)
    except RequestError as error:  # the token is used up, so the cookie comes with the error
        answer = _refusal(error, form)
    remember(answer, request, cookie)
    return answer


def _refuse_other_sites(request: Request) -> None:
    """Raise Forbidden for a form of another site, which could make an open page show the code of its own account."""
    if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
        raise Forbidden("A token is traded by the button of its own page. Open the link itself.")


async def _body(request: Request) -> QrTokenTrade:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return await (form_fields if kind == FORM else read)(request, QrTokenTrade)


async def _present(request: Request, form: str, cookie: str | None) -> Response:
    row = await visited(request, cookie)
    if form == HTML:
        return _page("qr.html", POLICY, scene=scene(row))
    return in_form(row, form)


def _refusal(error: RequestError, form: str) -> Response:
    answer = problem(error)
    if form != HTML:
        return answer
    page = _page("refusal.html", POLICY, title=error.title, detail=error.detail)
    page.status_code = error.status
    for name in ("retry-after", "www-authenticate"):
        if name in answer.headers:
            page.headers[name] = answer.headers[name]
    return page


def _page(name: str, policy: str, **values: Any) -> HTMLResponse:
    text = _pages().get_template(name).render(values)
    return HTMLResponse(text, headers={"content-security-policy": policy})


@cache
def _pages() -> "Environment":
    # Imported here, since most API processes never show the page: it takes 35 ms.
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415

    return Environment(
        loader=PackageLoader("api.accounts"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


OPERATIONS = (
    Operation(
        "GET", "/qr", open_qr_page, (200, QrCode), query=QrPageQuery, forms=(*DRAWN, HTML),
        refuses=(401, 405, 409, 410, 429, 503), open=True,
    ),
    Operation(
        "POST", "/qr", trade_qr_token, (200, QrCode), takes=QrTokenTrade, bodies=(FORM,), forms=DRAWN,
        refuses=(401, 403, 409, 410, 429, 503), open=True,
    ),
    Operation("GET", "/qr/state", follow_qr_page, (200, QrPageState), refuses=(401, 410, 429, 503), open=True),
)  # fmt: skip
