"""Examples in /openapi.json, by model; a test checks them against the models."""

from datetime import date, timedelta
from typing import Any

_ACCOUNT = "acc_01k8w3v5n2q4t6y8a0c2e4g6h8"
_ENDPOINT = "whe_01k8w3v5n2q4t6y8a0c2e4g6h8"
_DELIVERY = "dlv_01k8w3v5n2q4t6y8a0c2e4g6h8"

EXAMPLES: dict[str, Any] = {
    "SendRequest": {
        "phone": "15551234567",
        "message": "Your order is on its way.",
        "idempotencyKey": "order-42",
        "metadata": {"order": 42},
    },
    "SendReceipt": {"status": "queued", "jobId": "order-42"},
    "SendBatch": {
        "jobs": [
            {"phone": "15551234567", "message": "Your order is on its way.", "idempotencyKey": "order-42"},
            {"phone": "0", "message": "Your order is on its way.", "idempotencyKey": "order-43"},
        ]
    },
    "SendBatchResult": {
        "items": [
            {"status": 202, "jobId": "order-42"},
            {
                "status": 422,
                "code": "invalid",
                "detail": "phone must be a phone number with its country code: 0 is too short.",
                "errors": [
                    {"field": "phone", "message": "must be a phone number with its country code: 0 is too short"}
                ],
            },
        ]
    },
    "Job": {
        "jobId": "order-42",
        "status": "sent",
        "account": _ACCOUNT,
        "phone": "15551234567",
        "message": "Your order is on its way.",
        "priority": "normal",
        "createdAt": "2026-12-01T09:00:00.120Z",
        "sendAt": "2026-12-01T09:00:00.120Z",
        "expiresAt": "2026-12-02T09:00:00.120Z",
        "startedAt": "2026-12-01T09:00:00.201Z",
        "sentAt": "2026-12-01T09:00:02.114Z",
        "deliveredAt": None,
        "readAt": None,
        "attempts": 1,
        "error": None,
        "evidence": None,
        "metadata": {"order": 42},
        "timeline": [
            {"at": "2026-12-01T09:00:00.120Z", "status": "queued", "detail": None},
            {"at": "2026-12-01T09:00:00.201Z", "status": "sending", "detail": None},
            {"at": "2026-12-01T09:00:01.310Z", "status": "submitting", "detail": None},
            {"at": "2026-12-01T09:00:02.114Z", "status": "sent", "detail": None},
        ],
    },
    "CancelResult": {"cancelled": 17},
    "RetryRequest": {"force": True},
    "NewAccount": {"name": "Shop", "timeZone": "Europe/Berlin"},
    "AccountChanges": {"proxy": {"url": "socks5://user:secret@proxy.example:1080"}},
    "Account": {
        "id": _ACCOUNT,
        "name": "Shop",
        "transport": "web",
        "state": "ready",
        "stateReason": None,
        "stateSince": "2026-12-01T08:12:44.030Z",
        "restriction": None,
        "restrictedUntil": None,
        "paused": False,
        "timeZone": "Europe/Berlin",
        "pace": "on",
        "proxy": None,
        "linked": True,
        "phone": "4915112345678",
        "profileName": "Shop",
        "platform": "android",
        "connectedAt": "2026-12-01T08:12:44.030Z",
        "disconnectedAt": None,
        "lastOpenAt": "2026-12-01T09:00:02.114Z",
        "sentToday": 12,
        "receivedToday": 3,
        "dailyLimit": 150,
        "queued": 0,
        "nextSendAt": None,
        "worker": "wrk_01k8w3v5n2q4t6y8a0c2e4g6h8",
        "health": "healthy",
    },
    "PairingRequest": {"phone": "4915112345678"},
    "PairingCode": {"code": "ABCD-EFGH", "expiresAt": "2026-12-01T09:03:15.000Z"},
    "IncomingMessage": {
        "id": "msg_01k8w3v5n2q4t6y8a0c2e4g6h8",
        "account": _ACCOUNT,
        "phone": "15551234567",
        "chat": "+1 555-123-4567",
        "text": "Thank you!",
        "receivedAt": "2026-12-01T09:05:40.772Z",
    },
    "NewOptOut": {"phone": "15551234567", "reason": "asked on the phone"},
    "OptOut": {
        "phone": "15551234567",
        "account": None,
        "reason": "asked on the phone",
        "createdAt": "2026-12-01T09:05:40.772Z",
    },
    "OrgChanges": {"stopWords": {"ignore": ["cancel"]}, "optOutReply": "You will get no more messages from us."},
    "Org": {
        "id": "org_default",
        "name": "Default",
        "paused": False,
        "stopWords": {"add": [], "ignore": ["cancel"]},
        "optOutReply": "You will get no more messages from us.",
        "createdAt": "2026-12-01T09:00:00.000Z",
    },
    "ReportViewList": {
        "items": [
            {
                "name": "balance",
                "description": "Whether it adds up: accepted = sent + failed + cancelled + open.",
                "period": "day",
                "columns": [
                    {"name": "account_id", "type": "text", "description": "Account."},
                    {"name": "day", "type": "date", "description": "Day of acceptance, in the account's time zone."},
                    {"name": "accepted", "type": "bigint", "description": "Messages accepted on that day."},
                ],
            }
        ]
    },
    "ReportRows": {
        "items": [
            {
                "org_id": "org_default",
                "account_id": _ACCOUNT,
                "day": "2026-12-01",
                "accepted": 52,
                "sent": 48,
                "failed": 2,
                "cancelled": 1,
                "open": 1,
                "difference": 0,
                "zone": "Europe/Berlin",
            }
        ]
    },
    "NewOrg": {"name": "Bakery"},
    "CreatedOrg": {
        "id": "org_01kbd1sy3vfc8gq0w5m7n2p4rt",
        "name": "Bakery",
        "key": "key_…",
        "createdAt": "2026-12-01T09:00:00.000Z",
    },
    "OrgSummary": {
        "id": "org_01kbd1sy3vfc8gq0w5m7n2p4rt",
        "name": "Bakery",
        "paused": False,
        "accounts": 2,
        "endpoints": 1,
        "keys": 1,
        "createdAt": "2026-12-01T09:00:00.000Z",
    },
    "NewEndpoint": {"url": "https://shop.example/hooks/whatsapp", "events": ["JobCompleted", "JobFailed"]},
    "EndpointChanges": {"retry": {"attempts": 4}, "headers": {"authorization": None}},
    "SecretRotation": {"overlapSeconds": 3600},
    "Endpoint": {
        "id": _ENDPOINT,
        "url": "https://shop.example/hooks/whatsapp",
        "events": ["JobCompleted", "JobFailed"],
        "description": "",
        "status": "enabled",
        "statusReason": None,
        "signature": "v1",
        "publicKey": None,
        "oldSecretsUntil": None,
        "headerNames": [],
        "retry": {"attempts": 12, "baseSeconds": 5.0, "factor": 3.0, "capSeconds": 43200.0},
        "perSecond": None,
        "createdAt": "2026-12-01T08:00:00.000Z",
    },
    "Delivery": {
        "id": _DELIVERY,
        "endpoint": _ENDPOINT,
        "eventId": "evt_0f9a4b6c2d8e4f1a9b3c5d7e9f1a3b5c",
        "type": "JobCompleted",
        "eventAt": "2026-12-01T09:00:02.114Z",
        "jobId": "order-42",
        "account": _ACCOUNT,
        "status": "pending",
        "attemptCount": 3,
        "nextAttemptAt": "2026-12-01T09:01:41.390Z",
        "lastStatus": 500,
        "lastError": "HTTP 500",
        "createdAt": "2026-12-01T09:00:02.114Z",
        "endedAt": None,
    },
    "ReplayRequest": {"deliveries": [_DELIVERY]},
    "RecoveryRequest": {"since": "2026-11-01T00:00:00Z", "until": "2026-11-02T00:00:00Z"},
    "QrTokenRequest": {"account": _ACCOUNT},
    "QrToken": {
        "qrAccessToken": "5hT0…",
        "expiresInSeconds": 60,
        "url": "/qr?token=5hT0…",
    },
    "QrTokenTrade": {"token": "5hT0…"},
    "PauseRequest": {"reason": "a wave of complaints"},
    "Problem": {
        "type": "about:blank",
        "title": "Unprocessable content",
        "status": 422,
        "detail": "phone must be a phone number with its country code: 0 is too short.",
        "code": "invalid",
        "errors": [{"field": "phone", "message": "must be a phone number with its country code: 0 is too short"}],
    },
}


def upcoming(today: date) -> dict[str, dict[str, str]]:
    """Return examples of times in the future, by model and field."""
    day = today + timedelta(days=7)
    return {"SendRequest": {"sendAt": f"{day}T09:00:00Z", "expiresAt": f"{day}T18:00:00Z"}}
