"""The phone's side: what the owner of an account does with it, and what WhatsApp does to it."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from browser.sandbox.linking import hand_over
from browser.sandbox.problem import Fields, account_id
from browser.sandbox.sandbox import Sandbox

Act = Callable[[Sandbox, str], None]


async def scan(request: Request) -> Response:
    """Scan the QR code on an account's screen: the newest, or the one given as `qr`.

    `phone` links the account with another number than before. Raises Conflict when no page shows such a code.
    """
    sandbox, account = Sandbox.of(request), account_id(request)
    fields = await Fields.of(request, "qr", "phone")
    screen = sandbox.screens.find(account, qr=fields.text("qr") if "qr" in fields else None)
    if "phone" in fields:
        sandbox.accounts.move(account, fields.phone())
    hand_over(screen, sandbox.keyring.link(account))
    return _answer(sandbox, account)


async def pair(request: Request) -> Response:
    """Enter a pairing code on the phone; raise Conflict when no page shows it."""
    sandbox, account = Sandbox.of(request), account_id(request)
    fields = await Fields.of(request, "code")
    code = fields.text("code", 64).replace("-", "").upper()
    hand_over(sandbox.screens.find(account, code=code), sandbox.keyring.link(account))
    return _answer(sandbox, account)


async def incoming(request: Request) -> Response:
    """Let somebody write to the account."""
    sandbox, account = Sandbox.of(request), account_id(request)
    fields = await Fields.of(request, "phone", "text")
    phone, text = fields.phone(), fields.text("text")
    sandbox.accounts.get(account)
    sandbox.post.incoming(account, phone, text)
    return _answer(sandbox, account)


async def release(request: Request) -> Response:
    """Give the messages that stay at the clock their tick; the answer counts them."""
    sandbox, account = Sandbox.of(request), account_id(request)
    await Fields.of(request)
    return JSONResponse({"released": sandbox.post.release(account)})


def _act(act: Act) -> Callable[[Request], Awaitable[Response]]:
    """Return an endpoint that does something to an account and answers how it stands then."""

    async def endpoint(request: Request) -> Response:
        sandbox, account = Sandbox.of(request), account_id(request)
        await Fields.of(request)
        act(sandbox, account)
        return _answer(sandbox, account)

    return endpoint


def _answer(sandbox: Sandbox, account: str) -> Response:
    return JSONResponse(sandbox.accounts.get(account).standing())


#: what is done to an account however often; its pages hear of it
ACTS: dict[str, Act] = {
    "unlink": Sandbox.unlink,
    "ban": lambda sandbox, account: sandbox.accounts.ban(account, sandbox.timing.ban),
    "unban": lambda sandbox, account: sandbox.accounts.unban(account),
    "restrict": lambda sandbox, account: sandbox.accounts.restrict(account),
    "unrestrict": lambda sandbox, account: sandbox.accounts.unrestrict(account),
    "offline": lambda sandbox, account: sandbox.accounts.cut_off(account),
    "online": lambda sandbox, account: sandbox.accounts.reconnect(account),
}

routes = [
    Route("/scan", scan, methods=["POST"]),
    Route("/pair", pair, methods=["POST"]),
    Route("/incoming", incoming, methods=["POST"]),
    Route("/release", release, methods=["POST"]),
    *(Route(f"/{name}", _act(act), methods=["POST"]) for name, act in ACTS.items()),
]
