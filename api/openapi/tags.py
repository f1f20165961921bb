"""Texts of /openapi.json besides its operations: rules for every call, and the chapters (tags)."""

from dataclasses import dataclass
from pathlib import Path

EVERY_CALL = (Path(__file__).parent / "every_call.md").read_text()

KEY_MISSING = "The header x-api-key is missing or names no key."
ADMIN_KEY_MISSING = "The header x-admin-key is missing or is not ADMIN_KEY."
NOT_VISITING = "The token of the link, or the cookie of the page, is not valid."


@dataclass(frozen=True)
class Tag:
    """A chapter of operations."""

    name: str
    text: str
    #: description of `{id}` in their paths
    id: str = ""
    #: description of a 401 there
    unauthorized: str = KEY_MISSING


_HEALTH = Tag(
    "Health and metrics",
    "Of the process that answers; a worker has its own at `WORKER_PORT`.",
    unauthorized=ADMIN_KEY_MISSING,
)

#: By the first part of the path, in the order of the chapters.
TAGS = {
    "send": Tag("Send", "Messages are accepted here; their jobs show what becomes of them."),
    "jobs": Tag("Jobs", "A job is one message on its way."),
    "accounts": Tag(
        "Accounts",
        "An account is one WhatsApp account with its phone number. It is created, connected, linked with a QR code or "
        "a pairing code, and sends from then on.",
        id="The account, `acc_…`.",
    ),
    "incoming": Tag("Incoming messages", "What people write to the accounts."),
    "opt-outs": Tag(
        "Opt-outs",
        "Numbers that get no messages. A message to a number on this list is accepted like any other, as the list may "
        "change until it is due, and fails then with `recipient_opted_out`.",
    ),
    "org": Tag("The org", "What holds for all accounts of the org that the key acts for."),
    "reports": Tag(
        "Reports",
        "What went out, arrived, was read or failed, by account and day: the views of `docs/reporting.md`, which "
        "people may also ask with SQL.",
    ),
    "webhooks": Tag(
        "Webhooks",
        "An endpoint is a URL that gets events as signed requests.",
        id="The endpoint, `whe_…`.",
    ),
    "deliveries": Tag("Deliveries", "A delivery is one event on its way to one endpoint.", id="The delivery, `dlv_…`."),
    "admin": Tag("Admin", "For the operator, with `ADMIN_KEY`; for all orgs.", unauthorized=ADMIN_KEY_MISSING),
    "qr": Tag(
        "The page with the QR code",
        "For somebody without a key, by a link that `POST /admin/generate-qr-token` made.",
        unauthorized=NOT_VISITING,
    ),
    "healthz": _HEALTH,
    "readyz": _HEALTH,
    "metrics": _HEALTH,
    "openapi.json": _HEALTH,
}

#: Path parameters that mean the same in every chapter.
PARAMETERS = {
    "jobId": "The job's `jobId`: its idempotency key, or `job_…`.",
    "phone": "The number, with its country code.",
    "view": "The report, by its name in `GET /reports`.",
    "recoveryId": "The recovery, `rec_…`.",
}


def tag_of(path: str) -> Tag:
    """Return the chapter of a path."""
    return TAGS[path.split("/")[1]]
