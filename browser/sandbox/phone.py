"""The phone's side: actions of an account's owner, and actions of WhatsApp on the account."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from browser.sandbox.control import DIALOGS, DOMS, FULL_PAGE, LOGOUTS, STEPS
from browser.sandbox.linking import REFUSALS, hand_over
from browser.sandbox.problem import Fields, account_id
from browser.sandbox.sandbox import Sandbox

Act = Callable[[Sandbox, str], None]

MAX_LEAK_MB = 4096.0
MAX_HANG_SECONDS = 3600.0
MAX_CSS = 1000  # characters
#: kinds of messages; static/bubble.js draws them
KINDS = ("text", "image", "deleted", "call", "event", "poll", "notice")


async def scan(request: Request) -> Response:
    """Scan the QR code on an account's screen: the newest, or the one given as `qr`.

    `phone` changes the account's number. Raise Conflict when no page shows such a code.
    """
    sandbox, account = Sandbox.of(request), account_id(request)
    fields = await Fields.of(request, "qr", "phone")
    screen = sandbox.screens.find(account, qr=fields.text("qr") if "qr" in fields else None)
    if "phone" in fields:
        sandbox.accounts.move(account, fields.phone())
    hand_over(screen, sandbox.devices.link(account))
    return _answer(sandbox, account)


async def pair(request: Request) -> Response:
    """Enter a pairing code on the phone for which it was requested; raise Conflict when no page shows it."""
    sandbox, account = Sandbox.of(request), account_id(request)
    fields = await Fields.of(request, "code")
    screen = sandbox.screens.find(account, code=fields.text("code", 64).replace("-", "").upper())
    if screen.phone is not None:
        sandbox.accounts.move(account, screen.phone)
    hand_over(screen, sandbox.devices.link(account))
    return _answer(sandbox, account)


async def refuse_pairing(request: Request) -> Response:
    """Refuse pairing codes to the account, for a `reason` of REFUSALS; without a reason, allow them again."""
    sandbox, account = Sandbox.of(request), account_id(request)
    fields = await Fields.of(request, "reason")
    sandbox.screens.refuse(account, fields.choice("reason", *REFUSALS) if "reason" in fields else None)
    return _answer(sandbox, account)


async def restrict(request: Request) -> Response:
    """Forbid the account new chats: for its conduct, or with `kind` monthly_cap because of the monthly limit."""
    sandbox, account = Sandbox.of(request), account_id(request)
    fields = await Fields.of(request, "kind")
    kind = fields.choice("kind", "new_chats", "monthly_cap") if "kind" in fields else "new_chats"
    sandbox.accounts.restrict(account, kind)
    return _answer(sandbox, account)


async def show(request: Request) -> Response:
    """Make the account's pages show a `screen`, now and at each load; null ends it."""
    sandbox, account = Sandbox.of(request), account_id(request)
    fields = await Fields.of(request, "screen")
    sandbox.show(account, fields.choice("screen", *FULL_PAGE, *DIALOGS, *LOGOUTS) if "screen" in fields else None)
    return _answer(sandbox, account)


async def rename(request: Request) -> Response:
    """Rename the elements that match a `css` selector on the account's pages, as a release may; null ends it."""
    sandbox, account = Sandbox.of(request), account_id(request)
    fields = await Fields.of(request, "css")
    sandbox.controls.rename(account, fields.text("css", MAX_CSS) if "css" in fields else "")
    return _answer(sandbox, account)


async def draw(request: Request) -> Response:
    """Draw the account's pages in the generation `dom`, `harsh` or not, from their next load on."""
    sandbox, account = Sandbox.of(request), account_id(request)
    fields = await Fields.of(request, "dom", "harsh")
    dom = fields.choice("dom", *DOMS)
    sandbox.controls.draw(account, dom, harsh="harsh" in fields and fields.truth("harsh"))
    return _answer(sandbox, account)


async def leak(request: Request) -> Response:
    """Make the account's pages take so many `mb` of memory, and keep it until they are reloaded."""
    sandbox, account = Sandbox.of(request), account_id(request)
    fields = await Fields.of(request, "mb")
    sandbox.controls.order(account, "leak", {"mb": fields.number("mb", MAX_LEAK_MB)})
    return _answer(sandbox, account)


async def hang(request: Request) -> Response:
    """Block the account's pages for so many `seconds`."""
    sandbox, account = Sandbox.of(request), account_id(request)
    fields = await Fields.of(request, "seconds")
    sandbox.controls.order(account, "hang", {"seconds": fields.number("seconds", MAX_HANG_SECONDS)})
    return _answer(sandbox, account)


async def crash(request: Request) -> Response:
    """Make the account's page crash once, `at` a step of sending its next message; null cancels the order."""
    sandbox, account = Sandbox.of(request), account_id(request)
    fields = await Fields.of(request, "at")
    sandbox.controls.order(account, "crash", {"at": fields.choice("at", *STEPS) if "at" in fields else None})
    return _answer(sandbox, account)


async def incoming(request: Request) -> Response:
    """Deliver a message to the account: a text, or another `kind` of KINDS; `quote` is the text that it answers."""
    return await _arrive(request, {})


async def write(request: Request) -> Response:
    """Send a message from the account's own phone, by its owner or as its away message; fields as in `incoming`."""
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
    sandbox.delivery.incoming(account, phone, text, extra)
    return _answer(sandbox, account)


async def release(request: Request) -> Response:
    """Release the messages that are held at the clock; the answer has their number."""
    sandbox, account = Sandbox.of(request), account_id(request)
    await Fields.of(request)
    return JSONResponse({"released": sandbox.delivery.release(account)})


def _act(act: Act) -> Callable[[Request], Awaitable[Response]]:
    """Return an endpoint that performs an action on an account and answers the account's state."""

    async def endpoint(request: Request) -> Response:
        sandbox, account = Sandbox.of(request), account_id(request)
        await Fields.of(request)
        act(sandbox, account)
        return _answer(sandbox, account)

    return endpoint


def _answer(sandbox: Sandbox, account: str) -> Response:
    return JSONResponse(sandbox.accounts.get(account).standing())


#: idempotent actions on an account, which are reported to its pages
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
