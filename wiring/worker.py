"""A worker, put together from the settings."""

import logging
import os
import resource
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from urllib.parse import urlsplit

import httpx2

from browser.engine.chromium import candidates
from browser.engine.engine import Engine
from browser.engine.guard import Guard
from browser.page.reader import Patience
from browser.page.selectors import Selectors
from resolver import Resolver
from settings import Settings
from sql.database import Database
from sql.ids import new_id
from tasks.delivery.dialer import WITNESS, Dialer
from tasks.delivery.lane import DeliveryWork
from tasks.delivery.request import Requests
from tasks.delivery.result_writer import ResultWriter
from tasks.lanes import DEAD, Lanes, Pulse
from tasks.queue import FAST, SLOW, Consumer, make_app
from tasks.sending.job import Policy
from tasks.sending.pace import Pace
from tasks.upkeep import Upkeep
from tasks.web.account_errors import AccountErrors
from tasks.web.checkups import Checkups
from tasks.web.evidence_store import EvidenceStore
from tasks.web.incoming import Incoming
from tasks.web.lane import AccountWork
from tasks.web.linking import Linking
from tasks.web.probe import Probe
from tasks.web.profiles import Profiles
from tasks.web.seats import Seats
from tasks.web.selector_source import LOOK, SelectorSource
from tasks.web.send import Sender
from tasks.web.state_changes import Account, States
from tasks.web.ticks import Ticks
from tasks.web.watchdog import Sealing, Watchdog
from tasks.worker import Heartbeat, Worker
from wiring import selectors
from wiring.parts import PATIENCE, TAKEOVER, VERSION, pace_limits, sandbox_url, sealer

log = logging.getLogger(__name__)

#: Endpoints that one worker delivers to at once: waiting for an answer costs little, and so many may hang.
ENDPOINT_SLOTS, SLOW_SLOTS = 1000, 1000
CROWD = 1  # calls to the database at once of all endpoints together that are new, fail or hang
SEAL_EVERY = 3600.0  # seconds between seals of a session that stays open; six hours is the most a login may be behind
DRAIN_PATIENCE = 25.0  # seconds a message in hand is given when the worker stops


def make_worker(
    settings: Settings,
    url: str,
    home: str,
    patience: Patience = Patience(),  # noqa: B008 - it is frozen
) -> tuple[Worker, Engine]:
    """Return a worker and its engine; the caller opens the worker's database and closes the engine.

    `patience` is what it has with the pages of its accounts.
    """
    worker = new_id("wrk_")
    database = Database(url, size=settings.seats + 10, name="postrider worker", patience=PATIENCE)
    candidates(settings.chromium_path)  # a worker without any ends now; which of them starts, the first opening tells
    engine = Engine(
        executable=settings.chromium_path, sandbox=settings.chromium_sandbox, profiles=settings.profiles.resolve()
    )
    lanes = Lanes(database, worker, {})
    states = States(database, worker)
    source = selectors.source(settings)
    seats = _seats(
        settings, patience, database=database, lanes=lanes, states=states, home=home, engine=engine, looks=source.load()
    )
    source.use = seats.use
    evidence = EvidenceStore.at(settings.evidence_url, settings.data_dir / "evidence")
    incoming = Incoming(database, seats)
    dialer = Dialer(settings.addresses, Resolver(), urlsplit(settings.whatsapp_url).hostname or WITNESS)
    deliveries = DeliveryWork(
        database,
        worker,
        Requests(dialer, httpx2.create_ssl_context(trust_env=False), _unseal(settings), _most_requests()),
        ResultWriter(database),
        lanes.stopping.is_set,
    )
    probe = Probe(database, seats)
    lanes.works = {
        "account": _account_work(
            settings, seats=seats, states=states, lanes=lanes, evidence=evidence, incoming=incoming, probe=probe
        ),
        "endpoint": deliveries,
    }
    crowd = crowded(lanes, deliveries)
    upkeep = Upkeep(database, settings.keepalive_days, settings.retention_days)
    app = make_app(url, lanes.drain, upkeep.run_once, size=10, crowd=crowd.drain)
    consumers = [
        Consumer(app, [f"account@{worker}", "account"], settings.seats, DRAIN_PATIENCE),
        Consumer(app, [FAST, "upkeep"], ENDPOINT_SLOTS, DRAIN_PATIENCE),
        Consumer(app, [SLOW], SLOW_SLOTS, DRAIN_PATIENCE),
    ]
    return Worker(
        id=worker,
        database=database,
        app=app,
        lanes=lanes,
        seats=seats,
        duties=_duties(
            settings, database=database, seats=seats, incoming=incoming, source=source, evidence=evidence, probe=probe
        ),
        pulse=Pulse(
            url,
            settings.settle_seconds,
            max(DEAD, settings.lease_seconds) + TAKEOVER,
            settings.breaker_seconds if settings.breaker_failures else 0,
        ),
        heartbeat=Heartbeat(
            database, worker, seats, consumers, settings.lease_seconds, settings.database_grace_seconds
        ),
        consumers=consumers,
        host=f"{socket.gethostname()}:{os.getpid()}",
        version=VERSION,
    ), engine


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


