"""What makes the virtual environment, by itself; the newcomer's run does it whole."""

import ast
import os
import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from commands import install, progress

ROOT = Path(__file__).parent.parent
PINNED = re.compile(r"^([a-z0-9][a-z0-9.-]*)==([^ ;]+)", re.MULTILINE)


def pins(lock: str) -> set[tuple[str, str]]:
    return set(PINNED.findall((ROOT / lock).read_text()))


@pytest.mark.parametrize("module", [install, progress])
def test_an_old_python_can_load_it_to_be_told_so(module: object) -> None:
    file = str(module.__file__)  # type: ignore[attr-defined]
    tree = ast.parse(Path(file).read_text(), feature_version=(3, 7))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)} | {
        alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    assert {str(name).split(".")[0] for name in imported} - {"commands"} <= sys.stdlib_module_names


def test_what_develops_is_locked_beside_the_same_versions_of_what_runs() -> None:
    assert pins("requirements.lock") < pins("requirements-dev.lock")
    assert not {"pytest", "mypy", "ruff", "coverage"} & {name for name, _ in pins("requirements.lock")}


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_a_lock_is_checked_by_hash_and_says_what_it_supports(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert len(PINNED.findall(text)) == len(
        re.findall(r"^[a-z0-9][^ ]*==.* \\\n    --hash=sha256:", text, re.MULTILINE)
    )
    assert install.supported(ROOT / lock)[0] == (3, 11)
    assert "://" not in text, "it names no host"
    assert re.search(r"^# .* Download: \d+ MB\.$", text, re.MULTILINE)


@pytest.mark.parametrize("version", [(3, 9, 2), (3, 99, 0)])
def test_a_python_that_does_not_fit_hands_over_or_says_what_does(
    version: tuple[int, int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(os, "execv", lambda path, arguments: begun.append((path, arguments)))
    monkeypatch.setattr(sys, "version_info", version)
    monkeypatch.setattr(sys, "argv", ["install", "--dev"])
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(install.CannotInstall, match=r"python3\.11 to 3\.\d+ is needed, and .* is .*PYTHON="):
        install._use_python(chosen=False)
    other = tmp_path / "python3.12"
    other.write_text("")
    other.chmod(0o755)
    with pytest.raises(install.CannotInstall):
        install._use_python(chosen=True)
    assert begun == []
    with pytest.raises(install.CannotInstall):  # since this execv returns
        install._use_python(chosen=False)
    assert begun == [(str(other), [str(other), "-m", "commands.install", "--dev"])]


@pytest.mark.parametrize(
    ("system", "machine", "libc", "fits"),
    [
        ("linux", "x86_64", "glibc", True),
        ("linux", "aarch64", "glibc", True),
        ("darwin", "arm64", "", True),
        ("linux", "x86_64", "", False),
        ("linux", "armv7l", "glibc", False),
        ("darwin", "x86_64", "", False),
    ],
)
def test_where_no_wheels_are_is_said_before_anything_is_fetched(
    system: str, machine: str, libc: str, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr("platform.libc_ver", lambda: (libc, ""))
    if fits:
        install._check_platform()
    else:
        with pytest.raises(install.CannotInstall, match=rf"{system} on {machine}"):
            install._check_platform()


def test_a_follower_shows_how_far_a_program_is_and_returns_its_last_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PULSE", 0.0)
    program = "import time\nfor n in range(30): print('step', n, flush=True); time.sleep(0.02)\nraise SystemExit(3)"
    code, tail = progress.Follower().run("Working", [sys.executable, "-c", program])
    assert (code, tail[-1], len(tail)) == (3, "step 29", progress.TAIL)
    assert re.search(r"^ +0 s  Working: step \d+$", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize(("codes", "code", "line"), [((0, 0), 0, "0 of 0"), ((0, 3, 4), 3, "1 of 3")])
def test_programs_run_side_by_side_and_the_first_that_fails_is_told(
    codes: tuple[int, ...], code: int, line: str
) -> None:
    """Each ends only when all have begun."""
    program = (
        "import pathlib, sys, time\nnumber, code, count, here = sys.argv[1:]\nhere = pathlib.Path(here)\n"
        "(here / number).touch()\nwhile len(list(here.iterdir())) < int(count): time.sleep(0.01)\n"
        "print(number, 'of', code)\nraise SystemExit(int(code))"
    )
    with TemporaryDirectory() as here:
        commands = [
            [sys.executable, "-c", program, str(number), str(code), str(len(codes)), here]
            for number, code in enumerate(codes)
        ]
        assert progress.Follower().run("Working", *commands) == (code, [line])


def test_a_lock_is_dealt_out_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "VENV", tmp_path)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    parts = [part.read_text() for part in install._parts((ROOT / "requirements.lock").read_text())]
    dealt = [pin for part in parts for pin in PINNED.findall(part)]
    assert sorted(dealt) == sorted(pins("requirements.lock"))
    hashes = "".join(parts).count("--hash=sha256:")
    assert hashes == (ROOT / "requirements.lock").read_text().count("--hash=sha256:")
    assert len(parts) == 3
