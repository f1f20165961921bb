"""The duty `webhooks` of a worker, put together from the settings."""

import resource
from collections.abc import Sequence
from urllib.parse import urlsplit

import httpx2

from resolver import Resolver
from tasks.delivery.crowd import Crowd
from tasks.delivery.dialer import DNS_PROBE_HOST, Dialer
from tasks.delivery.lane import DeliveryWork
from tasks.delivery.request import Requests
from tasks.delivery.result_writer import ResultWriter
from tasks.lanes import Lanes
from tasks.part import Part
from tasks.queue import FAST, SLOW, Consumer
from wiring.frame import DRAIN_PATIENCE, Frame
from wiring.shared import unsealer

#: Endpoints that one worker delivers to at once, per queue: waiting for an answer costs little, and many may hang.
ENDPOINT_SLOTS, SLOW_SLOTS = 1000, 1000
SLOW_CONNECTIONS = 1  # concurrent database calls of all endpoints in the slow queue together
LONGEST_REST = 0.1  # seconds between two of them, at most


def make_webhooks(frame: Frame, common: Sequence[str]) -> Part:
    """Return the part."""
    settings = frame.settings
    dialer = Dialer(settings.addresses, Resolver(), urlsplit(settings.whatsapp_url).hostname or DNS_PROBE_HOST)
    deliveries = DeliveryWork(
        frame.database,
        frame.worker,
        Requests(dialer, httpx2.create_ssl_context(trust_env=False), unsealer(settings), _most_requests()),
        ResultWriter(frame.database),
        frame.lanes.stopping.is_set,
    )
    frame.drains[SLOW] = crowd_of(frame.lanes, deliveries).drain
    return Part(
        duty="webhooks",
        works={"endpoint": deliveries},
        consumers=[
            Consumer(frame.app, [FAST, *common], ENDPOINT_SLOTS, DRAIN_PATIENCE),
            Consumer(frame.app, [SLOW], SLOW_SLOTS, DRAIN_PATIENCE),
        ],
        periodic_tasks=(),
    )


def _most_requests() -> int:
    """Return how many requests may be in flight: half of the open files allowed, since other things need some too."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, min(Requests.most, soft // 2))


def crowd_of(lanes: Lanes, deliveries: DeliveryWork) -> Crowd:
    """Return what drains the slow queue, with few concurrent database calls."""
    return Crowd(lanes, deliveries, lanes.database.share(SLOW_CONNECTIONS, rest=LONGEST_REST))
