import asyncio
import base64
import secrets
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fixtures_lanes import add_lanes, add_worker, until, value

from browser.engine.profile import read_generation
from browser.engine.shared_scripts import FOLDER, HEADER, MAGIC, RESPONSES
from crypto import Sealer
from errors import LeaseLost, ProfileElsewhere, ProfileUnreadable
from sql.database import Database
from tasks.web.profiles import Profiles
from tasks.web.state_changes import Account

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
        await add_worker(database, f"wrk_{name}", home=f"home_{name}")
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


@pytest.mark.parametrize(("proxied", "is_shared"), [((), True), (("acc_1",), False), (("acc_2",), False)])
async def test_the_next_account_of_a_disk_has_the_scripts_of_the_one_before(
    database: Database, make: Make, proxied: tuple[str, ...], *, is_shared: bool
) -> None:
    """Unless one of the two has a proxy."""
    profiles = make("a")
    await add_lanes(database, "acc_2")
    lasting = "leased_by = %s, lease_until = now() + interval '30 s'"
    await _sql(database, f"update accounts set {lasting}, linked = false", profiles.worker)
    for name in proxied:
        await _sql(database, "update accounts set proxy = 'sealed' where id = %s", name)

    async def prepared(name: str) -> Path:
        (row,) = await database.read(Account, "account_to_drain", account=name, keepalive=0)
        await profiles.prepare(row)
        return profiles.directory(name) / RESPONSES / "0123456789abcdef_0"

    script = await prepared("acc_1")
    script.parent.mkdir(parents=True)
    key = b"1/0/https://static.whatsapp.net/1.js"
    script.write_bytes(HEADER.pack(MAGIC, 5, len(key), 0) + key)
    await profiles.put_away("acc_1", linked=False)
    assert not profiles.directory("acc_1").exists()
    assert (await prepared("acc_2")).exists() is is_shared


@pytest.mark.parametrize("change", ["set proxy = 'sealed'", "set proxy = null"])
async def test_what_was_loaded_in_another_way_is_dropped(database: Database, make: Make, change: str) -> None:
    """A profile that stays on this disk, when its account gets a proxy or gives it up, or the worker is a new one."""
    profiles = make("a")
    await _sql(database, "update accounts set linked = false, proxy = 'sealed'")
    script = profiles.directory("acc_1") / RESPONSES / "0123456789abcdef_0"

    async def loaded() -> None:
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_bytes(b"")

    await profiles.prepare(await lease(database, profiles))
    await loaded()
    await profiles.prepare(await account(database))
    assert script.exists(), "it is opened as it was before"
    await _sql(database, f"update accounts {change}")
    await profiles.prepare(await account(database))
    assert script.exists() is (change != "set proxy = null")
    await loaded()
    await make("a").prepare(await account(database))
    assert not script.exists(), "nobody knows how it was loaded"


