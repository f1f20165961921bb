"""The duty `sessions` of a worker, put together from the settings."""

from collections.abc import Sequence

from browser.engine.chromium import candidates
from browser.engine.engine import Engine
from browser.engine.guard import Guard
from browser.page.reader import Patience
from browser.page.selectors import Selectors
from resolver import Resolver
from settings import Settings
from tasks.part import PeriodicTask
from tasks.queue import Consumer
from tasks.sending.claimed_job import Policy
from tasks.sending.jobs import Jobs
from tasks.sending.pace import Pace
from tasks.web.account_errors import AccountErrors
from tasks.web.checkups import Checkups
from tasks.web.evidence_store import EvidenceStore
from tasks.web.incoming import Incoming
from tasks.web.job_evidence import JobEvidence
from tasks.web.lane import AccountWork
from tasks.web.linking import Linking
from tasks.web.probe import Probe
from tasks.web.profiles import Profiles
from tasks.web.proxy_addresses import ProxyAddresses
from tasks.web.seats import Seats
from tasks.web.selector_source import POLL_SECONDS, SelectorSource
from tasks.web.send import Sender
from tasks.web.sessions import DUTY, Sessions
from tasks.web.state_changes import Account, States
from tasks.web.ticks import Ticks
from tasks.web.watchdog import Sealing, Watchdog
from wiring import selectors
from wiring.frame import DRAIN_PATIENCE, Frame
from wiring.shared import pace_limits, sandbox_url, sealer, unsealer

SEAL_EVERY = 3600.0  # seconds between seals of an open session; a sealed login may be at most six hours behind


def make_sessions(frame: Frame, home: str, patience: Patience | None, common: Sequence[str]) -> Sessions:
    """Return the part; `home` is the identity of its directory of profiles, `patience` has the timeouts of its pages.

    Raises ChromiumMissing when there is no Chromium.
    """
    settings, worker = frame.settings, frame.worker
    candidates(settings.chromium_path)  # whether one of them starts is found out at the first opening
    states = States(frame.database, worker)
    source = selectors.source(settings)
    seats = _seats(frame, states, home, patience or Patience(), source.load())
    source.use = seats.use
    evidence = EvidenceStore.at(settings.evidence_url, settings.data_dir / "evidence")
    incoming, probe = Incoming(frame.database, seats), Probe(frame.database, seats)
    queues = [f"account@{worker}", "account", *common]
    return Sessions(
        duty=DUTY,
        works={"account": _work(frame, seats, states, incoming=incoming, probe=probe, evidence=evidence)},
        consumers=[Consumer(frame.app, queues, settings.seats + len(common), DRAIN_PATIENCE)],
        periodic_tasks=_periodic_tasks(settings, seats, source, incoming=incoming, probe=probe, evidence=evidence),
        seats=seats,
    )


def _periodic_tasks(
    settings: Settings,
    seats: Seats,
    source: SelectorSource,
    *,
    incoming: Incoming,
    probe: Probe,
    evidence: EvidenceStore,
) -> list[PeriodicTask]:
    database = seats.database
    watchdog = Watchdog(database, seats, settings.memory_limit_mb)
    return [
        PeriodicTask("ticks", 1.0, Ticks(database, seats).run_once),
        PeriodicTask("incoming", 2.0, incoming.run_once),
        PeriodicTask("unattended", 5.0, seats.release_unattended),
        PeriodicTask("idle", 5.0, lambda: seats.leave_idle(settings.idle_seconds)),
        PeriodicTask("sealing", 5.0, Sealing(seats, SEAL_EVERY).run_once),
        PeriodicTask("watchdog", settings.watchdog_seconds, watchdog.run_once),
        PeriodicTask("selectors", POLL_SECONDS, source.run_once),
        PeriodicTask("probe", POLL_SECONDS, probe.run_once),
        PeriodicTask("checkups", 1.0, Checkups(database, seats, lambda: source.origin).run_once),
        # In every worker: no other machine can reach this one's folders.
        PeriodicTask("tidying", 600.0, seats.tidy),
        PeriodicTask("evidence", 3600.0, lambda: evidence.sweep(settings.retention_days)),
    ]


def _seats(frame: Frame, states: States, home: str, patience: Patience, initial: Selectors) -> Seats:
    settings, lanes, profiles = frame.settings, frame.lanes, frame.settings.profiles.resolve()
    sandbox = sandbox_url(settings)

    def url(account: Account) -> str:
        return settings.whatsapp_url if account.transport == "web" else f"{sandbox}/web/{account.id}/"

    return Seats(
        database=frame.database,
        worker=frame.worker,
        states=states,
        profiles=Profiles(frame.database, frame.worker, home, profiles, sealer(settings)),
        engine=Engine(executable=settings.chromium_path, sandbox=settings.chromium_sandbox, profiles=profiles),
        guard=Guard(),
        selectors=initial,
        capacity=settings.seats,
        lease_seconds=settings.lease_seconds,
        typing_delay_ms=settings.typing_delay_ms,
        patience=patience,
        url=url,
        unseal=unsealer(settings),
        find_proxy=ProxyAddresses(settings.proxy_addresses, Resolver()).find,
        draining=lambda account: account in lanes.draining,
        stopping=lanes.stopping.is_set,
    )


def _work(
    frame: Frame, seats: Seats, states: States, *, incoming: Incoming, probe: Probe, evidence: EvidenceStore
) -> AccountWork:
    settings, database, worker, stopping = frame.settings, frame.database, frame.worker, frame.lanes.stopping.is_set
    policy = Policy(
        attempts=settings.send_attempts,
        backoff_seconds=settings.send_backoff_seconds,
        confirm_seconds=settings.confirm_seconds,
        settle_seconds=settings.settle_seconds,
    )
    jobs = Jobs(database, worker, policy)
    return AccountWork(
        database=database,
        seats=seats,
        states=states,
        jobs=jobs,
        sender=Sender(jobs, incoming, JobEvidence(database, evidence)),
        linking=Linking(database, worker, states, stopping),
        errors=AccountErrors(
            database, worker, seats, states, evidence, settings.breaker_failures, settings.breaker_seconds
        ),
        pace=Pace(database, pace_limits(settings), defer=settings.daily_cap_action == "defer", stopping=stopping),
        probe=probe,
        keepalive_days=settings.keepalive_days,
    )
