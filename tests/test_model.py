"""A model of job, lease and lane: random interleavings of real drains, with every fault between two steps.

    pytest tests/test_model.py                            a fixed set of examples, the same at each run
    MODEL_MINUTES=20 pytest tests/test_model.py           new ones for so long; a failure says how to repeat it

fixtures_model.py says what is real and what is the model's own. Time is the model's, in Postgres too. Each statement
and each transaction is one step: what two of them do to each other while both are open is not modelled.
"""

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from enum import StrEnum
from functools import partial
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import psycopg
import pytest
from fixtures_model import CLOCK, DEDUPE, HOMES, Actor, How, ModelWorker, World, local_evidence
from hypothesis import HealthCheck, Phase, currently_in_test_context, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

import tasks.lanes
import tasks.sending.jobs
import tasks.web.send
from sql.database import Row

T = TypeVar("T")

MINUTES = float(os.environ.get("MODEL_MINUTES", "0"))
#: courses of events that are tried, and in the long test; and the steps of each
EXAMPLES, MORE, STEPS = 10, 200, 20
pytestmark = pytest.mark.timeout(900 + 120 * MINUTES)

ENDED = frozenset({"sent", "delivered", "read", "failed", "cancelled"})
TERMINAL = {"sent": "JobCompleted", "failed": "JobFailed", "cancelled": "JobCancelled"}
PHONES = ("15556660001", "15556660002")
#: seconds until it may be sent, and from then until it expires
WHEN = {"now": (0, 0), "now or never": (0, 15), "later": (20, 0), "later or never": (20, 15)}
#: from → to; docs/architecture.md draws it
TRANSITIONS = {
    None: {"queued"},
    "queued": {"sending", "failed", "cancelled"},
    "sending": {"queued", "submitting", "failed"},
    "submitting": {"queued", "sent", "failed"},
    "failed": {"queued"},
}
#: statements that write what became of a job, by its claim; what is known is written by whoever knows it
RESULTS = {"job_sent", "job_failed", "try_again", "return_job", "settle_soon"}
#: where to stop a drain, besides at its end
PLACES = ("begin_drain", "release_typed", "lease_account", "take_submitted", "look_for", "take_job", "open_chat", "arm",
          "submit_job", "press_enter", "held_back", "confirm", "job_sent", "end_drain", "finish")  # fmt: skip
#: of these, where the older of two drains stops, and where the newer one
OLDER = ("take_job", "arm", "submit_job", "press_enter", "job_sent")
NEWER = ("begin_drain", "release_typed", "look_for", "finish")
#: what users do in the middle of a drain
WISHES = ("cancel", "pause", "stop_all", "order again")
LONGEST = 60  # steps of one drain that are done at once
#: seconds that pass until everything is quiet, a few at a time: death at 35, settling at 900, backoffs between
QUIET = (0, 1, 2, 5, 10, 20, 40, 40, 60, 120, 300, 300, 300, 300, 300)


class Fate(StrEnum):
    """Why a newer drain begins before the one in hand has ended."""

    DIES = "dies"  # its worker, and is declared dead
    DECLARED = "declared"  # dead, though its worker is only frozen
    LAPSES = "lapses"  # its lease does, with a worker that is frozen and not declared dead
    UNLOCKED = "unlocked"  # its wake-up was ended by hand: fencing must not rest on procrastinate's lock


PICK = st.integers(0, 2)
PLACE, HOW, PHONE = st.sampled_from(PLACES), st.sampled_from(How), st.sampled_from(PHONES)


