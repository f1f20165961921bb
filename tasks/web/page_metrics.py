"""Prometheus metrics of WhatsApp's page: how well the selectors match it."""

import logging
from collections.abc import Iterable, Mapping

from prometheus_client import Counter, Gauge

from tasks.metrics import WORKER

log = logging.getLogger(__name__)
#: names of unknown ticks that were logged already
_logged: set[str] = set()

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


def surveyed(places: Mapping[str, int], strange: Iterable[str]) -> None:
    """Record the index of the alternative that found each element, and the ticks that no selector knows."""
    for element, place in places.items():
        if place >= 0:
            ALTERNATIVE.labels(element).set(place + 1)
    for name in strange:
        if name not in _logged:
            _logged.add(name)
            log.warning(
                "the page has a tick that no selector knows: %s", name, extra={"event": "page.strange", "tick": name}
            )
        STRANGE.labels(name).inc()
