"""Rates: token buckets, and readiness probes that share one look at the database."""

import asyncio

import pytest
from fixtures_api import ADMIN_KEY, api, client_of, running, settings
from fixtures_webhooks import put_org
from hypothesis import given
from hypothesis import strategies as st

from api.http import rate_limit
from api.http.cached import Cached
from api.http.rate_limit import Buckets
from crypto import hash_key
from errors import DatabaseBusy
from sql.database import Database


class Clock:
    """A monotonic clock that a test turns."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(rate_limit, "time", clock)
    return clock


# --- buckets -----------------------------------------------------------------------------------------------------


def test_a_bucket_is_emptied_at_once_and_fills_evenly(clock: Clock) -> None:
    buckets = Buckets(6, 60.0)
    assert [buckets.take("a") for _ in range(7)] == [0] * 6 + [10.0]
    assert buckets.wait("b") == 0
    clock.now += 4
    assert buckets.take("a") == buckets.wait("a") == pytest.approx(6.0)
    clock.now += 6.001
    assert [buckets.take("a"), buckets.take("a") > 9] == [0, True]
    clock.now += 3600
    assert [buckets.take("a") for _ in range(7)] == [0] * 6 + [10.0], "it holds no more than its size"


def test_the_buckets_used_least_recently_are_dropped(clock: Clock) -> None:
    buckets = Buckets(1, 60.0, most=3)
    for name in ("a", "b", "c"):
        buckets.take(name)
    clock.now += 61
    buckets.take("a")
    buckets.take("d")  # b is dropped
    assert [buckets.wait(name) > 0 for name in "abcd"] == [True, False, False, True]
    assert len(buckets._left) == 3


@given(st.lists(st.floats(0, 30), max_size=80), st.integers(1, 20))
def test_no_time_sees_more_than_its_share(pauses: list[float], size: int) -> None:
    """What a bucket lets through in any span is at most its size, and what comes meanwhile."""
    clock, taken = Clock(), list[float]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rate_limit, "time", clock)
        buckets = Buckets(size, 60.0)
        for pause in pauses:
            clock.now += pause
            if buckets.take("a") == 0:
                taken.append(clock.now)
    for first, begin in enumerate(taken):
        for last, end in enumerate(taken[first:], first):
            assert last - first + 1 <= size + (end - begin) * size / 60 + 1e-6


async def test_what_one_key_has_too_much_does_not_count_for_its_address(database_url: str) -> None:
    async with running(database_url, rate_limit_per_minute=3) as app:
        one, other = client_of(app), client_of(app, x_api_key="guess")
        assert [(await one.get("/jobs")).status_code for _ in range(9)] == [200] * 3 + [429] * 6
        app.state.context.rate_limit._addresses._left.clear()
        for _ in range(9):
            assert (await one.get("/jobs")).status_code == 429, "the key's"
        assert [(await other.get("/jobs")).status_code for _ in range(4)] == [401] * 3 + [429]


async def test_the_keys_of_an_org_are_limited_together_and_no_other_org_is(
    database_url: str, database: Database
) -> None:
    await put_org(database, "org_other")
    keys = [f"key-of-{n}" for n in range(4)]
    for key, org in zip(keys, ["org_default"] * 3 + ["org_other"], strict=True):
        await database.all("create_key", id=f"key_{key}", org=org, name=key, hash=hash_key(key), signing_secret=None)
    async with running(database_url, rate_limit_per_minute=4, org_rate_limit_per_minute=6) as app:
        *ours, other = [client_of(app, f"10.0.0.{n}", x_api_key=key) for n, key in enumerate(keys)]
        answers = [await client.get("/jobs") for client in ours for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200] * 6 + [429] * 3
        assert answers[-1].headers["retry-after"] == "10"
        assert answers[-1].json()["detail"] == "More than 6 requests a minute of all keys of this org together."
        assert [(await other.get("/jobs")).status_code for _ in range(5)] == [200] * 4 + [429]


@pytest.mark.parametrize(
    ("key", "org", "most"), [(6000, None, 30_000), (0, None, 0), (6000, 0, 0), (6000, 100, 100), (0, 100, 100)]
)
def test_an_org_may_ask_five_times_as_much_as_a_key_unless_told_otherwise(key: int, org: int | None, most: int) -> None:
    assert settings(rate_limit_per_minute=key, org_rate_limit_per_minute=org).requests_of_an_org == most


async def test_five_links_an_hour_of_an_address(database_url: str) -> None:
    async with api(database_url) as client:
        client.headers["x-admin-key"] = ADMIN_KEY
        answers = [await client.post("/admin/generate-qr-token", json={"account": "acc_none"}) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [404] * 5 + [429]
    assert 60 < int(answers[-1].headers["retry-after"]) <= 12 * 60


# --- readiness ---------------------------------------------------------------------------------------------------


async def test_all_who_ask_meanwhile_share_one_call() -> None:
    calls, answer = 0, asyncio.Event()

    async def fetch() -> int:
        nonlocal calls
        calls += 1
        await answer.wait()
        if calls == 2:
            raise DatabaseBusy
        return calls

    shared = Cached(fetch, 0.05)
    impatient = asyncio.create_task(shared.get())
    asking = [asyncio.create_task(shared.get()) for _ in range(5)]
    await asyncio.sleep(0)
    impatient.cancel()
    answer.set()
    assert await asyncio.gather(*asking) == [1] * 5
    assert await shared.get() == 1
    async with asyncio.timeout(5):
        while calls == 1:
            failed = await asyncio.gather(shared.get(), shared.get(), return_exceptions=True)
            await asyncio.sleep(0.01)
    assert [type(each) for each in failed] == [DatabaseBusy] * 2
    assert calls == 2


async def test_many_probes_look_at_the_database_once_a_second(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(database_url, rate_limit_per_minute=5) as app, client_of(app) as client:
        schema_state, looks = app.state.context.schema_state, 0
        fetch = schema_state._fetch

        async def counted() -> object:
            nonlocal looks
            looks += 1
            return await fetch()

        monkeypatch.setattr(schema_state, "_fetch", counted)
        answers = await asyncio.gather(*(client.get("/readyz") for _ in range(50)))
    assert {answer.status_code for answer in answers} == {200}
    assert looks == 1