def _duties(
    settings: Settings,
    *,
    database: Database,
    seats: Seats,
    incoming: Incoming,
    source: SelectorSource,
    evidence: EvidenceStore,
    probe: Probe,
) -> list[tuple[str, float, Callable[[], Awaitable[object]]]]:
    """List what a worker does again and again, with the seconds between."""
    return [
        ("ticks", 1.0, Ticks(database, seats).run_once),
        ("incoming", 2.0, incoming.run_once),
        ("idle", 5.0, lambda: seats.leave_idle(settings.idle_seconds)),
        ("sealing", 5.0, Sealing(seats, SEAL_EVERY).run_once),
        ("watchdog", settings.watchdog_seconds, Watchdog(database, seats, settings.memory_limit_mb).run_once),
        ("selectors", LOOK, source.run_once),
        ("probe", LOOK, probe.run_once),
        ("checkups", 1.0, Checkups(database, seats, lambda: source.origin).run_once),
        # In every worker: folders on other machines are out of reach.
        ("tidying", 600.0, seats.tidy),
        ("evidence", 3600.0, lambda: evidence.sweep(settings.retention_days)),
    ]


def _seats(
    settings: Settings,
    patience: Patience,
    *,
    database: Database,
    lanes: Lanes,
    states: States,
    home: str,
    engine: Engine,
    looks: Selectors,
) -> Seats:
    sandbox = sandbox_url(settings)

    def url(account: Account) -> str:
        return settings.whatsapp_url if account.transport == "web" else f"{sandbox}/web/{account.id}/"

    return Seats(
        database=database,
        worker=lanes.worker,
        states=states,
        profiles=Profiles(database, lanes.worker, home, settings.profiles.resolve(), sealer(settings)),
        engine=engine,
        guard=Guard(),
        selectors=looks,
        capacity=settings.seats,
        lease_seconds=settings.lease_seconds,
        typing_delay_ms=settings.typing_delay_ms,
        patience=patience,
        url=url,
        unseal=_unseal(settings),
        draining=lambda account: account in lanes.draining,
        stopping=lanes.stopping.is_set,
    )


def _account_work(
    settings: Settings,
    *,
    seats: Seats,
    states: States,
    lanes: Lanes,
    evidence: EvidenceStore,
    incoming: Incoming,
    probe: Probe,
) -> AccountWork:
    database, worker = seats.database, seats.worker
    policy = Policy(
        attempts=settings.send_attempts,
        backoff_seconds=settings.send_backoff_seconds,
        confirm_seconds=settings.confirm_seconds,
        settle_seconds=settings.settle_seconds,
    )
    return AccountWork(
        database=database,
        seats=seats,
        states=states,
        sender=Sender(database, worker, policy, incoming, evidence),
        linking=Linking(database, worker, states, lanes.stopping.is_set),
        errors=AccountErrors(
            database, worker, seats, states, evidence, settings.breaker_failures, settings.breaker_seconds
        ),
        pace=Pace(
            database, pace_limits(settings), defer=settings.daily_cap_action == "defer", stopping=lanes.stopping.is_set
        ),
        probe=probe,
        keepalive_days=settings.keepalive_days,
    )


def _unseal(settings: Settings) -> Callable[[bytes, str], str]:
    keys = sealer(settings)
    return lambda sealed, about: keys.open(sealed, about.encode()).decode()
