"""The QR code that links an account, in the form that the client asks for."""

from collections.abc import Callable, Iterable

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from api.accounts import qr_drawing
from api.http.auth import permit
from api.http.models import Shown, Time
from api.http.operations import Operation
from errors import Conflict, Gone, NotFound
from sql.database import Row


class QrCode(Shown):
    """The code on the account's screen."""

    qr: str = Field(description="What the QR code holds.")
    expires_at: Time = Field(description="When the next one takes its place.")


async def show_qr(request: Request) -> Response:
    """Show the QR code that links an account.

    As JSON, or by `Accept` as a picture, or drawn for a terminal. While there is none it is answered 409, and between
    two codes 410: ask again.
    """
    caller = await permit(request)
    account = request.path_params["id"]
    row = await caller.database.one("show_qr", account=account)
    if row is None:
        raise NotFound(f"There is no account {account}.")
    return in_form(row, preferred(request, FORMS))


def in_form(row: Row, form: str) -> Response:
    """Return the code of a row (state, qr, qr_expires_at, expired) as one of FORMS. Raises Conflict and Gone."""
    if row["state"] != "qr_pending":
        raise Conflict(f"There is no code to scan: the account is {row['state']}.")
    if row["qr"] is None:
        raise Conflict("The page shows a pairing code in place of a QR code.")
    if row["expired"]:
        raise Gone("The code expired; the next one comes within seconds.")
    answer = FORMS[form](row)
    answer.headers["vary"] = "accept"
    return answer


def _json(row: Row) -> Response:
    return QrCode(qr=row["qr"], expires_at=row["qr_expires_at"]).answer()


def _png(row: Row) -> Response:
    return Response(qr_drawing.png(row["qr"]), media_type="image/png")


def _svg(row: Row) -> Response:
    return Response(qr_drawing.svg(row["qr"]), media_type="image/svg+xml")


def _text(row: Row) -> Response:
    return Response(qr_drawing.text(row["qr"]), media_type="text/plain")


FORMS: dict[str, Callable[[Row], Response]] = {
    "application/json": _json,
    "image/png": _png,
    "image/svg+xml": _svg,
    "text/plain": _text,
}
#: All forms but JSON.
DRAWN = tuple(form for form in FORMS if form != "application/json")


def preferred(request: Request, forms: Iterable[str]) -> str:
    """Return the form that an Accept header (RFC 9110, 12.5.1) prefers; JSON if it accepts none of them."""
    ranges: list[tuple[float, str]] = []
    for item in request.headers.get("accept", "*/*").split(","):
        kind, *parameters = (part.strip().lower() for part in item.split(";"))
        weight = next((value[2:] for value in parameters if value.startswith("q=")), "1")
        ranges.append((_number(weight), kind))
    for quality, kind in sorted(ranges, key=lambda pair: -pair[0]):
        for form in forms:
            if quality > 0 and kind in {form, form.partition("/")[0] + "/*", "*/*"}:
                return form
    return "application/json"


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


OPERATIONS = (Operation("GET", "/accounts/{id}/qr", show_qr, (200, QrCode), refuses=(409, 410), forms=DRAWN),)
