"""The pages themselves: WhatsApp Web's, and the phone's."""

import hashlib
import html
import json
import os
from pathlib import Path

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import PathLike, StaticFiles
from starlette.types import Scope

from browser.sandbox import page_api
from browser.sandbox.problem import account_id
from browser.sandbox.sandbox import Sandbox

STATIC = Path(__file__).parent / "static"

#: scripts and styles from this server only, so that nothing in a message can run
POLICY = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def version_of(folder: Path) -> str:
    """Return a version of a folder's files, for URLs that a browser may cache.

    It is part of the URL of each file that WhatsApp's page loads, some thirty per load. So a browser can cache them,
    and a profile that outlives an upgrade does not mix old and new ones.
    """
    states = [f"{path.name} {(state := path.stat()).st_mtime_ns} {state.st_size}" for path in sorted(folder.iterdir())]
    return hashlib.sha256("\n".join(states).encode()).hexdigest()[:16]


class CachedFiles(StaticFiles):
    """Files that a browser may cache for a year, or has to revalidate each time."""

    def __init__(self, *, immutable: bool) -> None:
        super().__init__(directory=STATIC)
        self._cache_control = "max-age=31536000, immutable" if immutable else "no-cache"

    def file_response(
        self, full_path: PathLike, stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """Answer a file, or 304."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers["cache-control"] = self._cache_control
        return response


async def whatsapp(request: Request) -> Response:
    """Serve WhatsApp Web for an account; like the real one, refuse a headless Chrome by its User-Agent."""
    account, sandbox = account_id(request), Sandbox.of(request)
    if "HeadlessChrome" in request.headers.get("user-agent", ""):
        return _page("unsupported.html")
    timing = json.dumps(sandbox.timing.for_page())
    controls = sandbox.controls
    dom, harsh = controls.drawn(account) or ("", False)
    return _page(
        "whatsapp.html",
        timing=timing,
        shown=controls.shown(account) or "",
        renamed=controls.renamed(account),
        dom=dom,
        harsh=str(int(harsh)) if dom else "",
        version=version_of(STATIC),
    )


async def to_whatsapp(request: Request) -> Response:
    """Add the slash that the page's relative addresses need."""
    return RedirectResponse(f"{account_id(request)}/")


async def phone(_: Request) -> Response:
    """Serve the phone's page."""
    return _page("phone.html")


async def overview(request: Request) -> Response:
    """Answer what the phone's page shows: each account, its screens, and the newest messages of its recipients."""
    sandbox = Sandbox.of(request)
    items = [
        {
            **account.standing(),
            **sandbox.screens.shows(account.id),
            "live": sandbox.live.count(account.id),
            "messages": [
                {"phone": row["phone"], "text": row["text"], "at": row["received_at"]}
                for row in sandbox.store.all("newest_messages", account=account.id)
            ],
        }
        for account in sandbox.accounts.all()
    ]
    return JSONResponse({"items": items}, headers={"cache-control": "no-store"})


def _page(name: str, **values: str) -> Response:
    """Return an HTML file with each `{{name}}` replaced by its escaped value."""
    text = (STATIC / name).read_text(encoding="utf-8")
    for key, value in values.items():
        text = text.replace("{{" + key + "}}", html.escape(value))
    return HTMLResponse(text, headers=POLICY)


routes: list[BaseRoute] = [
    Route("/", phone),
    Route("/overview", overview),
    Mount("/web/static/{version}", CachedFiles(immutable=True)),
    Mount("/web/static", CachedFiles(immutable=False)),
    Route("/web/{account}", to_whatsapp),
    Route("/web/{account}/", whatsapp),
    Route("/web/{account}/send", whatsapp),
    Mount("/web/{account}/api", routes=page_api.routes),
]
