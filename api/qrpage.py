"""The page /qr: an account's code for whoever holds a token, followed as it changes. Data and words by Accept."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import Field
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from api.context import of
from api.models import Model
from api.parameters import parameters
from api.problems import problem
from api.qr import FORMS, in_form, preferred
from api.scenes import scene
from api.visits import COOKIE, PATH, remember, trade, visited
from errors import RequestError

HTML = "text/html"
#: The page's own script and style and nothing else; pictures come as data: URLs.
POLICY = (
    "default-src 'none'; base-uri 'none'; connect-src 'self'; form-action 'none'; frame-ancestors 'none'; "
    "img-src data:; script-src 'self'; style-src 'self'"
)
PAGES = Environment(
    loader=PackageLoader("api"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)


class Ticket(Model):
    """What a link to the page carries; without it, the cookie of an earlier visit counts."""

    token: str | None = Field(
        default=None,
        description="The token of the link. Without it the cookie of an earlier visit counts.",
    )


async def open_qr_page(request: Request) -> Response:
    """Show an account's QR code to whoever holds a token.

    As a page that follows the code, or by `Accept` as `GET /accounts/{id}/qr` does. The first visit spends the token
    and gets a cookie for ten minutes.
    """
    of(request).rates.count_address(request)
    form = preferred(request, (*FORMS, HTML))
    try:
        answer = await _answer(request, form)
    except RequestError as error:
        answer = _refusal(error, form)
    answer.headers["vary"] = "accept, cookie"
    return answer


async def follow_qr_page(request: Request) -> Response:
    """Show what the page `/qr` shows now.

    It wants the cookie of that page.
    """
    of(request).rates.count_address(request)
    return scene(await visited(request, request.cookies.get(COOKIE))).answer()


async def _answer(request: Request, form: str) -> Response:
    token = parameters(request, Ticket).token
    if token is None or request.method == "HEAD":  # whoever only looks whether a link works does not spend it
        return await _present(request, form, request.cookies.get(COOKIE))
    cookie = await trade(request, token)
    try:
        answer = _onward(request) if form == HTML else await _present(request, form, cookie)
    except RequestError as error:
        answer = _refusal(error, form)
    remember(answer, request, cookie)
    return answer


def _onward(request: Request) -> Response:
    """Lead a browser on to the same page without the token, so that it stays in no address bar and no bookmark.

    A browser that follows a link of another site sends no SameSite=Strict cookie along, not even after a redirect: such
    a visit goes on from a page of ours.
    """
    if request.headers.get("sec-fetch-site") == "cross-site":
        return _page("onward.html", path=PATH)
    return RedirectResponse(PATH, 303)


async def _present(request: Request, form: str, cookie: str | None) -> Response:
    row = await visited(request, cookie)
    if form == HTML:
        return _page("qr.html", scene=scene(row))
    return in_form(row, form)


def _refusal(error: RequestError, form: str) -> Response:
    answer = problem(error)
    if form != HTML:
        return answer
    page = _page("refusal.html", title=error.title, detail=error.detail)
    page.status_code = error.status
    for name in ("retry-after", "www-authenticate"):
        if name in answer.headers:
            page.headers[name] = answer.headers[name]
    return page


def _page(name: str, **values: Any) -> HTMLResponse:
    text = PAGES.get_template(name).render(values)
    return HTMLResponse(text, headers={"content-security-policy": POLICY})
