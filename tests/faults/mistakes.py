"""Mistakes put in on purpose, each of which the bench has to find: python -m faults.mistakes [NAME …].

A copy of the tree gets a mistake of mistakes.toml, and the bench runs there until it finds something wrong. One that it
does not find means that the bench is blind to it.
"""

import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from faults.__main__ import WRONG

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Change:
    """What stands once in a file, and what is put in its place."""

    path: str
    right: str
    wrong: str

    def make(self, root: Path) -> None:
        """Make it under a root. Raises SystemExit when the file does not hold once what is right."""
        file = root / self.path
        text = file.read_text()
        if text.count(self.right) != 1:
            raise SystemExit(f"{self.path} holds {text.count(self.right)} times: {self.right}")
        file.write_text(text.replace(self.right, self.wrong))


@dataclass(frozen=True)
class Mistake:
    """A mistake, and words of the names of the faults that bring it to light."""

    about: str
    changes: tuple[Change, ...]
    only: tuple[str, ...]


def read() -> dict[str, Mistake]:
    """Return the mistakes by name."""
    with Path(__file__).with_name("mistakes.toml").open("rb") as file:
        found = tomllib.load(file)
    return {
        name: Mistake(one["about"], tuple(Change(**change) for change in one["changes"]), tuple(one["only"]))
        for name, one in found.items()
    }


def copy(folder: Path) -> None:
    """Copy what the wheel has, and the tests."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for name in (*project["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"], "tests"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder)


def find(mistake: Mistake, runs: int, seed: int) -> bool:
    """Run the bench on a copy with the mistake; return whether it found something wrong."""
    with TemporaryDirectory(prefix="postrider-mistake-") as temporary:
        folder = Path(temporary)
        folder.chmod(0o755)
        copy(folder)
        for change in mistake.changes:
            change.make(folder)
        only = [word for kind in mistake.only for word in ("--only", kind)]
        command = [sys.executable, "-m", "faults", "--runs", str(runs), "--seed", str(seed), "--until-wrong", *only]
        environment = {**os.environ, "PYTHONPATH": f"{folder}:{folder / 'tests'}"}
        return subprocess.run(command, cwd=folder, env=environment, check=False).returncode == WRONG


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Which mistakes; all if left out.")] = None,
    runs: Annotated[int, typer.Option(min=1, help="Runs of each at most.")] = 20,
    seed: Annotated[int, typer.Option(help="Of the first run.")] = 1,
) -> None:
    """Make each mistake in a copy of the tree, and see whether the bench finds it."""
    missed, mistakes = [], read()
    for name in names or mistakes:
        print(f"\n=== {name}: {mistakes[name].about}", flush=True)  # noqa: T201  # a bench prints
        if not find(mistakes[name], runs, seed):
            missed.append(name)
    print(f"\nnot found: {', '.join(missed) or 'none'}")  # noqa: T201
    raise typer.Exit(bool(missed))


if __name__ == "__main__":
    typer.run(main)
