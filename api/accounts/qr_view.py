"""Scenes of the page /qr: what it shows of an account's state, in words for the person with the phone."""

from typing import Literal

from pydantic import Field

from api.accounts import qr_drawing
from api.http.models import Shown, Time
from sql.database import Row

Phase = Literal["waiting", "code", "linked", "ended", "stopped"]

#: heading and text by the account's state
LINKED = {
    "authenticated": (
        "Linked",
        "The phone has scanned the code, and WhatsApp is loading its chats. You may close this page.",
    ),
    "ready": ("Linked", "The account is ready to send. You may close this page."),
    "hibernated": (
        "Linked",
        "The account is linked and rests until there is something to send. You may close this page.",
    ),
}
STOPPED = {
    "auth_failed": (
        "WhatsApp refused the link",
        "Tell the person who sent you this link; the account has to be connected again.",
    ),
    "suspected_ban": (
        "WhatsApp shows a warning",
        "Its page looks as if the account were banned. It is looked at again by itself.",
    ),
    "banned": ("WhatsApp has banned this account", "Open WhatsApp on the phone and follow what it says there."),
    "circuit_open": ("It failed several times", "It is tried again by itself in a few minutes; this page follows."),
}
OPENING = ("WhatsApp is being opened", "The code appears here by itself, mostly within half a minute.")
NEXT = ("The next code is on its way", "It appears here by itself within seconds.")
BY_NUMBER = ("A pairing code was asked for", "The account is being linked with its phone number in place of a QR code.")
SCAN = ("Scan this code", "It is replaced every 20 to 60 seconds; this page follows by itself.")
KEPT = ("Already linked", "No code is needed. You may close this page.")
ENDED = (
    "There is no code to scan",
    "Codes end after three minutes without a scan. Ask the person who sent you this link to connect the account again.",
)


class QrPageState(Shown):
    """What the page /qr shows now."""

    account: str = Field(description="The account's name.")
    phase: Phase = Field(
        description="`waiting` for the next code, `code`, `linked`, `ended` (nobody scanned), `stopped`.",
    )
    heading: str = Field(description="What the page says.")
    text: str = Field(description="And below it.")
    picture: str | None = Field(description="The code as a `data:` URL; null when there is none to scan.")
    expires_at: Time | None = Field(description="When the next code takes its place.")
    seconds_left: float | None = Field(description="The same in seconds.")


def scene(row: Row) -> QrPageState:
    """Return what the page shows of a row of qr_visit."""
    phase, (heading, text) = _phase(row)
    code = phase == "code"
    return QrPageState(
        account=row["name"],
        phase=phase,
        heading=heading,
        text=text,
        picture=qr_drawing.data_url(row["qr"]) if code else None,
        expires_at=row["qr_expires_at"] if code else None,
        seconds_left=max(0.0, row["seconds_left"]) if code else None,
    )


def _phase(row: Row) -> tuple[Phase, tuple[str, str]]:
    state = row["state"]
    if state in LINKED:
        return "linked", LINKED[state]
    if state in STOPPED:
        return "stopped", STOPPED[state]
    if state == "qr_pending":
        return _pending(row)
    if row["linked"]:
        return "linked", KEPT
    if row["wanted"] == "connected":
        return "waiting", OPENING
    return "ended", ENDED


def _pending(row: Row) -> tuple[Phase, tuple[str, str]]:
    if row["qr"] is not None and not row["expired"]:
        return "code", SCAN
    return "waiting", NEXT if row["pairing_phone"] is None else BY_NUMBER
