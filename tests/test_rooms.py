"""Who may import whom. The rooms meet only in Postgres; anything that is not listed is forbidden."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALLOWED = {
    "app": {"api", "sql", "settings", "addresses", "resolver", "errors", "crypto", "logs"},
    "api": {"sql", "addresses", "resolver", "phones", "texts", "stopwords", "errors", "crypto", "logs"},
    "tasks": {"browser", "sql", "addresses", "resolver", "phones", "texts", "stopwords", "errors", "crypto", "logs"},
    "browser": {"phones", "texts", "errors"},
    "sql": {"errors"},
    "addresses": set(),
    "resolver": {"addresses", "errors"},
    "phones": set(),
    "texts": set(),
    "stopwords": set(),
    "crypto": set(),
    "errors": set(),
    "settings": {"addresses", "errors"},
    "logs": set(),
    "commands": {
        "app",
        "addresses",
        "resolver",
        "api",
        "tasks",
        "browser",
        "sql",
        "settings",
        "errors",
        "crypto",
        "logs",
    },
    "bench": {"commands", "browser", "tasks", "sql", "settings", "addresses", "resolver", "crypto"},
    "cli": {"bench", "commands", "app", "api", "tasks", "browser", "sql", "settings", "errors", "crypto", "logs"},
}
#: What a room never loads, whoever asks for it.
FOREIGN = {
    "api": {"playwright", "procrastinate"},
    "app": {"playwright", "procrastinate"},
    "browser": {"psycopg", "procrastinate"},
    "sql": {"starlette", "httpx2", "playwright"},
    "errors": {"psycopg", "playwright", "starlette", "pydantic"},
    "crypto": {"psycopg", "playwright", "starlette", "pydantic"},
    "phones": {"psycopg", "playwright", "starlette", "pydantic"},
    "texts": {"psycopg", "playwright", "starlette", "pydantic"},
    "stopwords": {"psycopg", "playwright", "starlette", "pydantic"},
    "addresses": {"psycopg", "playwright", "starlette", "pydantic", "httpx2"},
    "resolver": {"psycopg", "playwright", "starlette", "pydantic", "httpx2"},
}
FILES = sorted(
    path
    for name in ALLOWED
    for path in ([ROOT / f"{name}.py"] if (ROOT / f"{name}.py").exists() else (ROOT / name).rglob("*.py"))
    if "migrations" not in path.parts
)


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found.add((node.module or "").split(".")[0])
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_stay_in_their_rooms(path: Path) -> None:
    own = room(path)
    ours = imports(path) & set(ALLOWED)
    assert ours - {own} <= ALLOWED[own], f"{own} may import {sorted(ALLOWED[own])} only"
    assert not imports(path) & FOREIGN.get(own, set())


def test_every_top_level_module_is_a_room() -> None:
    modules = {path.stem for path in ROOT.glob("*.py")} | {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert modules == set(ALLOWED)


def test_the_api_loads_neither_chromium_nor_tasks() -> None:
    code = (
        "import app, sys; print(*(m for m in ('playwright', 'procrastinate', 'tasks', 'browser') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.split() == []
