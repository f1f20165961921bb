"""Who may import whom (rooms.txt), and one list of rooms for everything that has to name them all.

A room is a folder or a module of the top level, or a folder of `api`, `tasks` or `browser`. The rooms meet only in
Postgres.
"""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from commands.http_docs import slug

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
#: what the wheel has, and everything else is held to
TOP = [name.removesuffix(".py") for name in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]]
LINES = (Path(__file__).parent / "rooms.txt").read_text("utf-8").splitlines()
ARROWS = {(line.split(" -> ")[0], line.split(" -> ")[1]) for line in LINES if line and not line.startswith("#")}
#: these put the others together, and may import anything but `cli`
ANYTHING = {"cli", "commands", "bench", "wiring"}
ROOMS = {*TOP, *(room for arrow in ARROWS for room in arrow)}
#: What a room never loads, whoever asks for it.
BARE = {"psycopg", "playwright", "starlette", "pydantic", "httpx2", "procrastinate"}
FOREIGN = {
    "api": {"playwright", "procrastinate"},
    "app": {"playwright", "procrastinate"},
    "browser": {"psycopg", "procrastinate"},
    "sql": {"starlette", "httpx2", "playwright"},
    "server": BARE - {"starlette"},
    **dict.fromkeys(("errors", "crypto", "phones", "texts", "stopwords", "addresses", "resolver"), BARE),
}
FILES = sorted(
    path
    for name in TOP
    for path in ([ROOT / f"{name}.py"] if (ROOT / f"{name}.py").exists() else (ROOT / name).rglob("*.py"))
    if "migrations" not in path.parts
)
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def room(name: str) -> str | None:
    """Return the room of a module: the longest of its parents that is one; None for a library's."""
    parts = name.split(".")
    return next((".".join(parts[:n]) for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in ROOMS), None)


def imports(path: Path) -> Iterator[str]:
    """Yield the modules that a file imports, also within functions; `from a import b` is a.b where that is a module."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            for alias in node.names:
                inner = ROOT / f"{node.module}.{alias.name}".replace(".", "/")
                is_module = inner.is_dir() or inner.with_suffix(".py").exists()
                yield f"{node.module}.{alias.name}" if is_module else str(node.module)


def drawn() -> Iterator[tuple[Path, str, str]]:
    for path in FILES:
        own = room(module(path)) or ""
        for name in imports(path):
            other = room(name)
            if other and other != own:
                yield path, own, other


def test_imports_stay_in_their_rooms() -> None:
    wrong = {
        f"{path.relative_to(ROOT)}: {own} -> {other}"
        for path, own, other in drawn()
        if (own, other) not in ARROWS and (own not in ANYTHING or other == "cli")
    }
    assert not wrong


def test_every_arrow_is_needed() -> None:
    assert {(own, other) for _, own, other in drawn() if own not in ANYTHING} == ARROWS


def test_arrows_run_one_way() -> None:
    before: dict[str, set[str]] = {}
    for _, own, other in drawn():
        before.setdefault(own, set()).add(other)
    assert list(TopologicalSorter(before).static_order())[-1] == "cli"


def test_every_folder_is_a_room() -> None:
    folders = {module(path) for name in ("api", "tasks", "browser") for path in (ROOT / name).rglob("__init__.py")}
    assert folders - {"api", "tasks", "browser"} <= ROOMS


@pytest.mark.parametrize("path", FILES, ids=module)
def test_rooms_load_no_library_of_another(path: Path) -> None:
    assert not {name.split(".")[0] for name in imports(path)} & FOREIGN.get(module(path).split(".")[0], set())


def test_an_api_loads_no_library_that_it_may_never_use() -> None:
    """Without them it starts a sixth faster, and has 6 MB less."""
    code = "import sys, cli, commands.api; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    never = {"httpx2", "jinja2", "playwright", "procrastinate", "psutil", "segno", "yoyo"}
    assert {name.partition(".")[0] for name in loaded.split()} & never == set()


# --- the list of rooms -------------------------------------------------------------------------------------------


def test_every_top_level_module_is_in_the_wheel() -> None:
    modules = {path.stem for path in ROOT.glob("*.py")} | {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert modules == set(TOP)


def test_ruff_knows_every_room() -> None:
    assert PROJECT["tool"]["ruff"]["lint"]["isort"]["known-first-party"] == TOP


def test_the_image_is_built_with_every_room() -> None:
    copied = re.findall(r"^COPY (?!--)(.+) \S+$", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    names = {name.removesuffix(".py") for line in copied for name in line.split()}
    assert names - {"requirements.lock", "pyproject.toml", "README.md", "LICENSE"} == set(TOP)


def test_the_api_loads_neither_chromium_nor_tasks() -> None:
    code = (
        "import commands.api, sys; "
        "print(*(m for m in ('playwright', 'procrastinate', 'tasks', 'browser') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.split() == []


# --- the documents about it --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_documents_name_files_and_headings_that_are_there(path: Path) -> None:
    text = path.read_text("utf-8")
    named = set(re.findall(r"`((?:api|tasks|browser|sql|crypto|commands|wiring|tests)/[\w/]*\.\w+)`", text))
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        file, _, heading = link.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), link
        assert not heading or heading in headings(target), link


def headings(document: Path) -> set[str]:
    """Return the anchors that GitHub gives a document's headings."""
    return {slug(found) for found in re.findall(r"^#+ (.*)$", document.read_text("utf-8"), re.MULTILINE)}


def test_the_readme_lists_every_document() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    names = [str(path.relative_to(ROOT)) for path in DOCUMENTS if path.name != "README.md"]
    assert [name for name in names if f"({name})" not in text] == []


def test_the_architecture_is_read_in_one_go() -> None:
    assert len((ROOT / "docs" / "architecture.md").read_text("utf-8").splitlines()) <= 200
