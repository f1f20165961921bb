"""The roll-up of reports: whatever happens around midnight, no message is counted twice or not at all."""

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, LiteralString, cast
from zoneinfo import ZoneInfo

import psycopg
import pytest
from fixtures_reports import roll_up, step
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

#: Berlin puts its clocks back in it, so that a day has 25 hours; Lord Howe, by half an hour, has put them forward.
BEGIN = datetime(2026, 10, 23, 20, 0, tzinfo=UTC)
ZONES = ("Europe/Berlin", "Australia/Lord_Howe", "America/Sao_Paulo")
RETENTION = timedelta(days=4)
COUNTERS = ("accepted", "open", "sent", "delivered", "read", "failed", "outcome_unknown", "cancelled")
ENDED = ("sent", "failed", "outcome_unknown", "cancelled")


@dataclass
class Message:
    """What the test knows of a message."""

    account: int
    accepted_at: datetime
    state: str = "queued"
    ended_at: datetime | None = None
    gone: bool = False

    def counters(self) -> Counter[str]:
        """Return in which columns of a day it counts."""
        said: dict[str, tuple[str, ...]] = {
            "queued": ("open",), "sent": ("sent",), "delivered": ("sent", "delivered"),
            "read": ("sent", "delivered", "read"), "failed": ("failed",), "cancelled": ("cancelled",),
            "outcome_unknown": ("failed", "outcome_unknown"),
        }  # fmt: skip
        return Counter(("accepted", *said[self.state]))


@dataclass
class World:
    """A database with a clock that the test moves, and what must stand in it."""

    url: str
    connection: psycopg.Connection[Any]
    clock: datetime = BEGIN
    messages: list[Message] = field(default_factory=list)
    zones: list[str] = field(default_factory=lambda: list(ZONES))
    rezoned: bool = False

    def run(self, statement: LiteralString, *values: object) -> list[tuple[Any, ...]]:
        cursor = self.connection.execute(statement, values)
        return cursor.fetchall() if cursor.description else []

    def set_clock(self, to: datetime) -> None:
        self.clock = to
        self.run("update test_clock set at = %s", to)

    # --- what happens ---------------------------------------------------------------------------------------------

    def accept(self, account: int) -> None:
        number = len(self.messages)
        self.messages.append(Message(account, self.clock))
        self.run(
            """
            insert into jobs (id, org_id, account_id, content_hash, phone, message, due_at, send_at, expires_at,
                              created_at)
            values (%s, 'org_default', %s, '', '1555', '', %s, %s, 'infinity', %s)
            """,
            f"job_{number}", f"acc_{account}", *[self.clock] * 3,
        )  # fmt: skip

    def change(self, pick: int, to: str) -> None:
        """Let a message that may become this become it."""
        before = {"delivered": {"sent"}, "read": {"sent", "delivered"}, "queued": {"failed"}}.get(to, {"queued"})
        able = [n for n, message in enumerate(self.messages) if message.state in before and not message.gone]
        if not able:
            return
        number = able[pick % len(able)]
        message = self.messages[number]
        self.run("insert into jobs overriding system value select * from jobs_history where id = %s", f"job_{number}")
        self.run("delete from jobs_history where id = %s", f"job_{number}")
        if to in ENDED:
            message.ended_at = self.clock
        elif to == "queued":
            message.ended_at = None
        message.state = to
        self.connection.execute(
            """
            update jobs
            set state = %(state)s, ended_at = %(ended_at)s, error_code = %(code)s, attempts = attempts + 1,
                sent_at = case when %(state)s in ('sent', 'delivered', 'read') then %(ended_at)s::timestamptz end,
                delivered_at = case when %(state)s in ('delivered', 'read') then %(now)s::timestamptz end,
                read_at = case when %(state)s = 'read' then %(now)s::timestamptz end
            where id = %(job)s
            """,
            {
                "state": "failed" if to == "outcome_unknown" else to, "ended_at": message.ended_at, "now": self.clock,
                "code": "outcome_unknown" if to == "outcome_unknown" else "page_hung" if to == "failed" else None,
                "job": f"job_{number}",
            },
        )  # fmt: skip

    def rezone(self, account: int, zone: str) -> None:
        ((sealed,),) = self.run(
            "select count(*) from report_days where account_id = %s and sealed_at is not null", f"acc_{account}"
        )
        # Then its days are of both zones.
        self.rezoned = self.rezoned or (zone != self.zones[account] and sealed > 0)
        self.zones[account] = zone
        self.run("update accounts set time_zone = %s where id = %s", zone, f"acc_{account}")

    def move(self) -> None:
        """Move what ended three days ago to the history, as upkeep does."""
        self.run(
            """
            with moved as (delete from jobs where ended_at < %s::timestamptz - interval '3 days' returning *)
            insert into jobs_history select * from moved
            """,
            self.clock,
        )

    def purge(self) -> None:
        """Seal what retention may delete, and delete it."""
        while step(self.url, "select seal_report_days(%s, 2)", self.clock - RETENTION + timedelta(hours=1)):
            pass
        for table in ("jobs", "jobs_history"):
            gone = self.connection.execute(
                f"delete from {table} where ended_at < deletable_before(%s) returning id", [self.clock - RETENTION]
            )
            for (job,) in gone.fetchall():
                self.messages[int(job.removeprefix("job_"))].gone = True

    def take(self) -> None:
        """Take one change."""
        step(self.url, "select take_report_marks(1, 1, '{}')")

    def roll(self) -> None:
        """Roll up, in small steps."""
        roll_up(self.url, 3)

    # --- what must be so ------------------------------------------------------------------------------------------

    def agrees(self) -> None:
        """Compare what the views say with what happened; all changes have been taken."""
        assert self.shown("daily_volume", COUNTERS) == self.told(COUNTERS, self.accepted_on)
        assert self.run("select * from report.balance where difference <> 0") == []
        ((checked,),) = self.run("select count(*) from report_marks")
        assert checked == 0
        ended = self.run("select sum(sent), sum(failed), sum(cancelled), sum(accepted) from report.daily_activity")
        states = Counter(state for message in self.messages for state in message.counters())
        assert [int(number or 0) for number in ended[0]] == [
            states[state] for state in ("sent", "failed", "cancelled", "accepted")
        ]
        if not self.rezoned:
            activity = ("sent", "failed", "cancelled")
            assert self.shown("daily_activity", activity) == self.told(activity, self.ended_on)
        failures = self.run("select error_code, sum(jobs)::integer from report.failure_reasons group by 1 order by 1")
        codes = {"failed": "page_hung", "outcome_unknown": "outcome_unknown"}
        wanted = Counter(codes[message.state] for message in self.messages if message.state in codes)
        assert dict(cast("Any", failures)) == wanted

    def accepted_on(self, message: Message) -> date | None:
        return self.local(message.account, message.accepted_at)

    def ended_on(self, message: Message) -> date | None:
        return self.local(message.account, message.ended_at) if message.ended_at else None

    def local(self, account: int, at: datetime) -> date:
        return at.astimezone(ZoneInfo(self.zones[account])).date()

    def told(self, columns: tuple[str, ...], day_of: Any) -> dict[Any, Counter[str]]:
        found: dict[Any, Counter[str]] = {}
        for message in self.messages:
            if (day := day_of(message)) is not None:
                key = f"acc_{message.account}", None if self.rezoned else day
                found.setdefault(key, Counter()).update(
                    Counter({name: n for name, n in message.counters().items() if name in columns})
                )
        return found

    def shown(self, view: LiteralString, columns: tuple[str, ...]) -> dict[Any, Counter[str]]:
        found: dict[Any, Counter[str]] = {}
        names = ", ".join(columns)
        query = f"select account_id, day, {names} from report.{view}"
        for account, day, *counts in self.run(query):
            if any(counts):
                counted = Counter({name: n for name, n in zip(columns, counts, strict=True) if n})
                found.setdefault((account, None if self.rezoned else day), Counter()).update(counted)
        return found


