"""Profiles as bytes: real ones there and back, and bytes that are none."""

import asyncio
import io
import os
import shutil
import stat
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures_browser import DOMS, Pages, new_account, new_phone, pages, send
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import errors
from browser.engine import pack, profile
from browser.engine.process import kill_browsers_of
from browser.page.history import Verdict
from browser.page.screens import Screen
from browser.page.whatsapp import WhatsApp

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["pages"]

NEWEST = DOMS[-1]
INDEXED, LOCAL = pack.KEPT
#: of a profile that is never quiet; SEALS=100 takes three minutes
SEALS = int(os.environ.get("SEALS", "12"))


def files(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def write(directory: Path, name: str, content: bytes) -> None:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A directory that looks like a profile."""
    directory = tmp_path / "acc_1"
    write(directory, f"{INDEXED}/http_localhost_0.indexeddb.leveldb/000003.log", bytes(range(256)) * 40)
    write(directory, f"{INDEXED}/http_localhost_0.indexeddb.leveldb/CURRENT", b"MANIFEST-000001\n")
    write(directory, f"{LOCAL}/leveldb/000005.ldb", b"local" * 500)
    write(directory, "Default/Cache/data_0", b"cache" * 10_000)
    write(directory, "Default/Preferences", b"{}")
    return directory


# --- real profiles


async def close(page: WhatsApp, _: Path) -> None:
    await page.close()


async def leave_running(page: WhatsApp, _: Path) -> None:
    assert page.alive


async def kill(_: WhatsApp, directory: Path) -> None:
    await kill_browsers_of(directory)


@pytest.mark.parametrize("end", [kill, *(pytest.param(end, marks=pytest.mark.long) for end in (close, leave_running))])
async def test_a_login_survives_in_another_directory(
    pages: Pages,
    tmp_path: Path,
    end: Callable[[WhatsApp, Path], asyncio.Future[None]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    account, phone = new_account(), new_phone()
    directory, elsewhere = tmp_path / "profile", tmp_path / "another" / "home" / account
    page = await pages.open(account, NEWEST, directory=directory)
    try:
        await pages.link(account, page)
        await send(page, phone, "before it was sealed")
        await end(page, directory)
        packed = await asyncio.to_thread(pack.pack, directory)
    finally:
        await page.close()
    await asyncio.to_thread(pack.unpack, packed.data, elsewhere)
    with capsys.disabled():
        print(f"\n{end.__name__}: {packed.sizes} raw, {len(packed.data)} packed")  # noqa: T201 - figures for people
    assert packed.raw_bytes == sum(packed.sizes.values()) > len(packed.data)
    assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o700
    again = await pages.open(account, NEWEST, directory=elsewhere)
    try:
        assert await again.wait_screen(Screen.MAIN, Screen.QR, timeout=30) is Screen.MAIN
        await again.settle_in()
        assert (await again.look_for(phone, "before it was sealed", None)).verdict is Verdict.SENT
        await send(again, phone, "after it was restored")
    finally:
        await again.close()
    assert await pages.received(phone) == ["before it was sealed", "after it was restored"]


# --- packing


def test_only_what_a_login_needs_goes_there_and_back(made: Path, tmp_path: Path) -> None:
    profile.write_generation(made, 3)
    packed = pack.pack(made)
    pack.unpack(packed.data, tmp_path / "restored")
    kept = {name: content for name, content in files(made).items() if name.startswith(pack.KEPT)}
    assert files(tmp_path / "restored") == kept
    assert packed.raw_bytes == sum(map(len, kept.values()))
    assert packed.sizes == {INDEXED: 10_240 + 16, LOCAL: 2_500}
    assert "data" not in repr(packed)


def test_the_same_files_are_the_same_bytes(made: Path) -> None:
    assert pack.pack(made).data == pack.pack(made).data


def test_links_are_not_followed(made: Path, tmp_path: Path) -> None:
    write(tmp_path, "secret", b"not of this profile")
    (made / INDEXED / "link").symlink_to(tmp_path / "secret")
    pack.unpack(pack.pack(made).data, tmp_path / "restored")
    assert not (tmp_path / "restored" / INDEXED / "link").exists()


def test_a_profile_above_the_cap_is_refused_with_its_sizes(made: Path) -> None:
    assert pack.pack(made, cap=12_756).raw_bytes == 12_756
    with pytest.raises(errors.ProfileTooLarge, match=r"12,756 bytes.*IndexedDB 10,256.*at most 12,755") as caught:
        pack.pack(made, cap=12_755)
    assert not isinstance(caught.value, errors.SendError)


def test_too_many_files_are_refused(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "MAX_FILES", 2)
    with pytest.raises(errors.ProfileTooLarge, match="3 files"):
        pack.pack(made)


def test_a_profile_without_a_login_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "Default/Preferences", b"{}")
    with pytest.raises(errors.ProfileEmpty, match="IndexedDB"):
        pack.pack(tmp_path)


def test_a_profile_that_loses_files_even_from_its_copy_is_not_sealed(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_what_is_gone(directory: Path, listing: pack.Listing) -> bytes:
        (directory / next(iter(listing))).unlink()
        return real(directory, listing)

    real = pack._write
    monkeypatch.setattr(pack, "_write", write_what_is_gone)
    with pytest.raises(errors.ProfileBusy, match="acc_1 lost files"):
        pack.pack(made)
    assert [path.name for path in made.parent.iterdir()] == [made.name], "no copy is left"


def test_a_profile_that_changes_is_copied_as_it_was_at_one_moment(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of a database is written once, and named anew; a log grows, and is copied."""
    real, log = pack._write, made / INDEXED / "000007.log"
    log.write_bytes(b"before")

    def write_while_it_changes(directory: Path, listing: pack.Listing) -> bytes:
        with log.open("ab") as file:
            file.write(b" after")
        return real(directory, listing)

    monkeypatch.setattr(pack, "_write", write_while_it_changes)
    pack.unpack(pack.pack(made).data, made.parent / "restored")
    assert (made.parent / "restored" / INDEXED / "000007.log").read_bytes() == b"before after"
    assert (made / LOCAL / "leveldb/000005.ldb").stat().st_nlink == 1, "the copy is gone"


WRITING = """() => {
    const big = "x".repeat(20000);
    let number = 0;
    indexedDB.open("busy", 1).onupgradeneeded = (event) => event.target.result.createObjectStore("all");
    setInterval(() => {
        localStorage.setItem("busy", `${number += 1} ${big}`);
        const opening = indexedDB.open("busy", 1);
        opening.onsuccess = () => {
            const writing = opening.result.transaction("all", "readwrite", { durability: "relaxed" });
            writing.objectStore("all").put(`${number} ${big}`, number % 50);
            writing.oncomplete = () => opening.result.close();
        };
    }, 2);
}"""


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_a_profile_that_is_never_quiet_is_sealed_and_each_copy_is_logged_in(pages: Pages, tmp_path: Path) -> None:
    account, directory = new_account(), tmp_path / "profile"
    page = await pages.open(account, NEWEST, directory=directory)
    try:
        await pages.link(account, page)
        await page._page.evaluate(WRITING)
        packed = [(await asyncio.to_thread(pack.pack, directory)).data for _ in range(SEALS)]
        assert await page.answers()
    finally:
        await page.close()
    for number, data in enumerate(packed):
        elsewhere = tmp_path / f"copy {number}"
        await asyncio.to_thread(pack.unpack, data, elsewhere)
        again = await pages.open(account, NEWEST, directory=elsewhere)
        try:
            assert await again.wait_screen(Screen.MAIN, Screen.QR, timeout=30) is Screen.MAIN, number
        finally:
            await again.close()
        shutil.rmtree(elsewhere)


# --- unpacking


def test_a_directory_in_use_is_left_alone(made: Path) -> None:
    before = files(made)
    with pytest.raises(FileExistsError, match="acc_1"):
        pack.unpack(pack.pack(made).data, made)
    assert files(made) == before


def test_an_empty_directory_is_filled(made: Path, tmp_path: Path) -> None:
    profile.prepare(tmp_path / "restored")
    pack.unpack(pack.pack(made).data, tmp_path / "restored")
    assert (tmp_path / "restored" / INDEXED).is_dir()


@pytest.mark.parametrize("data", [b"", b"nothing of the kind", zstd.compress(b""), zstd.compress(b"x" * 100_000)])
def test_other_bytes_leave_no_directory(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(errors.ProfileUnreadable, match="restored"):
        pack.unpack(data, tmp_path / "restored")
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_changed_archive_is_refused_or_changes_nothing(made: Path, data: st.DataObject) -> None:
    packed = bytearray(pack.pack(made).data)
    if data.draw(st.booleans()):
        del packed[data.draw(st.integers(0, len(packed) - 1)) :]
        refused = True
    else:
        packed[data.draw(st.integers(0, len(packed) - 1))] ^= data.draw(st.integers(1, 255))
        refused = False
    restored = made.parent / "restored"
    try:
        pack.unpack(bytes(packed), restored)
        assert not refused
        assert files(restored) == {name: each for name, each in files(made).items() if name.startswith(pack.KEPT)}
        shutil.rmtree(restored)
    except errors.ProfileUnreadable:
        pass
    assert [each.name for each in made.parent.iterdir()] == [made.name]


def archive(*members: tarfile.TarInfo, content: bytes = b"") -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(content) if member.type == tarfile.REGTYPE else None)
    return zstd.compress(packed.getvalue())


def entry(name: str, kind: bytes = tarfile.REGTYPE, *, link: str = "", size: int = 0) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size = kind, link, size
    return member


GOOD = entry(f"{INDEXED}/CURRENT")


@pytest.mark.parametrize(
    "bad",
    [
        entry("/etc/cron.d/evil"),
        entry("../evil"),
        entry(f"{INDEXED}/../../../evil"),
        entry(f"{INDEXED}/./evil"),
        entry(f"/{INDEXED}/evil"),
        entry("Default/Preferences"),
        entry("Default/IndexedDB-evil/x"),
        entry(INDEXED),
        entry(f"{INDEXED}/back\\slash"),
        entry(f"{INDEXED}/directory", tarfile.DIRTYPE),
        entry(f"{INDEXED}/link", tarfile.SYMTYPE, link="/etc/passwd"),
        entry(f"{INDEXED}/link", tarfile.LNKTYPE, link=f"{INDEXED}/CURRENT"),
        entry(f"{INDEXED}/device", tarfile.CHRTYPE),
        entry(f"{INDEXED}/pipe", tarfile.FIFOTYPE),
        entry(f"{INDEXED}/CURRENT"),  # once more
        entry(f"{INDEXED}/CURRENT/below-a-file"),
    ],
    ids=lambda bad: f"{bad.name}-{bad.type.decode()}",
)
def test_entries_that_no_profile_has_are_refused(bad: tarfile.TarInfo, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with pytest.raises(errors.ProfileUnreadable):
        pack.unpack(archive(GOOD, bad), home / "restored")
    assert list(home.iterdir()) == []
    pack.unpack(archive(GOOD), home / "restored")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["CURRENT"]


def test_a_bomb_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    big = archive(entry(f"{INDEXED}/x", size=1_000_000), content=bytes(1_000_000))
    assert len(big) < 1000
    with pytest.raises(errors.ProfileUnreadable, match="999,999 bytes"):
        pack.unpack(big, tmp_path / "restored", cap=999_999)
    # A header alone can ask for as much as it likes, before any name is known.
    long = io.BytesIO()
    with zstd.ZstdFile(long, "w") as stream:
        stream.write(entry("pax", tarfile.XHDTYPE, size=1 << 40).tobuf(tarfile.GNU_FORMAT))
        for _ in range(100):
            stream.write(bytes(1_000_000))
    monkeypatch.setattr(pack, "MAX_FILES", 10)
    with pytest.raises(errors.ProfileUnreadable, match="more than any profile"):
        pack.unpack(long.getvalue(), tmp_path / "restored", cap=1_000_000)
    assert list(tmp_path.iterdir()) == []


# --- directories of profiles


def test_the_profiles_on_a_disk_are_listed_and_what_was_half_restored_is_removed(made: Path) -> None:
    root = made.parent
    (root / "acc_2").mkdir()
    profile.write_generation(root / "acc_2", 4)
    (root / "acc_3").symlink_to(made)
    write(root, ".home", b"no directory")
    write(root, ".other/file", b"not ours")
    write(root, f".acc_9.x1{profile.RESTORING}/Default/IndexedDB/CURRENT", b"left by a crash")
    assert profile.stored(root) == {"acc_1": None, "acc_2": 4}
    assert profile.stored(root / "missing") == {}
    assert profile.delete_leftovers(root) == [root / f".acc_9.x1{profile.RESTORING}"]
    assert profile.delete_leftovers(root) == []
    assert sorted(path.name for path in root.iterdir()) == [".home", ".other", "acc_1", "acc_2", "acc_3"]


def test_a_directory_is_restored_where_a_crash_leaves_it_to_be_removed(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = pack.pack(made).data
    seen: list[tuple[Path, bool, int]] = []

    def crash(_: bytes, fresh: Path, __: int) -> None:
        seen.append((fresh.parent, fresh.name.endswith(profile.RESTORING), stat.S_IMODE(fresh.stat().st_mode)))
        raise MemoryError

    monkeypatch.setattr(pack, "_read", crash)
    with pytest.raises(MemoryError):
        pack.unpack(packed, made.parent / "restored")
    assert seen == [(made.parent, True, 0o700)]
    assert [path.name for path in made.parent.iterdir()] == [made.name]
