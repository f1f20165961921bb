"""What real browsers weigh."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from fixtures_driver import let_engines_have_their_own

from browser.engine import memory
from browser.engine.engine import Engine, Look
from browser.engine.process import browsers_of

KEPT = 100_000_000  # bytes that a page takes


async def test_browsers_are_weighed_with_all_their_processes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    let_engines_have_their_own(monkeypatch)  # with its end they end
    light, heavy, closed = tmp_path / "light", tmp_path / "heavy", tmp_path / "closed"
    async with Engine() as engine:
        await engine.open(light, Look(800, 600))
        context = await engine.open(heavy, Look(800, 600))
        await context.pages[0].evaluate(f"globalThis.kept = new Uint8Array({KEPT}).fill(7); 0")
        found = await memory.measure([light, heavy, closed])
        assert set(found) == {light, heavy}
        main = sum(process.memory_full_info().uss for process in browsers_of(light))
        assert 0 < main < found[light]  # it has more processes than the one
        assert 0.8 < (found[heavy] - found[light]) / KEPT < 2
        tree = [each for root in browsers_of(light) for each in (root, *root.children(recursive=True))]
        assert found[light] < sum(process.memory_info().rss for process in tree)
        with capsys.disabled():
            print({path.name: round(weight / 1e6) for path, weight in found.items()}, "MB")  # noqa: T201
    assert await memory.measure([light, heavy]) == {}
    assert await memory.measure([]) == {}


async def test_a_directory_is_named_as_it_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "real")
    async with Engine() as engine:
        await engine.open(link, Look(800, 600))
        assert set(await memory.measure([link])) == {link}


def test_a_process_that_has_ended_weighs_nothing() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    about = psutil.Process(process.pid)
    process.wait()
    assert memory._weigh(about) == memory._private(about) == 0


def test_what_the_kernel_keeps_from_us_is_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    own = psutil.Process(os.getpid())

    def denied(_: psutil.Process) -> None:
        raise psutil.AccessDenied

    exact = memory._weigh(own)
    monkeypatch.setattr(psutil.Process, "memory_full_info", denied)
    assert exact / 2 < memory._weigh(own) <= own.memory_info().rss
