import base64
import secrets
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fixtures_lanes import add_lanes, value

from browser.profile import read_generation
from crypto import Sealer
from errors import LeaseLost, ProfileElsewhere, ProfileUnreadable
from sql.database import Database
from tasks.profiles import Profiles
from tasks.states import Account

LOGIN = "Default/IndexedDB/https_web.whatsapp.com_0.indexeddb.leveldb/000003.log"
Make = Callable[[str], Profiles]


@pytest.fixture
def key() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()


@pytest.fixture
async def make(database: Database, tmp_path: Path, key: str) -> Make:
    """Profiles of workers that live, each with a disk of its own."""
    await add_lanes(database, "acc_1")
    await _sql(database, "update accounts set linked = true, first_ready_at = now()")

    def of(name: str) -> Profiles:
        return Profiles(database, f"wrk_{name}", f"home_{name}", tmp_path / name, Sealer.from_text(key))

    for name in ("a", "b"):
        await database.all(
            "register_worker", worker=f"wrk_{name}", host="here", version="0.2.0", home=f"home_{name}", seats=1
        )
    return of


async def _sql(database: Database, query: str, *values: object) -> None:
    async with database.transaction() as tx:
        await tx.connection.execute(query, values or None)


async def account(database: Database) -> Account:
    return (await database.read(Account, "account_to_drain", account="acc_1", keepalive=0))[0]


async def lease(database: Database, profiles: Profiles) -> Account:
    """Give this worker the lease, as after a takeover, and return the account as it sees it."""
    await _sql(
        database,
        "update accounts set leased_by = %s, lease_until = now() + interval '30 seconds'",
        profiles.worker,
    )
    return await account(database)


async def die(database: Database, profiles: Profiles) -> None:
    await _sql(database, "delete from workers where id = %s", profiles.worker)


def write(profiles: Profiles, text: str) -> None:
    path = profiles.directory("acc_1") / LOGIN
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def login(profiles: Profiles) -> str:
    return (profiles.directory("acc_1") / LOGIN).read_text()


async def fresh(database: Database, profiles: Profiles, text: str = "first") -> int:
    """Have a new profile with a login in it."""
    generation = await profiles.prepare(await lease(database, profiles))
    write(profiles, text)
    return generation


async def test_a_new_profile_is_a_new_generation_private_and_marked(database: Database, make: Make) -> None:
    a = make("a")
    assert await fresh(database, a) == 1
    directory = a.directory("acc_1")
    assert directory.stat().st_mode & 0o777 == 0o700
    assert read_generation(directory) == 1
    assert await a.prepare(await account(database)) == 1
    assert login(a) == "first"


async def test_what_was_put_away_whole_goes_on_elsewhere_as_the_same_generation(database: Database, make: Make) -> None:
    a, b = make("a"), make("b")
    assert await fresh(database, a) == 1
    assert await a.put_away("acc_1", linked=True)
    assert not a.directory("acc_1").exists()
    await _sql(database, "update accounts set profile_home = null")

    assert await b.prepare(await lease(database, b)) == 1
    assert login(b) == "first"
    # From now on the copy lacks what the browser does.
    assert await value(database, "select whole from profiles") is False


async def test_a_copy_of_a_running_browser_is_restored_as_a_new_generation(database: Database, make: Make) -> None:
    a, b = make("a"), make("b")
    await fresh(database, a)
    assert await a.seal("acc_1", whole=False)
    write(a, "second")
    await die(database, a)

    assert await b.prepare(await lease(database, b)) == 2
    assert login(b) == "first"


async def test_a_stale_directory_is_never_opened(database: Database, make: Make) -> None:
    a, b = make("a"), make("b")
    await fresh(database, a)
    await a.seal("acc_1", whole=False)
    await die(database, a)
    assert await b.prepare(await lease(database, b)) == 2
    write(b, "second")
    assert await b.put_away("acc_1", linked=True)

    assert login(a) == "first"
    assert await a.prepare(await lease(database, a)) == 2
    assert login(a) == "second"


async def test_a_late_seal_never_overwrites_a_newer_one(database: Database, make: Make) -> None:
    a, b = make("a"), make("b")
    await fresh(database, a)
    await a.seal("acc_1", whole=False)
    await die(database, a)
    await b.prepare(await lease(database, b))
    write(b, "second")
    assert await b.seal("acc_1", whole=False)

    assert not await a.seal("acc_1", whole=True)
    # Not even with a lease again, as long as its directory is the old one.
    await lease(database, a)
    assert not await a.seal("acc_1", whole=True)
    assert await value(database, "select generation from profiles") == 2
    assert not await a.put_away("acc_1", linked=True)


async def test_nothing_is_stored_opened_or_restored_without_a_lease(database: Database, make: Make) -> None:
    a = make("a")
    await fresh(database, a)
    assert await a.seal("acc_1", whole=True)
    known = await account(database)
    for ended in ("leased_by = 'wrk_b'", "leased_by = 'wrk_a', lease_until = now() - interval '1 second'"):
        await _sql(database, f"update accounts set {ended}")  # noqa: S608  # ours, above
        assert not await a.seal("acc_1", whole=True)
        with pytest.raises(LeaseLost):
            await a.prepare(known)
    await a.discard("acc_1")
    with pytest.raises(LeaseLost):
        await a.prepare(known)
    assert await value(database, "select profile_generation from accounts") == 1


async def test_a_newer_profile_on_a_living_workers_disk_is_waited_for(database: Database, make: Make) -> None:
    a, b = make("a"), make("b")
    await fresh(database, a)
    with pytest.raises(ProfileElsewhere):
        await b.prepare(await lease(database, b))
    await lease(database, a)
    await a.seal("acc_1", whole=False)
    with pytest.raises(ProfileElsewhere):
        await b.prepare(await lease(database, b))
    await die(database, a)
    assert await b.prepare(await lease(database, b)) == 2


