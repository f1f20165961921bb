"""The HTTP API of the page: linking, logging in, chats and messages."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from browser.sandbox.linked_devices import Login
from browser.sandbox.problem import Fields, account_id, phone_digits
from browser.sandbox.sandbox import Sandbox
from browser.sandbox.stream import EventStream
from errors import Conflict


async def link(request: Request) -> Response:
    """Stream QR codes to a page, or pairing codes with `?pairing=<phone>`, until the page is linked."""
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
    """Answer the challenge that a device has to sign."""
    fields = await Fields.of(request, "device")
    return JSONResponse(
        {"challenge": Sandbox.of(request).devices.challenge(account_id(request), fields.text("device"))}
    )


async def login(request: Request) -> Response:
    """Check a device's proof, and answer a token."""
    fields = await Fields.of(request, "device", "proof")
    sandbox, account = Sandbox.of(request), account_id(request)
    token = sandbox.devices.login(account, fields.text("device"), fields.text("proof"))
    holder = sandbox.devices.holder(account, token)
    return JSONResponse({"token": token, "incomingFrom": holder.incoming_from, **_standing(sandbox, account)})


async def live(request: Request) -> Response:
    """Stream events to a logged-in page, beginning with the messages that came in after row `since`."""
    sandbox, account, token = Sandbox.of(request), account_id(request), request.query_params.get("token", "")
    holder = sandbox.devices.holder(account, token)
    load = request.query_params.get("load", "")
    for displaced in sandbox.live.displace(holder.device, load):
        sandbox.devices.logout(displaced)
    page = sandbox.live.connect(account, holder.device, token, load)

    def ended() -> None:
        sandbox.live.disconnect(page)
        sandbox.devices.logout(token)

    page.stream.push("standing", _standing(sandbox, account))
    since = request.query_params.get("since", "")
    for message in sandbox.delivery.incoming_since(account, int(since) if since.isdecimal() else holder.incoming_from):
        page.stream.push("incoming", message)
    sandbox.accounts.promise_return(account)
    return EventStream(page.stream, sandbox.timing.heartbeat, ended)


async def open_chat(request: Request) -> Response:
    """Answer whether a number is on WhatsApp; some of the numbers that misbehave do so here."""
    holder = _holder(request)
    fields = await Fields.of(request, "phone")
    return JSONResponse(Sandbox.of(request).open_chat(holder.account, fields.phone()))


async def send(request: Request) -> Response:
    """Accept a message."""
    holder = _holder(request)
    fields = await Fields.of(request, "id", "phone", "text")
    delivery = Sandbox.of(request).delivery
    return JSONResponse(
        await delivery.accept(holder.account, fields.text("id", 64), fields.phone(), fields.text("text"))
    )


async def receipts(request: Request) -> Response:
    """Answer the status of messages."""
    holder = _holder(request)
    fields = await Fields.of(request, "ids")
    return JSONResponse({"acks": Sandbox.of(request).delivery.acks(holder.account, fields.texts("ids"))})


async def logout(request: Request) -> Response:
    """Unlink the device that makes the request."""
    holder = _holder(request)
    sandbox = Sandbox.of(request)
    sandbox.devices.unlink(holder.account, holder.device)
    return JSONResponse({})


def _holder(request: Request) -> Login:
    """Return the login that makes the request; raise Conflict while its account is offline."""
    sandbox, account = Sandbox.of(request), account_id(request)
    token = request.headers.get("authorization", "").removeprefix("Bearer ")
    holder = sandbox.devices.holder(account, token)
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