@contextmanager
def world_of(url: str) -> Iterator[World]:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            """
            truncate jobs, jobs_history, lane_marks, lane_depth, report_marks, report_days, report_hours,
                report_failures, report_progress;
            update report_seal set sealed_before = '-infinity'
            """
        )
        world = World(url, connection)
        for account, zone in enumerate(ZONES):
            connection.execute(
                """
                insert into lanes (id, org_id, kind, queue) values (%(id)s, 'org_default', 'account', 'account')
                on conflict do nothing
                """,
                {"id": f"acc_{account}"},
            )
            connection.execute(
                """
                insert into accounts (id, org_id, name, transport, time_zone, created_at)
                values (%(id)s, 'org_default', '', 'web', %(zone)s, %(at)s)
                on conflict (id) do update set time_zone = %(zone)s
                """,
                {"id": f"acc_{account}", "zone": zone, "at": BEGIN},
            )
        world.set_clock(BEGIN)
        yield world


@pytest.fixture
def clocked(database_url: str) -> str:
    """A database in which the roll-up reads a clock that the test moves."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            """
            create table test_clock (at timestamptz not null);
            insert into test_clock values (now());
            grant select on test_clock to postrider_worker;
            create function test_clock() returns timestamptz language sql stable security definer
                as 'select at from test_clock';
            """
        )
        ((trigger,),) = connection.execute(
            "select pg_get_triggerdef(oid) from pg_trigger where tgname = 'mark_report'"
        ).fetchall()
        assert trigger.count("clock_timestamp()") == 1
        connection.execute("drop trigger mark_report on jobs")
        connection.execute(trigger.replace("clock_timestamp()", "test_clock()"))
        ((function,),) = connection.execute(
            "select pg_get_functiondef(oid) from pg_proc where proname = 'accounts_to_roll_up'"
        ).fetchall()
        assert len(re.findall(r"\bnow\(\)", function)) == 1
        connection.execute(re.sub(r"\bnow\(\)", "test_clock()", function))
    return database_url


STEPS = st.one_of(
    st.tuples(st.just("accept"), st.integers(0, 2)),
    st.tuples(st.just("advance"), st.sampled_from([1, 20, 61, 63, 400, 1440])),
    st.tuples(
        st.just("change"), st.integers(0, 9),
        st.sampled_from(["sent", "failed", "outcome_unknown", "cancelled", "delivered", "read", "queued"]),
    ),
    st.tuples(st.just("roll")),
    st.tuples(st.just("take")),
    st.tuples(st.just("move")),
    st.tuples(st.just("purge")),
    st.tuples(st.just("rezone"), st.integers(0, 2), st.sampled_from(ZONES)),
    st.tuples(st.just("late"), st.integers(0, 9), st.sampled_from(["sent", "failed", "cancelled", "read", "queued"])),
)  # fmt: skip
UP_TO_MIDNIGHT = 119  # minutes from the begin to 23:59 in Berlin


@example(
    [("advance", UP_TO_MIDNIGHT), ("accept", 0), ("advance", 20), ("roll",), ("advance", 41), ("change", 0, "sent"),
     ("advance", 20), ("roll",), ("change", 0, "read"), ("roll",), ("advance", 1440 * 5), ("purge",)]
)  # fmt: skip
@example(
    [("accept", 0), ("accept", 0), ("change", 0, "failed"), ("advance", 1440 * 6), ("roll",), ("move",), ("purge",),
     ("change", 0, "sent"), ("advance", 1), ("change", 0, "delivered"), ("rezone", 0, "America/Sao_Paulo"), ("roll",)]
)  # fmt: skip
# Changed when its day is over, but not rolled up yet.
@example(
    [("advance", UP_TO_MIDNIGHT), ("accept", 0), ("advance", 5), ("roll",), ("advance", 20), ("change", 0, "sent")]
)
# Accepted in the first moment of a day.
@example([("accept", 0), ("advance", UP_TO_MIDNIGHT + 1), ("accept", 0), ("advance", 1440), ("roll",)])
# Failed on another day than it was accepted on, and tried again later.
@example(
    [("accept", 0), ("advance", 1440), ("change", 0, "failed"), ("advance", 1440 * 2), ("roll",),
     ("change", 0, "queued"), ("roll",)]
)  # fmt: skip
# The same, once its days are sealed.
@example(
    [("accept", 0), ("advance", 1440), ("change", 0, "failed"), ("advance", 1440 * 2), ("roll",),
     ("advance", 1440 * 2 - 60), ("purge",), ("change", 0, "queued"), ("roll",)]
)  # fmt: skip
# Its account goes to another zone.
@example([("accept", 0), ("advance", 1440 * 2), ("roll",), ("rezone", 0, "Australia/Lord_Howe"), ("roll",)])
# Sealed when of two changes that are counted the mark of one is taken.
@example(
    [("accept", 0), ("accept", 0), ("advance", 1440 * 2), ("roll",), ("change", 0, "sent"), ("change", 0, "sent"),
     ("take",), ("advance", 1440 * 5), ("purge",)]
)  # fmt: skip
@given(st.lists(STEPS, min_size=5, max_size=40))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_is_lost_or_counted_twice_whatever_the_order(clocked: str, steps: list[tuple[Any, ...]]) -> None:
    live(clocked, steps)


@pytest.mark.long
@given(st.lists(STEPS, min_size=20, max_size=80))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nor_in_longer_lives(clocked: str, steps: list[tuple[Any, ...]]) -> None:
    live(clocked, steps)


def live(url: str, steps: list[tuple[Any, ...]]) -> None:
    """Let these things happen, and compare the reports with them after each."""
    with world_of(url) as world:
        for name, *values in steps:
            match name:
                case "advance":
                    world.set_clock(world.clock + timedelta(minutes=values[0]))
                case "late":
                    # Begun before the roll-up, committed after it.
                    with world.connection.transaction():
                        world.change(*values)
                        world.roll()
                case _:
                    getattr(world, name)(*values)
            assert world.run("select * from report.balance where difference <> 0") == []
            ((accepted,),) = world.run("select coalesce(sum(accepted), 0)::integer from report.daily_volume")
            assert accepted == len(world.messages)
        world.roll()
        world.agrees()
        # Once more, all days later.
        world.set_clock(world.clock + timedelta(days=3))
        world.roll()
        world.agrees()
