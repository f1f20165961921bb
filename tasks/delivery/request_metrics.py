"""Prometheus metrics of the requests to receivers."""

from prometheus_client import Counter, Histogram

from tasks.delivery.request import Answer, Delivery
from tasks.metrics import WORKER

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
    "From an event to the first request that delivers it.",
    registry=WORKER,
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600, 21600),
)


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
