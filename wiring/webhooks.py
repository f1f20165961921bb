"""The duty `webhooks` of a worker, put together from the settings."""

import resource
from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import urlsplit

import httpx2

from resolver import Resolver
from tasks.delivery.dialer import WITNESS, Dialer
from tasks.delivery.lane import DeliveryWork
from tasks.delivery.request import Requests
from tasks.delivery.result_writer import ResultWriter
from tasks.lanes import Lanes
from tasks.part import Part
from tasks.queue import FAST, SLOW, Consumer
from wiring.frame import DRAIN_PATIENCE, Frame
from wiring.parts import unsealer

#: Endpoints that one worker delivers to at once: waiting for an answer costs little, and so many may hang.
ENDPOINT_SLOTS, SLOW_SLOTS = 1000, 1000
CROWD = 1  # calls to the database at once of all endpoints together that are new, fail or hang


def make_webhooks(frame: Frame, common: Sequence[str]) -> Part:
    """Return the part."""
    settings = frame.settings
    dialer = Dialer(settings.addresses, Resolver(), urlsplit(settings.whatsapp_url).hostname or WITNESS)
    deliveries = DeliveryWork(
        frame.database,
        frame.worker,
        Requests(dialer, httpx2.create_ssl_context(trust_env=False), unsealer(settings), _most_requests()),
        ResultWriter(frame.database),
        frame.lanes.stopping.is_set,
    )
    frame.drains[SLOW] = crowded(frame.lanes, deliveries).drain
    return Part(
        duty="webhooks",
        works={"endpoint": deliveries},
        consumers=[
            Consumer(frame.app, [FAST, *common], ENDPOINT_SLOTS, DRAIN_PATIENCE),
            Consumer(frame.app, [SLOW], SLOW_SLOTS, DRAIN_PATIENCE),
        ],
        turns=(),
    )


def _most_requests() -> int:
    """Return how many requests to receivers may be under way: the rest needs open files too."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, min(Requests.most, soft // 2))


def crowded(lanes: Lanes, deliveries: DeliveryWork) -> Lanes:
    """Return the lanes as the crowd of endpoints that are new, fail or hang drains them: some calls at a time."""
    share = lanes.database.share(CROWD)
    # With a writer of its own: giving up what hangs writes a thousand results, and no other endpoint waits for these.
    work = replace(deliveries, database=share, results=ResultWriter(share))
    return replace(lanes, database=share, works={"endpoint": work})
