"""The page's scripts are loaded once for all accounts of a disk; nothing else is shared."""

import os
from pathlib import Path

import pytest
from fixtures_browser import Pages, new_account, pages

from browser.engine import shared_scripts
from browser.engine.shared_scripts import FOLDER, HEADER, MAGIC, RESPONSES, collect, share
from browser.page.screens import Screen

__all__ = ["pages"]

SCRIPT = "1/0/https://static.whatsapp.net/rsrc.php/v4/yA/r/x-1.js?_nc_x=1"


def entry(folder: Path, key: str, *, body: str = "", at: int = 1, head: bytes | None = None) -> Path:
    """Write a response as Chromium does; return its file."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{hash(key) & (2**64 - 1):016x}_0"
    start = HEADER.pack(MAGIC, 5, len(key), 0) if head is None else head
    file.write_bytes(start + key.encode() + body.encode())
    os.utime(file, (at, at))
    return file


def shared(root: Path) -> dict[str, str]:
    """Return the keys of the shared responses, each with its body."""
    found = {}
    for file in (root / FOLDER).glob("*"):
        text = file.read_bytes()
        (length,) = HEADER.unpack(text[: HEADER.size])[2:3]
        found[text[HEADER.size :][:length].decode()] = text[HEADER.size :][length:].decode(errors="replace")
    return found


async def test_a_page_loads_no_script_that_another_account_has_loaded(pages: Pages, tmp_path: Path) -> None:
    async def loaded(name: str) -> list[int]:
        page = await pages.open(new_account(), "2026-08", directory=tmp_path / name)
        try:
            await page.wait_screen(Screen.QR, timeout=30)
            sizes: list[int] = await page._page.evaluate(
                "performance.getEntriesByType('resource')"
                ".filter((one) => /[.](js|css)$/.test(one.name)).map((one) => one.transferSize)"
            )
            return sizes
        finally:
            await page.close()

    first = await loaded("a")
    assert len(first) > 20
    assert all(first)
    collect(tmp_path / "a", tmp_path)
    share(tmp_path, tmp_path / "b")
    second = await loaded("b")
    assert len(second) == len(first)
    assert not any(second), "it was downloaded"
    assert all(key.endswith((".js", ".css")) for key in shared(tmp_path))


@pytest.mark.parametrize(
    ("key", "is_shared"),
    [
        (SCRIPT, True),
        ("1/0/_dk_https://whatsapp.com https://whatsapp.com https://static.whatsapp.net/a.css", True),
        ("1/0/https://web.whatsapp.com/lib.wasm", True),
        ("1/0/http://127.0.0.1:8080/sandbox/web/static/1/app.js", True),
        ("1/0/http://static.whatsapp.net/a.js", False),
        ("1/0/https://web.whatsapp.com/", False),
        ("1/0/https://pps.whatsapp.net/v/t61/1_n.jpg?oh=1.js", False),
        ("1/0/https://mmg.whatsapp.net/d/f/AbC.enc", False),
        ("1/0/https://media.whatsapp.net/avatar.js.jpg", False),
        ("1/0/data:text/javascript,a.js", False),
    ],
)
def test_scripts_are_shared_and_nothing_else(tmp_path: Path, key: str, *, is_shared: bool) -> None:
    file = entry(tmp_path / "a" / RESPONSES, key)
    collect(tmp_path / "a", tmp_path)
    assert set(shared(tmp_path)) == ({key} if is_shared else set())
    assert file.exists() is not is_shared


@pytest.mark.parametrize(
    "head", [b"", b"\0" * HEADER.size, HEADER.pack(MAGIC, 99, 60, 0), HEADER.pack(MAGIC, 5, 2**31, 0)]
)
def test_what_is_no_response_of_chromium_is_left(tmp_path: Path, head: bytes) -> None:
    entry(tmp_path / "a" / RESPONSES, SCRIPT, head=head)
    collect(tmp_path / "a", tmp_path)
    assert shared(tmp_path) == {}
    share(tmp_path, tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_compiled_code_is_not_shared(tmp_path: Path) -> None:
    """A page writes it itself: one account's could put code into another's."""
    entry(tmp_path / "a" / "Default" / "Code Cache" / "js", SCRIPT)
    entry(tmp_path / "a" / RESPONSES, "_keyhttps://static.whatsapp.net/x.js \nhttps://web.whatsapp.com/y.js")
    collect(tmp_path / "a", tmp_path)
    assert shared(tmp_path) == {}


def test_an_older_copy_replaces_nothing(tmp_path: Path) -> None:
    """As of a browser that was opened before another one loaded the script anew."""
    entry(tmp_path / "a" / RESPONSES, SCRIPT, body="new", at=2)
    collect(tmp_path / "a", tmp_path)
    entry(tmp_path / "b" / RESPONSES, SCRIPT, body="old", at=1)
    collect(tmp_path / "b", tmp_path)
    assert shared(tmp_path) == {SCRIPT: "new"}


def test_what_a_browser_has_written_anew_replaces_what_is_shared(tmp_path: Path) -> None:
    entry(tmp_path / "a" / RESPONSES, SCRIPT, body="old")
    collect(tmp_path / "a", tmp_path)
    share(tmp_path, tmp_path / "b")
    (copied,) = (tmp_path / "b" / RESPONSES).iterdir()
    collect(tmp_path / "b", tmp_path)
    assert copied.exists(), "it was shared from here, and is not moved back"
    entry(tmp_path / "b" / RESPONSES, SCRIPT, body="new", at=2)
    collect(tmp_path / "b", tmp_path)
    assert shared(tmp_path) == {SCRIPT: "new"}
    assert copied.name not in {file.name for file in (tmp_path / "b" / RESPONSES).iterdir()}


def test_a_profile_with_responses_of_its_own_keeps_them(tmp_path: Path) -> None:
    entry(tmp_path / "a" / RESPONSES, SCRIPT)
    collect(tmp_path / "a", tmp_path)
    own = entry(tmp_path / "b" / RESPONSES, "1/0/https://static.whatsapp.net/own.js")
    share(tmp_path, tmp_path / "b")
    assert list((tmp_path / "b" / RESPONSES).iterdir()) == [own]


def test_the_oldest_go_when_there_is_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [f"1/0/https://static.whatsapp.net/{number}.js" for number in range(4)]
    for at, key in enumerate(keys):
        entry(tmp_path / "a" / RESPONSES, key, body="x" * 1000, at=at + 1)
    monkeypatch.setattr(shared_scripts, "MAX_BYTES", 2500)
    collect(tmp_path / "a", tmp_path)
    assert set(shared(tmp_path)) == set(keys[2:])


def test_a_full_disk_leaves_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry(tmp_path / "a" / RESPONSES, SCRIPT)
    collect(tmp_path / "a", tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copy2", full)
    with pytest.raises(OSError, match="No space"):
        share(tmp_path, tmp_path / "b")
    assert not (tmp_path / "b" / RESPONSES).exists()
