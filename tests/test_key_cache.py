"""Look-ups of API keys: one a second and key, which all who come meanwhile share."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from fixtures_api import KEY, client_of, running

from api.http import key_cache
from api.http.key_cache import KNOWN, UNKNOWN, KeyCache
from errors import DatabaseBusy
from sql.database import Row

NOW = datetime(2026, 12, 1, tzinfo=UTC)


class Door:
    """Looks keys up by a clock that it turns; each look-up takes `takes` seconds, and waits while it is held."""

    def __init__(self) -> None:
        self.now, self.takes, self.looks = 1000.0, 0.0, 0
        self.keys = {b"ours": b"ours"}
        self.fault: Exception | None = None
        self.free = asyncio.Event()
        self.free.set()

    def monotonic(self) -> float:
        return self.now

    def admit(self, waiting: int) -> None:
        if waiting >= 6:
            raise DatabaseBusy

    async def find(self, hashed: bytes) -> Row | None:
        self.looks += 1
        await self.free.wait()
        self.now += self.takes
        if self.fault:
            raise self.fault
        if hashed not in self.keys:
            return None
        return {"id": "key_1", "org_id": "org_1", "key_hash": self.keys[hashed], "signing_secret": None, "now": NOW}


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Door:
    door = Door()
    monkeypatch.setattr(key_cache, "time", door)
    return door


async def looks(door: Door, cache: KeyCache, hashed: bytes) -> tuple[bool, int]:
    """Return whether the key was found, and how many look-ups there have been."""
    return await cache.get(hashed) is not None, door.looks


@pytest.mark.parametrize(("hashed", "seconds"), [(b"ours", KNOWN), (b"guess", UNKNOWN)])
async def test_a_key_is_looked_up_again_when_its_time_has_passed(door: Door, hashed: bytes, seconds: float) -> None:
    cache, found = KeyCache(door.find, door.admit), hashed == b"ours"
    assert [await looks(door, cache, hashed) for _ in range(2)] == [(found, 1)] * 2
    door.now += seconds - 0.01
    assert await looks(door, cache, hashed) == (found, 1)
    door.now += 0.02
    assert await looks(door, cache, hashed) == (found, 2)


async def test_the_time_counts_from_the_beginning_of_the_look_up(door: Door) -> None:
    """A key that is revoked while its look-up waits for Postgres must not work for a second after that."""
    cache, door.takes = KeyCache(door.find, door.admit), KNOWN + 0.1
    assert [await looks(door, cache, b"ours") for _ in range(2)] == [(True, 1), (True, 2)]


async def test_a_row_with_another_hash_is_no_key(door: Door) -> None:
    door.keys[b"near"] = b"ours"
    assert await KeyCache(door.find, door.admit).get(b"near") is None


async def test_the_key_that_was_looked_up_least_recently_is_dropped(door: Door) -> None:
    cache = KeyCache(door.find, door.admit, most=2)
    for hashed in (b"a", b"b", b"ours", b"b", b"ours", b"a"):
        await cache.get(hashed)
    assert door.looks == 4


async def test_it_tells_the_time_of_postgres(door: Door) -> None:
    cache = KeyCache(door.find, door.admit)
    await cache.get(b"ours")
    door.now += 0.5
    key = await cache.get(b"ours")
    assert key is not None
    assert key.database_time() == NOW + timedelta(seconds=0.5)


async def test_all_who_come_meanwhile_share_a_look_up(door: Door) -> None:
    cache = KeyCache(door.find, door.admit)
    door.free.clear()
    impatient = asyncio.create_task(cache.get(b"ours"))
    asking = [asyncio.create_task(cache.get(b"ours")) for _ in range(5)]
    await asyncio.sleep(0)
    with pytest.raises(DatabaseBusy):
        await cache.get(b"ours")
    impatient.cancel()
    door.free.set()
    assert all(await asyncio.gather(*asking))
    assert impatient.cancelled()
    assert door.looks == 1


async def test_a_look_up_that_fails_is_not_kept(door: Door) -> None:
    cache, door.fault = KeyCache(door.find, door.admit), DatabaseBusy()
    failed = await asyncio.gather(cache.get(b"ours"), cache.get(b"ours"), return_exceptions=True)
    assert [type(each) for each in failed] == [DatabaseBusy] * 2
    door.fault = None
    assert await looks(door, cache, b"ours") == (True, 2)


@pytest.mark.parametrize(("key", "status"), [(KEY, 200), ("guess", 401)])
async def test_requests_that_follow_each_other_look_their_key_up_once(
    database_url: str, monkeypatch: pytest.MonkeyPatch, key: str, status: int
) -> None:
    async with running(database_url) as app, client_of(app, x_api_key=key) as client:
        database, asked = app.state.context.database, list[str]()
        all_ = database.all

        async def counted(name: str, /, **values: object) -> list[Row]:
            asked.append(name)
            found: list[Row] = await all_(name, **values)
            return found

        monkeypatch.setattr(database, "all", counted)
        assert [(await client.get("/jobs")).status_code for _ in range(5)] == [status] * 5
    assert asked.count("find_key") == 1
