"""What the page asks its server: linking, logging in, chats and messages."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from browser.sandbox.keyring import Login
from browser.sandbox.problem import Fields, account_id, phone_digits
from browser.sandbox.sandbox import Sandbox
from browser.sandbox.stream import EventStream
from errors import Conflict


async def link(request: Request) -> Response:
    """Stream the QR codes of a page that is not linked, or with `?pairing=<phone>` its pairing codes, until it is."""
    sandbox, account, phone = Sandbox.of(request), account_id(request), request.query_params.get("pairing")
    sandbox.accounts.get(account)
    screen = sandbox.screens.open(account, pairing=phone_digits("pairing", phone) if phone else None)
    return EventStream(screen.stream, sandbox.timing.heartbeat, lambda: sandbox.screens.close(screen))


async def control(request: Request) -> Response:
    """Stream orders to a page, whether it is linked or not."""
    controls, account = Sandbox.of(request).controls, account_id(request)
    stream = controls.connect(account)
    return EventStream(stream, Sandbox.of(request).timing.heartbeat, lambda: controls.disconnect(account, stream))


async def challenge(request: Request) -> Response:
    """Answer what a device is to sign."""
    fields = await Fields.of(request, "device")
    return JSONResponse(
        {"challenge": Sandbox.of(request).keyring.challenge(account_id(request), fields.text("device"))}
    )


async def login(request: Request) -> Response:
    """Check a device's proof and answer a token."""
    fields = await Fields.of(request, "device", "proof")
    sandbox, account = Sandbox.of(request), account_id(request)
    token = sandbox.keyring.login(account, fields.text("device"), fields.text("proof"))
    holder = sandbox.keyring.holder(account, token)
    return JSONResponse({"token": token, "incomingFrom": holder.incoming_from, **_standing(sandbox, account)})


async def live(request: Request) -> Response:
    """Stream what happens to a logged-in page, beginning with what came in after row `since`."""
    sandbox, account, token = Sandbox.of(request), account_id(request), request.query_params.get("token", "")
    holder = sandbox.keyring.holder(account, token)
    load = request.query_params.get("load", "")
    for displaced in sandbox.live.displace(holder.device, load):
        sandbox.keyring.logout(displaced)
    page = sandbox.live.connect(account, holder.device, token, load)

    def ended() -> None:
        sandbox.live.disconnect(page)
        sandbox.keyring.logout(token)

    page.stream.push("standing", _standing(sandbox, account))
    since = request.query_params.get("since", "")
    for message in sandbox.post.incoming_since(account, int(since) if since.isdecimal() else holder.incoming_from):
        page.stream.push("incoming", message)
    sandbox.accounts.promise_return(account)
    return EventStream(page.stream, sandbox.timing.heartbeat, ended)


async def open_chat(request: Request) -> Response:
    """Answer whether a number is on WhatsApp, and let the numbers that misbehave do so."""
    holder = _holder(request)
    fields = await Fields.of(request, "phone")
    return JSONResponse(Sandbox.of(request).open_chat(holder.account, fields.phone()))


async def send(request: Request) -> Response:
    """Take a message."""
    holder = _holder(request)
    fields = await Fields.of(request, "id", "phone", "text")
    post = Sandbox.of(request).post
    return JSONResponse(await post.accept(holder.account, fields.text("id", 64), fields.phone(), fields.text("text")))


async def receipts(request: Request) -> Response:
    """Answer how far messages have come."""
    holder = _holder(request)
    fields = await Fields.of(request, "ids")
    return JSONResponse({"acks": Sandbox.of(request).post.acks(holder.account, fields.texts("ids"))})


async def logout(request: Request) -> Response:
    """Unlink the device that asks."""
    holder = _holder(request)
    sandbox = Sandbox.of(request)
    sandbox.keyring.unlink(holder.account, holder.device)
    return JSONResponse({})


def _holder(request: Request) -> Login:
    """Return who asks; raise Conflict when its page is offline, so that nothing passes."""
    sandbox, account = Sandbox.of(request), account_id(request)
    token = request.headers.get("authorization", "").removeprefix("Bearer ")
    holder = sandbox.keyring.holder(account, token)
    if sandbox.accounts.get(account).offline:
        raise Conflict(f"Account {account} is offline.")
    return holder


def _standing(sandbox: Sandbox, account: str) -> dict[str, object]:
    return sandbox.accounts.get(account).standing()


routes = [
    Route("/link", link),
    Route("/control", control),
    Route("/challenge", challenge, methods=["POST"]),
    Route("/login", login, methods=["POST"]),
    Route("/live", live),
    Route("/open", open_chat, methods=["POST"]),
    Route("/send", send, methods=["POST"]),
    Route("/receipts", receipts, methods=["POST"]),
    Route("/logout", logout, methods=["POST"]),
]
