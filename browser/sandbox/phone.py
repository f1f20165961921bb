"""The phone's side: what the owner of an account does with it, and what WhatsApp does to it."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from browser.sandbox.control import DIALOGS, DOMS, LOGOUTS, STEPS, WHOLE
from browser.sandbox.linking import REFUSALS, hand_over
from browser.sandbox.problem import Fields, account_id
from browser.sandbox.sandbox import Sandbox

Act = Callable[[Sandbox, str], None]

LEAK_MOST = 4096.0  # megabytes
HANG_MOST = 3600.0  # seconds
CSS_LONGEST = 1000
#: of messages; static/bubble.js draws them
KINDS = ("text", "image", "deleted", "call", "event", "poll", "notice")


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
    """Enter a pairing code on the phone that it was asked for; raise Conflict when no page shows it."""
    sandbox, account = Sandbox.of(request), account_id(request)
    fields = await Fields.of(request, "code")
    screen = sandbox.screens.find(account, code=fields.text("code", 64).replace("-", "").upper())
    if screen.phone is not None:
        sandbox.accounts.move(account, screen.phone)
    hand_over(screen, sandbox.keyring.link(account))
    return _answer(sandbox, account)


async def refuse_pairing(request: Request) -> Response:
    """Give the account no pairing codes, for a `reason` of REFUSALS; without one give them again."""
    sandbox, account = Sandbox.of(request), account_id(request)
    fields = await Fields.of(request, "reason")
    sandbox.screens.refuse(account, fields.choice("reason", *REFUSALS) if "reason" in fields else None)
    return _answer(sandbox, account)


async def restrict(request: Request) -> Response:
    """Forbid the account new chats: by its conduct, or with `kind` monthly_cap by their number."""
    sandbox, account = Sandbox.of(request), account_id(request)
    fields = await Fields.of(request, "kind")
    kind = fields.choice("kind", "new_chats", "monthly_cap") if "kind" in fields else "new_chats"
    sandbox.accounts.restrict(account, kind)
    return _answer(sandbox, account)


async def show(request: Request) -> Response:
    """Let the account's pages show a `screen`, now and whenever they are opened; null ends it."""
    sandbox, account = Sandbox.of(request), account_id(request)
    fields = await Fields.of(request, "screen")
    sandbox.show(account, fields.choice("screen", *WHOLE, *DIALOGS, *LOGOUTS) if "screen" in fields else None)
    return _answer(sandbox, account)


async def rename(request: Request) -> Response:
    """Let what a `css` selector finds on the account's pages bear other names, as after a release; null ends it."""
    sandbox, account = Sandbox.of(request), account_id(request)
    fields = await Fields.of(request, "css")
    sandbox.controls.rename(account, fields.text("css", CSS_LONGEST) if "css" in fields else "")
    return _answer(sandbox, account)


async def draw(request: Request) -> Response:
    """Draw the account's pages by the generation `dom`, and `harsh` or not, from their next load on."""
    sandbox, account = Sandbox.of(request), account_id(request)
    fields = await Fields.of(request, "dom", "harsh")
    dom = fields.choice("dom", *DOMS)
    sandbox.controls.draw(account, dom, harsh="harsh" in fields and fields.truth("harsh"))
    return _answer(sandbox, account)


async def leak(request: Request) -> Response:
    """Let the account's pages take so many `mb` of memory and keep it until they are loaded anew."""
    sandbox, account = Sandbox.of(request), account_id(request)
    fields = await Fields.of(request, "mb")
    sandbox.controls.order(account, "leak", {"mb": fields.number("mb", LEAK_MOST)})
    return _answer(sandbox, account)


async def hang(request: Request) -> Response:
    """Let the account's pages answer nothing for so many `seconds`."""
    sandbox, account = Sandbox.of(request), account_id(request)
    fields = await Fields.of(request, "seconds")
    sandbox.controls.order(account, "hang", {"seconds": fields.number("seconds", HANG_MOST)})
    return _answer(sandbox, account)


async def crash(request: Request) -> Response:
    """Let the account's page crash once, `at` a step of sending its next message; null takes that back."""
    sandbox, account = Sandbox.of(request), account_id(request)
    fields = await Fields.of(request, "at")
    sandbox.controls.order(account, "crash", {"at": fields.choice("at", *STEPS) if "at" in fields else None})
    return _answer(sandbox, account)


async def incoming(request: Request) -> Response:
    """Let somebody write to the account: words, or another `kind` of KINDS; `quote` is what they answer."""
    return await _arrive(request, {})


async def write(request: Request) -> Response:
    """Write to somebody on the account's own phone, or as its away message does; else as `incoming`."""
    return await _arrive(request, {"mine": True})


async def _arrive(request: Request, extra: dict[str, object]) -> Response:
    sandbox, account = Sandbox.of(request), account_id(request)
    fields = await Fields.of(request, "phone", "text", "kind", "quote")
    phone, text = fields.phone(), fields.text("text")
    if "kind" in fields:
        extra["kind"] = fields.choice("kind", *KINDS)
    if "quote" in fields:
        extra["quote"] = fields.text("quote")
    sandbox.accounts.get(account)
    sandbox.post.incoming(account, phone, text, extra)
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
    "unrestrict": lambda sandbox, account: sandbox.accounts.restrict(account, None),
    "offline": lambda sandbox, account: sandbox.accounts.cut_off(account),
    "online": lambda sandbox, account: sandbox.accounts.reconnect(account),
}

routes = [
    Route("/scan", scan, methods=["POST"]),
    Route("/pair", pair, methods=["POST"]),
    Route("/refuse-pairing", refuse_pairing, methods=["POST"]),
    Route("/restrict", restrict, methods=["POST"]),
    Route("/show", show, methods=["POST"]),
    Route("/rename", rename, methods=["POST"]),
    Route("/draw", draw, methods=["POST"]),
    Route("/leak", leak, methods=["POST"]),
    Route("/hang", hang, methods=["POST"]),
    Route("/crash", crash, methods=["POST"]),
    Route("/incoming", incoming, methods=["POST"]),
    Route("/write", write, methods=["POST"]),
    Route("/release", release, methods=["POST"]),
    *(Route(f"/{name}", _act(act), methods=["POST"]) for name, act in ACTS.items()),
]