def move(name: str, *how: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.tuples(st.just(name), *how)


#: those that lead on stand here more than once
MOVES = st.one_of(
    move("work", PICK, PLACE),
    move("work", PICK, PLACE),
    move("work", PICK, PLACE),
    move("step", PICK, HOW),
    move("step", PICK, HOW),
    move("step", PICK, HOW),
    move("take_over", PICK, PLACE, st.sampled_from(Fate), st.sampled_from(["goes on", "stays frozen"])),
    move("take_over", PICK, PLACE, st.sampled_from(Fate)),
    move("fetch", PICK),
    move("harm", PICK, st.sampled_from(["freeze", "crash", "lose the browser"])),
    move("thaw"),
    move("start", st.sampled_from(HOMES)),
    move("rest", st.sampled_from(["seal", "leave"])),
    move("look_for_lost_wakeups"),
    move("advance", st.sampled_from([0, 1, 6, 12, 31, 40, 1000]), st.just("pulse")),
    move("advance", st.sampled_from([6, 12, 40]), st.sampled_from(["pulse", "no pulse"])),
    move("connect"),
    move("order", PHONE, st.sampled_from(["key", "no key"]), st.sampled_from(["its own", "hello"]),
         st.sampled_from(["normal", "high"]), st.sampled_from(list(WHEN))),
    move("order", PHONE),
    move("order_again", PICK),
    move("ask", st.sampled_from(["cancel", "retry", "force"]), PICK),
    move("ask", st.sampled_from(["cancel", "retry", "force"]), PICK),
    move("steer", st.sampled_from(["pause", "resume", "resume", "stop_all", "start_all"])),
)  # fmt: skip

JOBS = """
select id, key, phone, state, seq, attempts, claim, due_at, error_code, expires_at,
       array(select type from outbox where job_id = jobs.id and type in ('JobCompleted', 'JobFailed', 'JobCancelled')
             order by sequence) as events,
       (select count(*) from outbox where job_id = jobs.id and not exists (
           select from deliveries where event_id = outbox.id)) as undelivered
from jobs
order by seq
"""
LANE = """
select epoch, drained_by, wakeup_id, attend_at, leased_by, lease_until
from lanes join accounts using (id) where id = 'acc_model'
"""


class Model(RuleBasedStateMachine):
    """One account, two recipients, at most two workers at a time."""

    make: Callable[[], World]

    def __init__(self) -> None:
        super().__init__()
        self.world = self.make()
        self.broken = False
        #: the steps so far, for whoever reads a failure
        self.told: list[str] = []
        self.jobs: dict[str, Row] = {}
        self.lane: Row = {}
        #: job → how often a user had it sent again, and of these with force
        self.retried: dict[str, int] = {}
        self.forced: dict[str, int] = {}
        self.orders: list[tuple[dict[str, Any], str, float]] = []
        self.epochs: dict[int, Actor] = {}
        self.do(self.world.open())
        self.look()

    def do(self, work: Awaitable[T]) -> T:
        try:
            return self.world.run(work)
        except BaseException:
            self.broken = True
            raise

    @initialize(
        guarded=st.booleans(),
        two=st.booleans(),
        followed=st.booleans(),
        phone=PHONE,
        place=PLACE,
        how=HOW,
    )
    def begin(self, *, guarded: bool, two: bool, followed: bool, phone: str, place: str, how: How) -> None:
        """Begin where it is interesting: a message is on its way, as far as `place`, and what comes next goes wrong."""
        self.world.guarded = guarded
        for home in HOMES[: 1 + two]:
            self.do(self.world.start(home))
        self.order(PHONES[0])
        if followed:
            self.order(phone)
        self.work(0, place)
        for actor in self.world.stopped:
            self.go(actor, how)

    def meet(self, older: str, fate: Fate, newer: str) -> None:
        """Have two drains of one lane meet, and the older one go on first. Nobody ends the browser of a lost lease."""
        self.world.guarded = False
        self.do(self.world.start(HOMES[0]))
        self.order(PHONES[0])
        self.order(PHONES[0])
        self.work(0, older)
        self.take_over(0, newer, fate)
        for actor in self.world.stopped:
            self.run(actor)

    def interrupt(self, place: str, wish: str) -> None:
        """Have a user ask for something when a drain is stopped at a place."""
        self.do(self.world.start(HOMES[0]))
        self.order(PHONES[0])
        self.work(0, place)
        if wish == "cancel":
            self.cancel(*self.jobs)
        elif wish == "order again":
            self.order_again(0)
        else:
            self.steer(wish)

    @rule(move=MOVES)
    def then(self, move: tuple[Any, ...]) -> None:
        """Do something. One rule, so that hypothesis never leaves a kind of move out of a whole example."""
        name, *how = move
        getattr(self, name)(*how)

    # --- workers -----------------------------------------------------------------------------------------------------

    def work(self, pick: int, place: str) -> None:
        """Have a worker go on with its newest drain, or take a wake-up, as far as a place."""
        for worker in self.pick(self.world.running, pick):
            drains = self.world.drains_of(worker)
            actors = drains[-1:] or self.fetched(worker)
            self.look()
            for actor in actors:
                self.run(actor, place)

    def fetch(self, pick: int) -> None:
        """Have a worker take a wake-up, whatever else it does."""
        for worker in self.pick(self.world.running, pick):
            self.do(self.world.fetch(worker))
            self.look()

    def step(self, pick: int, how: How) -> None:
        for actor in self.pick(self.world.stopped, pick):
            self.go(actor, how)

    def harm(self, pick: int, what: str) -> None:
        for worker in self.pick(self.world.alive, pick):
            if what == "crash":
                self.world.kill(worker)
            elif what == "freeze":
                worker.frozen = True
            else:
                worker.close()
        self.look()

    def thaw(self) -> None:
        for worker in self.world.alive:
            worker.frozen = False

    def take_over(self, pick: int, place: str, fate: Fate, then: str = "goes on") -> None:
        """Have a newer drain come as far as a place, whatever an older one is in the middle of."""
        for worker in self.pick([one for one in self.world.running if self.world.drains_of(one)], pick):
            if fate is Fate.DIES:
                self.world.kill(worker)
            worker.frozen = fate is not Fate.UNLOCKED
            for home in HOMES:
                self.start(home)
            if fate is Fate.UNLOCKED:
                self.do(self.world.unlock())
            else:
                self.do(self.world.advance(40))
            self.do(self.world.beat_pulse(judges=fate is not Fate.LAPSES))
            self.look()
            for other in self.world.running:
                for actor in self.fetched(other):
                    self.look()
                    if actor.label != place:
                        self.run(actor, place)
            worker.frozen = then == "stays frozen"

    def start(self, home: str) -> None:
        self.do(self.world.start(home))
        self.look()

    def rest(self, what: str) -> None:
        """Seal what is open, or give back what is idle."""
        for worker in self.world.idle if what == "leave" else self.world.sealable:
            self.do(worker.leave() if what == "leave" else worker.seal(whole=False))
        self.look()

    def look_for_lost_wakeups(self) -> None:
        for worker in self.world.running:
            self.do(worker.lost.run_once())
        self.look()

    # --- the world ---------------------------------------------------------------------------------------------------

    def advance(self, seconds: int, then: str = "pulse") -> None:
        self.do(self.world.advance(seconds))
        self.look()
        if then == "pulse":
            self.do(self.world.beat_pulse())
            self.look()

    def connect(self) -> None:
        self.world.connect()
        self.look()

    # --- what users do -----------------------------------------------------------------------------------------------

    def order(
        self, phone: str, name: str = "key", text: str = "its own", priority: str = "normal", when: str = "now"
    ) -> None:
        number = len(self.orders) + 1
        later, ttl = WHEN[when]
        fields = {
            "phone": phone,
            "message": f"message {number}" if text == "its own" else text,
            "idempotencyKey": f"key_{number}" if name == "key" else None,
            "priority": priority,
            "sendAt": self.world.wire(later) if later else None,
            "expiresAt": self.world.wire(later + ttl) if ttl else None,
        }
        self.orders.append((fields, self.do(self.world.order(**fields)), self.world.clock))
        self.look()

    def order_again(self, pick: int) -> None:
        for fields, job, at in self.pick(self.orders, pick):
            if fields["expiresAt"] is None and fields["sendAt"] is None:
                again = self.do(self.world.order(**fields))
                assert again == job or (fields["idempotencyKey"] is None and self.world.clock - at >= DEDUPE)
                self.look()

    def ask(self, wish: str, pick: int) -> None:
        failed = [name for name, job in self.jobs.items() if job["state"] == "failed"]
        for job in self.pick(list(self.jobs) if wish == "cancel" else failed, pick):
            if wish == "cancel":
                self.cancel(job)
            else:
                self.retry(job, force=wish == "force")

    def steer(self, wish: str) -> None:
        self.do(self.world.steer(wish))
        self.look()

    def cancel(self, job: str) -> None:
        cancelled = self.do(self.world.cancel(job))
        assert cancelled is (self.jobs[job]["state"] == "queued")
        self.look()

    def retry(self, job: str, *, force: bool) -> None:
        unknown = self.jobs[job]["error_code"] == "outcome_unknown"
        retried = self.do(self.world.retry(job, force=force))
        assert retried is (force or not unknown)
        if retried:
            self.retried[job] = self.retried.get(job, 0) + 1
            self.forced[job] = self.forced.get(job, 0) + unknown
        self.look()

    # --- steps -------------------------------------------------------------------------------------------------------

    def tell(self, line: str) -> None:
        self.told.append(line)
        if currently_in_test_context():
            note(line)

    @staticmethod
    def pick(some: list[T], number: int) -> list[T]:
        """Choose one of some, if there is any."""
        return [some[number % len(some)]] if some else []

    def run(self, actor: Actor, place: str = "") -> None:
        for _ in range(LONGEST):
            if actor.ended or not actor.worker.runs:
                return
            before = actor.label
            self.go(actor, How.WELL)
            if actor.label in {place, before if before == "busy" else ""}:
                return

    def go(self, actor: Actor, how: How) -> None:
        label, entered = actor.label, self._entered()
        fenced = actor.drain is not None and actor.drain.epoch < self.lane["epoch"]
        self.do(actor.go(how))
        self.tell(f"    {actor.worker.id}/{actor.wakeup}: {label} {how}{' (fenced off)' if fenced else ''}")
        jobs, lane = self.jobs, self.lane
        self.look(anew=actor.ran is not None)
        with self.watched():
            self._check_fencing(actor, jobs, lane, fenced=fenced)
            self._check_order(jobs, self._entered() - entered)
            if actor.drain:
                assert self.epochs.setdefault(actor.drain.epoch, actor) is actor, "two drains have one epoch"

    def _entered(self) -> set[tuple[str, str]]:
        return {(job, message) for job, messages in self.world.entered.items() for message in messages}

    def watched(self) -> "Watched":
        return Watched(self)

    # --- what must hold ----------------------------------------------------------------------------------------------

    def look(self, *, anew: bool = True) -> None:
        """Read what there is now, where it may have changed, and check it."""
        jobs = {row["id"]: row for row in self.do(self.world.rows(JOBS))} if anew else self.jobs
        (lane,) = self.do(self.world.rows(LANE)) if anew else (self.lane,)
        with self.watched():
            for name, job in jobs.items():
                self._check_step(self.jobs.get(name), job)
                self._check_events(job)
                self._check_recipient(job)
            keys = [job["key"] for job in jobs.values() if job["key"]]
            assert len(keys) == len(set(keys)), "a key has two jobs"
            assert sum(job["state"] == "sending" for job in jobs.values()) <= 1, "two jobs are typed at once"
            self._check_enter(lane)
        self.jobs, self.lane = jobs, lane

    def _check_step(self, before: Row | None, job: Row) -> None:
        old = before["state"] if before else None
        assert old == job["state"] or job["state"] in TRANSITIONS.get(old, set()), f"{old} → {job['state']}"
        claimed = job["claim"] is not None
        assert claimed is (job["state"] in {"sending", "submitting"}), f"{job['state']} with a claim: {claimed}"

    def _check_events(self, job: Row) -> None:
        """Each round ends with one event, in the transaction of the state, and one delivery for the endpoint."""
        rounds = self.retried.get(job["id"], 0) + (job["state"] in ENDED)
        assert len(job["events"]) == rounds, f"{job['state']}, round {rounds}, has {job['events']}"
        assert job["state"] not in ENDED or job["events"][-1] == TERMINAL[job["state"]]
        assert job["undelivered"] == 0, "an event has no delivery"

    def _check_recipient(self, job: Row) -> None:
        has, forced = len(self.world.received.get(job["id"], ())), self.forced.get(job["id"], 0)
        assert has <= 1 + forced, "its recipient has it twice"
        assert len(self.world.entered.get(job["id"], ())) <= 1 + forced, "Enter went through twice"
        assert has or job["state"] != "sent", "sent, and its recipient does not have it"
        nothing = job["state"] in {"queued", "sending", "cancelled"} or (
            job["state"] == "failed" and job["error_code"] != "outcome_unknown"
        )
        assert not has or forced or not nothing, f"{job['state']} {job['error_code']}, and its recipient has it"

    def _check_enter(self, lane: Row) -> None:
        """Whoever may press Enter now and be let through holds the lease for longer than that."""
        armed = [(actor.worker, page) for actor in self.world.at("press_enter") if (page := actor.worker.armed)]
        assert len(armed) <= 1, "two may press Enter at once"
        for worker, page in armed:
            assert lane["leased_by"] == worker.id, "Enter may be pressed without the lease"
            assert lane["lease_until"] >= self.world.at_clock(page.armed_until or 0), "Enter may come after the lease"

    def _check_fencing(self, actor: Actor, jobs: dict[str, Row], lane: Row, *, fenced: bool) -> None:
        changed = self.jobs != jobs
        name, values = actor.ran or ("", {})
        if name in RESULTS and changed:
            assert values["claim"] == jobs[values["job"]]["claim"], f"{name} wrote without its claim"
        if fenced and name not in RESULTS | {"not_pressed", "close_held_gate", "begin_drain"}:
            assert not changed, f"{name} of a drain that was fenced off changed a job"
        if fenced and name == "end_drain":
            assert lane == self.lane, "the end of a drain that was fenced off changed the lane"

    def _check_order(self, jobs: dict[str, Row], entered: set[tuple[str, str]]) -> None:
        for name, _ in entered:
            job = jobs[name]
            for other in jobs.values():
                overtaken = other["phone"] == job["phone"] and other["seq"] < job["seq"] and other["attempts"]
                assert not overtaken or other["state"] in ENDED, "overtook an earlier one that had been tried"

    # --- the end -----------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        try:
            if not self.broken:
                self.recover()
        finally:
            self.world.run(self.world.close())

    def recover(self) -> None:
        """Let everything recover and time pass until it is quiet: then every job has ended."""
        self.tell("recovery")
        for worker in self.world.alive:
            worker.frozen = False
        self.steer("start_all")
        self.steer("resume")
        for seconds in QUIET:
            self.advance(seconds)
            for home in HOMES:
                self.start(home)
            self.look_for_lost_wakeups()
            for worker in self.world.running:
                self.work_off(worker)
            if all(job["state"] in ENDED for job in self.jobs.values()):
                return
        stuck = {job["id"]: job["state"] for job in self.jobs.values() if job["state"] not in ENDED}
        raise AssertionError(f"stuck: {stuck}")

    def work_off(self, worker: ModelWorker) -> None:
        while drains := self.world.drains_of(worker) or self.fetched(worker):
            for actor in drains:
                self.run(actor)

    def fetched(self, worker: ModelWorker) -> list[Actor]:
        actor = self.do(self.world.fetch(worker))
        return [actor] if actor else []


class Watched:
    """A block whose failure ends the example without a recovery."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind:
            self.model.broken = True


@pytest.fixture
def model(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Model]]:
    """The machine, on a database whose clock is the model's."""
    with psycopg.connect(database_url, autocommit=True) as plain:
        plain.execute(CLOCK)
    worlds: list[World] = []
    clock = SimpleNamespace(monotonic=lambda: worlds[-1].clock)
    monkeypatch.setattr(tasks.web.send, "time", clock)
    monkeypatch.setattr(tasks.lanes, "time", clock)
    monkeypatch.setattr(tasks.sending.jobs, "COMMIT_RETRY_SECONDS", 0)
    evidence = local_evidence(tmp_path)
    evidence.per_hour = 0
    loop = asyncio.new_event_loop()
    connection = loop.run_until_complete(
        psycopg.AsyncConnection.connect(
            database_url, autocommit=True, options="-c search_path=model,public,pg_catalog -c timezone=utc"
        )
    )

    def make() -> World:
        worlds[:] = [World(connection, loop, evidence)]
        return worlds[-1]

    logging.disable()
    try:
        yield type("Model", (Model,), {"make": staticmethod(make)})
    finally:
        logging.disable(logging.NOTSET)
        loop.run_until_complete(connection.close())
        loop.close()


def at_once(model: type[Model], play: Callable[[Model], None], about: str) -> None:
    """Play one course of events, let it recover, and tell its steps where something does not hold."""
    machine = model()
    try:
        try:
            play(machine)
        finally:
            machine.teardown()
    except AssertionError as error:
        error.add_note("\n".join([about, *machine.told]))
        raise


@pytest.mark.long
def test_what_a_user_asks_for_at_any_step_of_a_drain_is_answered_by_what_is_so(model: type[Model]) -> None:
    for place, wish in product(PLACES, WISHES):
        at_once(model, partial(Model.interrupt, place=place, wish=wish), f"{wish} before {place}")


@pytest.mark.long
def test_an_older_drain_that_goes_on_anywhere_beside_a_newer_one_does_no_harm(model: type[Model]) -> None:
    for older, fate, newer in product(OLDER, (Fate.LAPSES, Fate.UNLOCKED), NEWER):
        about = f"older drain before {older}, {fate}, newer one as far as {newer}"
        at_once(model, partial(Model.meet, older=older, fate=fate, newer=newer), about)


@pytest.mark.parametrize("examples", [EXAMPLES, pytest.param(MORE, marks=pytest.mark.long)])
def test_whatever_happens_each_job_ends_once_and_reaches_its_recipient_at_most_once(
    model: type[Model], examples: int
) -> None:
    chosen = settings(
        max_examples=examples,
        stateful_step_count=STEPS,
        derandomize=not MINUTES,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    end = time.monotonic() + 60 * MINUTES * (examples == MORE)
    run_state_machine_as_test(model, settings=chosen)
    while time.monotonic() < end:
        run_state_machine_as_test(model, settings=chosen)
