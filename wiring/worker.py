"""A worker, put together from the settings: a part for each of its duties."""

import os
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

from errors import SettingsWrong
from settings import Settings
from sql.database import Database
from sql.ids import new_id
from sql.roles import Role
from tasks.heartbeat import Heartbeat
from tasks.lanes import Lanes
from tasks.part import Part
from tasks.pulse import DEAD, Pulse
from tasks.queue import OrgsDrainer, make_app
from tasks.upkeep import Upkeep
from tasks.worker import Worker
from wiring.frame import Frame
from wiring.shared import PATIENCE, TAKEOVER, VERSION, pace_limits, sealer

if TYPE_CHECKING:
    from browser.page.reader import Patience

CONNECTIONS = 10  # to Postgres, besides one for each seat


def make_worker(settings: Settings, url: str, home: str | None, patience: "Patience | None" = None) -> Worker:
    """Return a worker with WORKER_DUTIES.

    `home` is the identity of its directory of profiles, `patience` has the timeouts of its pages; both are for the
    duty `sessions`.
    """
    worker, duties = new_id("wrk_"), settings.worker_duties
    seats = settings.seats if "sessions" in duties else 0
    database = Database(url, Role.WORKER, size=seats + CONNECTIONS, name="postrider worker", patience=PATIENCE)
    lanes, drains = Lanes(database, worker, {}), dict[str, OrgsDrainer]()
    upkeep = Upkeep(database, settings.keepalive_days, settings.retention_days, lanes.stopping)
    app = make_app(url, lanes.drain, upkeep.run_once, size=CONNECTIONS, drains=drains)
    frame = Frame(settings, worker, database, lanes, app, drains)
    parts = [_part(duty, frame, home, patience, frame.common if duty == duties[-1] else ()) for duty in duties]
    lanes.works = {kind: work for part in parts for kind, work in part.works.items()}
    return Worker(
        id=worker,
        database=database,
        app=app,
        lanes=lanes,
        parts=parts,
        pulse=Pulse(
            url,
            settings.settle_seconds,
            max(DEAD, settings.lease_seconds) + TAKEOVER,
            settings.breaker_seconds if settings.breaker_failures else 0,
        ),
        heartbeat=Heartbeat(
            Database(url, Role.WORKER, size=1, name="postrider heartbeat", patience=PATIENCE),
            worker,
            parts,
            sealer(settings).fingerprints,
            settings.lease_seconds,
            settings.database_grace_seconds,
        ),
        host=f"{socket.gethostname()}:{os.getpid()}",
        version=VERSION,
        pace_limits=pace_limits(settings),
    )


def _part(duty: str, frame: Frame, home: str | None, patience: "Patience | None", common: Sequence[str]) -> Part:
    # Imported only for its duty: a worker for webhooks needs no Playwright, and takes half the memory without it.
    if duty == "sessions" and home is not None:
        from wiring.sessions import make_sessions  # noqa: PLC0415

        return make_sessions(frame, home, patience, common)
    if duty == "webhooks":
        from wiring.webhooks import make_webhooks  # noqa: PLC0415

        return make_webhooks(frame, common)
    raise SettingsWrong(f"WORKER_DUTIES: there is no duty {duty}.")
