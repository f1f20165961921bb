"""Metrics for Prometheus: backlogs in the tables, and the counters of this process."""

from ipaddress import ip_address

from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    REGISTRY,
    CollectorRegistry,
    Gauge,
    disable_created_metrics,
    generate_latest,
)
from starlette.requests import Request
from starlette.responses import Response

from api.http.auth import check_admin
from api.http.context import of
from api.http.operations import Operation
from sql.database import Row

# The `_created` series would add one series to each counter, and are not used.
disable_created_metrics()  # type: ignore[no-untyped-call]

MOST_COUNTED = 10_000  # deliveries of an endpoint that are due, or due later; messages, or deliveries, that nobody does
#: Headers that a proxy adds: behind one, every peer is the proxy, which may well be on loopback.
FORWARDED = ("forwarded", "via", "x-forwarded-for", "x-real-ip")


async def show_metrics(request: Request) -> Response:
    """Show metrics for Prometheus.

    They want `ADMIN_KEY` in `x-admin-key`, except from this machine while no proxy is in between.
    """
    context = of(request)
    context.rate_limit.count_client(request)
    admit(request, context.admin, proxied=context.proxied)
    async with context.reading.transaction() as tx:
        waiting = await tx.all("waiting_deliveries", most=MOST_COUNTED)
        endpoints = await tx.all("count_endpoints")
        duties = await tx.all("duties_done", most=MOST_COUNTED)
        oldest = await tx.all("oldest_rows")
    return answer(_deliveries(waiting, endpoints), _duties(duties), _oldest(oldest))


def admit(request: Request, admin: bytes | None, *, proxied: bool) -> None:
    """Require ADMIN_KEY, except from a loopback peer without a proxy. Raises Unauthorized, Forbidden."""
    if proxied or not _is_near(request):
        check_admin(request, admin)


def answer(*registries: CollectorRegistry) -> Response:
    """Return the metrics of these registries and of the process."""
    text = b"".join(generate_latest(registry) for registry in (*registries, REGISTRY))
    return Response(text, media_type=CONTENT_TYPE_PLAIN_0_0_4)


def _is_near(request: Request) -> bool:
    if any(name in request.headers for name in FORWARDED) or not request.client:
        return False
    try:
        return ip_address(request.client.host).is_loopback
    except ValueError:
        return False


def _deliveries(waiting: list[Row], endpoints: list[Row]) -> CollectorRegistry:
    registry = CollectorRegistry()
    depth = Gauge(
        "postrider_webhook_deliveries_waiting",
        "Deliveries that wait: due, later (for their next attempt), resting (the endpoint is left alone) or paused.",
        ["reason"],
        registry=registry,
    )
    oldest = Gauge(
        "postrider_webhook_oldest_due_seconds",
        "For how long the oldest delivery of the reason due has been due; 0 when there is none.",
        registry=registry,
    )
    for reason in ("due", "later", "resting", "paused"):
        depth.labels(reason)
    for row in waiting:
        depth.labels(row["reason"]).set(row["deliveries"])
        if row["reason"] == "due":
            oldest.set(row["seconds"])
    status = Gauge("postrider_webhook_endpoints", "Endpoints by their status.", ["status"], registry=registry)
    for name in ("enabled", "paused", "disabled"):
        status.labels(name)
    for row in endpoints:
        status.labels(row["status"]).set(row["endpoints"])
    return registry


def _duties(duties: list[Row]) -> CollectorRegistry:
    registry = CollectorRegistry()
    workers = Gauge("postrider_workers", "Workers that live, by their duties.", ["duty"], registry=registry)
    unserved = Gauge(
        "postrider_unserved_work",
        "Messages (sessions) and deliveries (webhooks) that are due while no worker that lives has the duty.",
        ["duty"],
        registry=registry,
    )
    for row in duties:
        workers.labels(row["duty"]).set(row["workers"])
        unserved.labels(row["duty"]).set(row["waiting"])
    return registry


def _oldest(rows: list[Row]) -> CollectorRegistry:
    registry = CollectorRegistry()
    oldest = Gauge(
        "postrider_oldest_row_seconds",
        "Age of the oldest row that upkeep moves (jobs, 3 days after their end) or deletes (RETENTION_DAYS), by table.",
        ["table"],
        registry=registry,
    )
    for row in rows:
        oldest.labels(row["name"]).set(row["seconds"])
    return registry


OPERATIONS = (
    Operation(
        "GET", "/metrics", show_metrics, (200, None), forms=("text/plain",), refuses=(401, 403, 429, 503), open=True
    ),
)
