from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tasks.delivery.endpoint_health import LONGEST_REST, MAX_IN_FLIGHT, REST, RETRY_AFTER_CAP, TRIP, EndpointHealth
from tasks.delivery.rate import SPARE, Rate
from tasks.delivery.retry import Retry

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def failing(times: int, health: EndpointHealth | None = None, *, overloaded: bool = False) -> EndpointHealth:
    health = health or EndpointHealth()
    for _ in range(times):
        health = health.failed(NOW, overloaded=overloaded)
    return health


def test_each_success_doubles_what_is_asked_at_once_up_to_a_bound() -> None:
    health, seen = EndpointHealth(in_flight=1), []
    for _ in range(8):
        health = health.succeeded()
        seen.append(health.in_flight)
    assert seen == [2, 4, 8, 16, 32, MAX_IN_FLIGHT, MAX_IN_FLIGHT, MAX_IN_FLIGHT]


def test_a_few_failures_change_nothing_and_many_leave_one_at_once() -> None:
    assert failing(TRIP - 1).in_flight == EndpointHealth().in_flight
    assert failing(TRIP - 1).rest() == 0
    assert failing(TRIP).in_flight == 1
    assert failing(TRIP).rest() > 0


def test_one_that_is_overloaded_is_asked_half_as_much_each_time() -> None:
    seen = [failing(n, EndpointHealth(in_flight=8), overloaded=True).in_flight for n in range(5)]
    assert seen == [8, 4, 2, 1, 1]


def test_rests_grow_up_to_a_bound_and_a_success_ends_them() -> None:
    health, rests = failing(TRIP), []
    for _ in range(10):
        rests.append(health.rest())
        health = health.rested()
    assert rests[0] == pytest.approx(REST, rel=0.21)
    assert rests[2] == pytest.approx(4 * REST, rel=0.21)
    assert rests[-1] == pytest.approx(LONGEST_REST, rel=0.21)
    assert health.succeeded() == EndpointHealth(in_flight=2)


@pytest.mark.parametrize(("asked", "rest"), [(0, 0), (120, 120), (1e9, RETRY_AFTER_CAP)])
def test_what_it_asks_for_is_granted_up_to_a_bound(asked: float, rest: float) -> None:
    assert failing(1).rest(asked) == rest


def test_one_that_refuses_is_left_alone_also_when_it_does_not_say_for_how_long() -> None:
    assert failing(1).rest(refused=True) == pytest.approx(REST, rel=0.21)


@pytest.mark.parametrize(("failures", "days", "hopeless"), [(TRIP, 6, True), (TRIP, 4, False), (TRIP - 2, 6, False)])
def test_days_of_nothing_but_failures_are_enough(failures: int, days: int, *, hopeless: bool) -> None:
    assert failing(failures).is_hopeless(NOW + timedelta(days=days)) is hopeless
    assert not failing(failures).succeeded().is_hopeless(NOW + timedelta(days=days))


def test_a_failure_after_quiet_days_is_a_first_one() -> None:
    health = EndpointHealth(failures=13, failing_since=NOW - timedelta(days=6), failed_at=NOW - timedelta(days=5))
    assert not health.failed(NOW).is_hopeless(NOW)
    assert health.failed(NOW).failing_since == NOW
    busy = replace(health, failed_at=NOW - timedelta(hours=23))
    assert busy.failed(NOW).is_hopeless(NOW)


def test_a_rate_spaces_requests_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("tasks.delivery.rate.time.monotonic", lambda: clock[0])
    rate, began = Rate.of(10, 0), []
    while clock[0] < 110:
        if some := rate.allows(5):
            rate.used(some)
            began += [clock[0]] * some
        clock[0] += 0.001
    assert len(began) == pytest.approx(100 / SPARE, abs=1)
    assert max(sum(start <= at < start + 1 for at in began) for start in began) <= 10


def test_a_rate_remembers_what_came_before_and_may_be_none() -> None:
    assert Rate.of(0.1, 7).wait == pytest.approx(7, abs=0.1)
    assert Rate.of(0.1, 7).allows(5) == 0
    assert Rate.of(1000, 0).allows(500) == 50
    assert Rate.of(None, 7).allows(5) == 5


def test_a_policy_says_when_and_whether() -> None:
    retry = Retry(attempts=3, base_seconds=2, factor=2, cap_seconds=3)
    assert retry.pause(1) == pytest.approx(2, rel=0.21)
    assert retry.pause(2) == pytest.approx(3, rel=0.21)
    assert retry.pause(2, asked=60) == 60
    assert retry.pause(3) is None
