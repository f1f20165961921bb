"""What a worker counts of the requests that it makes to receivers, for Prometheus."""

import logging
from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from tasks.request import Answer, Delivery

log = logging.getLogger(__name__)
#: names of ticks that were logged
_told: set[str] = set()

WORKER = CollectorRegistry()
ALTERNATIVE = Gauge(
    "postrider_selector_alternative",
    "By which of its alternatives an element of the page was found last, from 1; above 1 the page is changing.",
    ["element"],
    registry=WORKER,
)
STRANGE = Counter(
    "postrider_unknown_ticks",
    "Messages of ours that were seen with a tick that no selector knows, by what the page calls it.",
    ["name"],
    registry=WORKER,
)
REQUESTS = Counter(
    "postrider_webhook_attempts",
    "Requests to receivers that ended: by the class of the answer's status, or timeout, no_answer, own_fault.",
    ["outcome"],
    registry=WORKER,
)
ENDED = Counter(
    "postrider_webhook_deliveries_ended", "Deliveries that ended: delivered or failed.", ["state"], registry=WORKER
)
SECONDS = Histogram(
    "postrider_webhook_attempt_seconds",
    "How long a request to a receiver took, from its connection to the end of the answer.",
    registry=WORKER,
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20),
)
LAG = Histogram(
    "postrider_webhook_lag_seconds",
    "From an event to the first request that tells of it.",
    registry=WORKER,
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600, 21600),
)


def surveyed(places: Mapping[str, int], strange: Iterable[str]) -> None:
    """Note by which alternative elements were found, by their places from 0, and ticks that nobody knows."""
    for element, place in places.items():
        if place >= 0:
            ALTERNATIVE.labels(element).set(place + 1)
    for name in strange:
        if name not in _told:
            _told.add(name)
            log.warning(
                "the page has a tick that no selector knows: %s", name, extra={"event": "page.strange", "tick": name}
            )
        STRANGE.labels(name).inc()


def count(delivery: Delivery, answer: Answer, state: str) -> None:
    """Count a request that ended, and the delivery's state after it."""
    REQUESTS.labels(outcome(answer)).inc()
    SECONDS.observe(answer.duration_ms / 1000)
    if state != "pending":
        ENDED.labels(state).inc()
    if delivery.attempts == 1:
        LAG.observe((delivery.attempt_at - delivery.event_at).total_seconds())


def outcome(answer: Answer) -> str:
    """Return the class of an answer: 2xx, 3xx, 4xx, 5xx, timeout, no_answer or own_fault."""
    if answer.status is not None:
        return f"{answer.status // 100}xx"
    if not answer.counts:
        return "own_fault"
    return "timeout" if answer.timed_out else "no_answer"
