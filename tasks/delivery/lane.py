"""The work of an endpoint's lane: make the requests that are due, several at once, and record their results.

Delivery is at least once: if a worker dies between a request and its record, the delivery is sent again, with the same
webhook-id.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from logs import bind
from sql.database import Database
from tasks.delivery.connections import Connections
from tasks.delivery.dispatch import GONE, OFFLINE_BACKOFF, Dispatch, Ended
from tasks.delivery.endpoint_health import EndpointHealth
from tasks.delivery.rate import Rate
from tasks.delivery.request import Answer, Delivery, Requests
from tasks.delivery.request_metrics import count
from tasks.delivery.result_writer import ResultWriter
from tasks.delivery.retry import Retry
from tasks.lanes import Drain

log = logging.getLogger(__name__)


@dataclass
class DeliveryWork:
    """Handles the rows of endpoint lanes."""

    database: Database
    worker: str
    requests: Requests
    results: ResultWriter
    stopping: Callable[[], bool]
    #: dispatches of unfinished drains, by lane
    _dispatches: "dict[str, Dispatch]" = field(default_factory=dict)

    async def begin(self, drain: Drain) -> bool:
        """Queue again what an earlier drain left in flight, load the endpoint's health, begin the first deliveries."""
        rows = await self.database.all(
            "take_deliveries", lane=drain.lane, epoch=drain.epoch, worker=self.worker, begins=True, most=None
        )
        if not rows:
            return False
        row = rows[0]
        health = EndpointHealth(row["in_flight"], row["failures"], row["rests"], row["failing_since"], row["failed_at"])
        rate = Rate.of(row["per_second"], row["not_ready_for"])
        self._dispatches[drain.lane] = Dispatch(
            self.database, self.worker, self.deliver, self.stopping,
            drain, row["url"], health, rate, self.requests.connections(), recovers=row["recovers"],
        )  # fmt: skip
        self._dispatches[drain.lane].begin(Delivery.of(rows), row["most"])
        return True

    async def one(self, drain: Drain) -> bool:
        """Make the endpoint's due requests for a slice of time; return whether more may be due."""
        dispatch = self._dispatches.pop(drain.lane)
        try:
            more = await dispatch.run()
        finally:
            await dispatch.connections.close()
        if more:
            self._dispatches[drain.lane] = dispatch
        return more

    async def deliver(self, delivery: Delivery, connections: Connections) -> Ended:
        """Make one request and record its result: a failure is committed by then, a success will be."""
        with bind(endpoint=delivery.endpoint_id, delivery=delivery.id, job=delivery.job_id or ""):
            answer = await self.requests.post(delivery, connections)
            state, seconds = next_of(delivery, answer)
            _log_attempt(delivery, answer, state)
            count(delivery, answer, state)
            written = self.results.write({
                "delivery": delivery.id, "claim": str(delivery.claim),
                "attempt": delivery.attempt_id, "attempt_at": delivery.attempt_at.isoformat(),
                "state": state, "seconds": seconds, "counts": answer.counts, "status": answer.status,
                "error": answer.error, "duration_ms": answer.duration_ms, "response": answer.response,
                "headers": answer.headers,
            })  # fmt: skip
            if not answer.ok:
                await written
            return Ended(delivery, answer, written)


def _log_attempt(delivery: Delivery, answer: Answer, state: str) -> None:
    log.info(
        "%s %s: %s", delivery.type, delivery.event_id, answer.error or answer.status,
        extra={"event": "delivery.attempt", "type": delivery.type, "state": state, "status": answer.status,
               "reason": answer.error, "ms": answer.duration_ms, "attempts": delivery.attempts},
    )  # fmt: skip
    if state == "failed":
        log.warning(
            "delivery %s has failed: %s", delivery.id, answer.error,
            extra={"event": "delivery.failed", "type": delivery.type, "status": answer.status,
                   "reason": answer.error, "attempts": delivery.attempts},
        )  # fmt: skip


def next_of(delivery: Delivery, answer: Answer) -> tuple[str, float]:
    """Return the delivery's next state and the seconds until it is due."""
    if answer.ok:
        return "delivered", 0.0
    if not answer.counts:
        return "pending", OFFLINE_BACKOFF
    if answer.status == GONE:
        return "failed", 0.0
    pause = Retry.of(delivery.retry).pause(delivery.attempts - delivery.replayed, answer.retry_after)
    return ("failed", 0.0) if pause is None else ("pending", pause)