async def test_a_login_that_was_never_sealed_stays_with_its_disk(database: Database, make: Make) -> None:
    a, b = make("a"), make("b")
    await fresh(database, a)
    await die(database, a)
    with pytest.raises(ProfileElsewhere):
        await b.prepare(await lease(database, b))
    assert await a.prepare(await lease(database, a)) == 1


@pytest.mark.parametrize("damage", ["wrong key", "changed byte", "moved to another account", "another generation"])
async def test_what_does_not_open_is_a_clear_error_and_no_half_restored_profile(
    database: Database, make: Make, damage: str
) -> None:
    a, b = make("a"), make("b")
    await fresh(database, a)
    await a.put_away("acc_1", linked=True)
    await _sql(database, "update accounts set profile_home = null")
    if damage == "wrong key":
        b = replace(b, sealer=Sealer([secrets.token_bytes(32)]))
    elif damage == "changed byte":
        await _sql(database, "update profiles set sealed = set_byte(sealed, 100, get_byte(sealed, 100) # 1)")
    elif damage == "moved to another account":
        other = Sealer.from_text(base64.b64encode(b"k" * 32).decode())
        b = replace(b, sealer=other)
        await _sql(database, "update profiles set sealed = %s", other.seal(b"x", b"acc_2:1"))
    else:
        await _sql(database, "update profiles set generation = 7")

    with pytest.raises(ProfileUnreadable, match="does not open"):
        await b.prepare(await lease(database, b))
    assert not b.directory("acc_1").exists()
    assert list(b.root.glob(".*")) == []
    assert await value(database, "select profile_generation from accounts") == 1
    assert await value(database, "select whole from profiles") is True


async def test_keys_rotate_the_first_seals_and_all_open(database: Database, make: Make, key: str) -> None:
    a, b = make("a"), make("b")
    await fresh(database, a)
    await a.put_away("acc_1", linked=True)
    await _sql(database, "update accounts set profile_home = null")
    new = base64.b64encode(secrets.token_bytes(32)).decode()

    b = replace(b, sealer=Sealer.from_text(f"{new},{key}"))
    await b.prepare(await lease(database, b))
    assert await b.put_away("acc_1", linked=True)
    await _sql(database, "update accounts set profile_home = null")

    a = replace(a, sealer=Sealer.from_text(new))
    assert await a.prepare(await lease(database, a)) == 1
    assert login(a) == "first"


async def test_the_plaintext_and_the_copy_are_deleted_on_logout(database: Database, make: Make) -> None:
    a = make("a")
    await fresh(database, a)
    await a.seal("acc_1", whole=False)
    await a.discard("acc_1")
    await database.all("forget_profile", account="acc_1", worker=a.worker)
    assert not a.directory("acc_1").exists()
    assert await value(database, "select count(*) from profiles") == 0
    now = await account(database)
    assert (now.linked, now.profile_home, now.profile_generation) == (False, None, 2)
    # What another disk may still have of it is not opened.
    assert await a.prepare(now) == 3


async def set_aside(database: Database, make: Make) -> Profiles:
    """Have a sealed login, and a page that asked for a phone."""
    a = make("a")
    await fresh(database, a)
    await a.seal("acc_1", whole=True)
    await a.discard("acc_1")
    await database.all("set_profile_aside", account="acc_1", worker=a.worker)
    await _sql(database, "update accounts set state = 'auth_failed'")
    return a


async def test_connecting_after_a_logout_begins_beside_the_kept_login(database: Database, make: Make) -> None:
    a = await set_aside(database, make)
    assert await a.prepare(await account(database)) == 3
    assert not (a.directory("acc_1") / LOGIN).exists()
    assert await value(database, "select count(*) from profiles where kept_since is not null") == 1
    # A new phone has taken the code, and the new login has never been sealed: nothing goes back to the old one.
    await database.all("mark_linked", account="acc_1", worker=a.worker)
    await a.discard("acc_1")
    assert await a.prepare(await account(database)) == 4
    assert not (a.directory("acc_1") / LOGIN).exists()
    await database.all("drop_kept_profile", account="acc_1", worker=a.worker)
    assert await value(database, "select count(*) from profiles") == 0


async def test_resuming_after_a_logout_goes_back_to_the_kept_login(database: Database, make: Make) -> None:
    a = await set_aside(database, make)
    await database.all("resume_account", account="acc_1", org="org_default")
    now = await account(database)
    assert now.linked
    assert await a.prepare(now) == 3
    assert login(a) == "first"


async def test_without_a_kept_login_there_is_nothing_to_go_back_to(database: Database, make: Make) -> None:
    await set_aside(database, make)
    await _sql(database, "delete from profiles")
    await database.all("resume_account", account="acc_1", org="org_default")
    assert not (await account(database)).linked


async def test_a_profile_without_a_login_is_deleted_and_not_sealed(database: Database, make: Make) -> None:
    a = make("a")
    await _sql(database, "update accounts set linked = false")
    await fresh(database, a)
    assert await a.put_away("acc_1", linked=False)
    assert not a.directory("acc_1").exists()
    assert await value(database, "select count(*) from profiles") == 0


async def test_a_worker_begins_by_deleting_what_postgres_does_not_name(database: Database, make: Make) -> None:
    a, b = make("a"), make("b")
    await fresh(database, a)
    await a.seal("acc_1", whole=False)
    assert await a.clean() == []
    await die(database, a)
    await b.prepare(await lease(database, b))
    assert await a.clean() == ["acc_1"]
    assert not a.directory("acc_1").exists()
    assert await b.clean() == []