async def test_what_the_disk_does_not_let_share_is_logged_and_stops_nothing(
    database: Database, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    profiles = make("a")
    await profiles.prepare(await lease(database, profiles))
    profiles.root.joinpath(FOLDER).write_text("no directory")
    responses = profiles.directory("acc_1") / RESPONSES
    responses.mkdir(parents=True)
    key = b"1/0/https://static.whatsapp.net/1.js"
    (responses / "0123456789abcdef_0").write_bytes(HEADER.pack(MAGIC, 5, len(key), 0) + key)
    assert await profiles.put_away("acc_1", linked=False)
    assert [getattr(record, "event", "") for record in caplog.records] == ["profile.scripts_not_shared"]


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
        await _sql(database, f"update accounts set {ended}")  # ours, above
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

    with pytest.raises(ProfileUnreadable, match="cannot be opened"):
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
    await database.all("delete_profile", account="acc_1", worker=a.worker)
    assert not a.directory("acc_1").exists()
    assert await value(database, "select count(*) from profiles") == 0
    now = await account(database)
    assert (now.linked, now.profile_home, now.profile_generation) == (False, None, 2)
    # What another disk may still have of it is not opened.
    assert await a.prepare(now) == 3


async def set_aside(database: Database, profiles: Profiles) -> None:
    """Put a login away as a worker does whose page asks for a phone."""
    await profiles.preserve("acc_1")
    await profiles.discard("acc_1")
    await database.all("set_profile_aside", account="acc_1", worker=profiles.worker)
    await release(database, "auth_failed")


async def release(database: Database, state: str) -> None:
    await _sql(database, "update accounts set state = %s, leased_by = null, lease_until = null", state)


async def kept(database: Database, make: Make) -> Profiles:
    """Have a sealed login, and a page that asked for a phone."""
    a = make("a")
    await fresh(database, a)
    await a.seal("acc_1", whole=True)
    await set_aside(database, a)
    return a


async def resume(database: Database) -> Account:
    await database.all("resume_account", account="acc_1", org="org_default")
    return await account(database)


async def link(database: Database, profiles: Profiles) -> None:
    """Connect, and have a phone take the code: its history is loading."""
    generation = await profiles.prepare(await lease(database, profiles))
    assert await database.one("mark_linked", account="acc_1", worker=profiles.worker, generation=generation)
    write(profiles, "new, half made")


async def become_ready(database: Database, profiles: Profiles, generation: int) -> bool:
    """Come to the chat list; False where the profile is another by now."""
    ready = await database.one(
        "mark_ready", account="acc_1", worker=profiles.worker, generation=generation, changed=False, phone="1555",
        name=None, platform=None,
    )  # fmt: skip
    if ready:
        await database.all("drop_kept_profile", account="acc_1", worker=profiles.worker)
    return ready is not None


async def goes_back(database: Database, profiles: Profiles, state: str = "disconnected") -> bool:
    """Resume, and tell whether the login is opened that was there first."""
    await release(database, state)
    await resume(database)
    await profiles.prepare(await lease(database, profiles))
    return login(profiles) == "first"


KEPT = "select count(*) from profiles where kept_since is not null"


async def test_connecting_after_a_logout_begins_beside_the_kept_login(database: Database, make: Make) -> None:
    a = await kept(database, make)
    assert await a.prepare(await lease(database, a)) == 3
    assert not (a.directory("acc_1") / LOGIN).exists()
    assert await value(database, KEPT) == 1
    # A new phone has taken the code, and the new login has never been sealed: nothing goes back to the old one.
    assert await database.one("mark_linked", account="acc_1", worker=a.worker, generation=3)
    await a.discard("acc_1")
    assert await a.prepare(await account(database)) == 4
    assert not (a.directory("acc_1") / LOGIN).exists()
    assert await become_ready(database, a, 4)
    assert await value(database, "select count(*) from profiles") == 0


async def test_resuming_after_a_logout_goes_back_to_the_kept_login(database: Database, make: Make) -> None:
    a = await kept(database, make)
    assert (await resume(database)).linked
    assert await a.prepare(await lease(database, a)) == 4
    assert login(a) == "first"


async def test_without_a_kept_login_there_is_nothing_to_go_back_to(database: Database, make: Make) -> None:
    await kept(database, make)
    await _sql(database, "delete from profiles")
    await _sql(database, "update accounts set wanted = 'disconnected'")
    now = await resume(database)
    assert (now.linked, now.wanted) == (False, "disconnected")


async def test_a_new_link_that_fails_while_it_loads_replaces_no_kept_login(database: Database, make: Make) -> None:
    a = await kept(database, make)
    since = await value(database, "select kept_since from profiles")
    await link(database, a)
    await set_aside(database, a)
    assert await value(database, "select kept_since from profiles") == since, "it is no older for that"
    assert await goes_back(database, a, "auth_failed")


@pytest.mark.parametrize("whole", [True, False])
async def test_nothing_seals_a_new_link_over_the_kept_login_before_it_is_ready(
    database: Database, make: Make, *, whole: bool
) -> None:
    a = await kept(database, make)
    await link(database, a)
    assert not await a.seal("acc_1", whole=whole)
    assert await value(database, KEPT) == 1
    assert await become_ready(database, a, 3)
    assert await a.seal("acc_1", whole=whole)
    await die(database, a)
    await make("b").prepare(await lease(database, make("b")))
    assert login(make("b")) == "new, half made"


async def test_a_new_link_goes_on_where_its_worker_was_stopped_while_it_loaded(database: Database, make: Make) -> None:
    a, b = await kept(database, make), make("b")
    await link(database, a)
    assert not await a.put_away("acc_1", linked=True)
    await release(database, "hibernated")
    with pytest.raises(ProfileElsewhere):
        await b.prepare(await lease(database, b))
    await a.prepare(await lease(database, a))
    assert login(a) == "new, half made"
    assert await value(database, KEPT) == 1


async def test_a_kept_login_is_within_reach_when_its_new_link_is_on_a_disk_that_is_gone(
    database: Database, make: Make
) -> None:
    a, b = await kept(database, make), make("b")
    await link(database, a)
    await die(database, a)
    assert await goes_back(database, b, "hibernated")
    # And what came back late opens nothing, and stores nothing.
    await lease(database, a)
    assert await a.stale() == ["acc_1"]
    assert not await a.seal("acc_1", whole=True)


async def test_resuming_after_nobody_scanned_goes_back_and_connects(database: Database, make: Make) -> None:
    a = await kept(database, make)
    await a.prepare(await lease(database, a))
    await a.put_away("acc_1", linked=False)
    await _sql(database, "update accounts set wanted = 'disconnected', profile_home = null")
    await release(database, "disconnected")
    now = await resume(database)
    assert (now.linked, now.wanted) == (True, "connected")
    await a.prepare(await lease(database, a))
    assert login(a) == "first"


async def test_resuming_while_codes_are_shown_ends_the_new_link(database: Database, make: Make) -> None:
    a = await kept(database, make)
    generation = await a.prepare(await lease(database, a))
    write(a, "new, half made")
    now = await resume(database)
    # Somebody scanned in that moment: the profile with the code is nobody's any more.
    assert await database.one("mark_linked", account="acc_1", worker=a.worker, generation=generation) is None
    assert not await become_ready(database, a, generation)
    assert not await a.seal("acc_1", whole=False)
    await a.prepare(now)
    assert login(a) == "first"


async def test_resuming_while_a_new_profile_is_made_makes_none(database: Database, make: Make) -> None:
    a = await kept(database, make)
    known = await lease(database, a)
    now = await resume(database)
    with pytest.raises(LeaseLost):
        await a.prepare(known)
    await a.prepare(now)
    assert login(a) == "first"


async def test_resuming_while_a_new_link_loads_lets_it_go_on(database: Database, make: Make) -> None:
    a = await kept(database, make)
    await link(database, a)
    assert (await resume(database)).profile_generation == 3
    assert await become_ready(database, a, 3)


async def test_resuming_in_the_moment_of_a_scan_lets_the_new_link_go_on(database: Database, make: Make) -> None:
    a = await kept(database, make)
    generation = await a.prepare(await lease(database, a))
    async with database.transaction() as tx:
        assert await tx.one("mark_linked", account="acc_1", worker=a.worker, generation=generation)
        resumed = asyncio.create_task(resume(database))
        await until(database, "select count(*) from pg_stat_activity where wait_event_type = 'Lock'", 1)
    assert (await resumed).profile_generation == generation
    assert await value(database, KEPT) == 1


async def test_a_logout_that_is_under_way_is_not_undone_by_resuming(database: Database, make: Make) -> None:
    a = await kept(database, make)
    await database.all("log_out_account", account="acc_1", org="org_default")
    now = await resume(database)
    assert (now.linked, now.wanted) == (False, "logged_out")
    await lease(database, a)
    await database.all("delete_profile", account="acc_1", worker=a.worker)
    assert await value(database, "select count(*) from profiles") == 0


async def test_a_kept_login_that_is_resumed_just_now_is_not_too_old(database: Database, make: Make) -> None:
    await kept(database, make)
    await _sql(database, "update profiles set kept_since = now() - interval '31 days'")
    async with database.transaction() as tx:
        await tx.all("resume_account", account="acc_1", org="org_default")
        assert await database.one("purge_kept_profiles", days=30, most=9) == {"rows": 0}
    assert await value(database, "select count(*) from profiles") == 1


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
